package segment_test

import (
	"errors"
	"testing"

	"github.com/walrecv/walrecv/segment"
)

// held makes a Held of file names as they stand in a directory; ".partial" as
// the suffix makes one that was begun.
func held(t *testing.T, files ...string) segment.Held {
	t.Helper()
	h := segment.NewHeld()
	for _, f := range files {
		base := f[:24]
		n, err := segment.ParseName(base, testSize)
		must(t, err)
		if base == f {
			h.AddSealed(n)
		} else {
			h.AddPartial(segment.Partial{Name: n, End: n.Start(testSize) + 10})
		}
	}
	return h
}

func parse(t *testing.T, tli segment.TimelineID, text string) segment.History {
	t.Helper()
	h, err := segment.ParseHistory(tli, []byte(text))
	must(t, err)
	return h
}

func TestResume(t *testing.T) {
	one := segment.History{Timeline: 1}
	inside := parse(t, 2, "1\t0/500010\tx\n")                // in segment 5
	border := parse(t, 2, "1\t0/500000\tx\n")                // at the end of segment 4
	twice := parse(t, 3, "1\t0/500010\tx\n2\t0/500020\ty\n") // both in segment 5
	sibling := parse(t, 3, "1\t0/500010\tx\n")               // 2 was abandoned
	const (
		s3, s4, s5, s6 = "000000010000000000000003", "000000010000000000000004", "000000010000000000000005", "000000010000000000000006"
		t4, t5, t6     = "000000020000000000000004", "000000020000000000000005", "000000020000000000000006"
		p              = ".partial"
	)
	for _, tc := range []struct {
		name    string
		history segment.History
		files   []string
		want    string // "" for nothing
	}{
		{"nothing", one, nil, ""},
		{"after the newest", one, []string{s3, s4}, "0/500000 on timeline 1"},
		{"at the partial", one, []string{s3, s4, s5 + p}, "0/500000 on timeline 1"},
		{"at the hole, not behind it", one, []string{s3, s5, s6}, "0/400000 on timeline 1"},
		{"a partial that is full does not count", one, []string{s3, s4 + p, s5 + p}, "0/400000 on timeline 1"},
		{"only partials: the lowest", one, []string{s5 + p, s4 + p}, "0/400000 on timeline 1"},
		{"only partials, with a hole: above it", one, []string{s3 + p, s5 + p, s6 + p}, "0/500000 on timeline 1"},
		{"before the fork: the old timeline's rest first", inside, []string{s3}, "0/400000 on timeline 1"},
		{"in the fork's segment", inside, []string{s3, s4, s5 + p}, "0/500000 on timeline 1"},
		{"in the fork's segment, which the old timeline filled", inside, []string{s3, s4, s5}, "0/500000 on timeline 2"},
		{"far beyond the fork", inside, []string{s3, s4, s5, s6}, "0/500000 on timeline 2"},
		{"beyond the fork, begun", inside, []string{s3, s4, s5, s6 + p}, "0/500000 on timeline 2"},
		{"after the fork", inside, []string{s3, s4, s5 + p, t5}, "0/600000 on timeline 2"},
		{"after the fork, begun", inside, []string{s4, s5 + p, t5, t6 + p}, "0/600000 on timeline 2"},
		{"fork on a border", border, []string{s3, s4}, "0/500000 on timeline 2"},
		{"fork on a border, ahead", border, []string{s3, s4, s5}, "0/500000 on timeline 2"},
		{"fork on a border, begun ahead", border, []string{s4, s5 + p}, "0/500000 on timeline 2"},
		{"two forks in a segment", twice, []string{s4, s5 + p}, "0/500000 on timeline 1"},
		{"two forks in a segment, the first filled", twice, []string{s4, s5}, "0/500000 on timeline 2"},
		{"two forks in a segment, both filled", twice, []string{s4, s5, t5}, "0/500000 on timeline 3"},
		{"an abandoned sibling counts for nothing", sibling, []string{s4, t5, t6}, "0/500000 on timeline 1"},
		{"only abandoned WAL: on from the fork", inside, []string{s6 + p}, "0/500000 on timeline 1"},
		{"only abandoned WAL, fork on a border", border, []string{s5 + p}, "0/500000 on timeline 2"},
		{"a file of a timeline that began later", inside, []string{t4}, ""},
		{"only another timeline", one, []string{t5}, ""},
	} {
		at, ok := segment.Resume(tc.history, testSize, held(t, tc.files...))
		got := ""
		if ok {
			got = at.String()
		}
		if got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

// A timeline that was streamed to its end is not asked for again.
func TestResumeOnTheTimelineThatWasBegun(t *testing.T) {
	h := held(t, "000000010000000000000004", "000000010000000000000005.partial", "000000020000000000000005.partial")
	h.AddHistory(2)
	at, ok := segment.Resume(parse(t, 2, "1\t0/500010\tx\n"), testSize, h)
	if !ok || at != pos(2, testSize.Start(5)) {
		t.Errorf("%v, %v", at, ok)
	}
}

func TestCheckBranch(t *testing.T) {
	archived := func(files ...string) segment.Held {
		h := segment.NewHeld()
		for _, f := range files {
			n, err := segment.ParseName(f, testSize)
			must(t, err)
			h.AddArchived(n, testSize)
		}
		return h
	}
	server := parse(t, 2, "1\t0/500010\tx\n")
	for _, tc := range []struct {
		name    string
		held    segment.Held
		history []segment.TimelineID
		refused bool
	}{
		{"nothing held", segment.NewHeld(), nil, false},
		{"below the fork", archived("000000010000000000000004"), nil, false},
		{"the fork's segment", archived("000000010000000000000005"), nil, false},
		{"more than one beyond", archived("000000010000000000000006"), nil, true},
		{"more than one beyond, but the branch is known", archived("000000010000000000000006"), []segment.TimelineID{2}, false},
		{"far beyond in the spool only", held(t, "000000010000000000000009"), nil, false},
		{"a newer timeline is held", held(t, "000000030000000000000005"), nil, true},
		{"the history of a newer timeline is held", segment.NewHeld(), []segment.TimelineID{3}, true},
	} {
		for _, h := range tc.history {
			tc.held.AddHistory(h)
		}
		err := segment.CheckBranch(server, testSize, tc.held)
		if errors.Is(err, segment.ErrBranch) != tc.refused {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	sibling := parse(t, 3, "1\t0/500010\tx\n")
	if err := segment.CheckBranch(sibling, testSize, held(t, "000000020000000000000005")); !errors.Is(err, segment.ErrBranch) {
		t.Errorf("a server that does not descend from what is held: %v", err)
	}
}

func TestResumeBehindAcceptedGaps(t *testing.T) {
	one := segment.History{Timeline: 1}
	gap := func(tli segment.TimelineID, from, to segment.LSN) segment.Gap {
		return segment.Gap{Timeline: tli, From: from << 20, To: to << 20}
	}
	const s3, s4, s8, p = "000000010000000000000003", "000000010000000000000004", "000000010000000000000008", ".partial"
	for _, tc := range []struct {
		name    string
		history segment.History
		files   []string
		gaps    []segment.Gap
		want    string
	}{
		{"nothing behind it yet", one, []string{s3, s4}, []segment.Gap{gap(1, 5, 8)}, "0/800000 on timeline 1"},
		{"something behind it", one, []string{s3, s4, s8}, []segment.Gap{gap(1, 5, 8)}, "0/900000 on timeline 1"},
		{"two that adjoin", one, []string{s3, s4}, []segment.Gap{gap(1, 5, 6), gap(1, 6, 8)}, "0/800000 on timeline 1"},
		{"it begins with a partial", one, []string{s3, s4 + p}, []segment.Gap{gap(1, 4, 8)}, "0/800000 on timeline 1"},
		{"only a partial", one, []string{s4 + p}, []segment.Gap{gap(1, 4, 8)}, "0/800000 on timeline 1"},
		{"a hole in front of it", one, []string{s3, s8}, []segment.Gap{gap(1, 5, 8)}, "0/400000 on timeline 1"},
		{"of another branch", one, []string{s3, s4}, []segment.Gap{gap(2, 5, 8)}, "0/500000 on timeline 1"},
		{"closed", one, []string{s3, s4}, []segment.Gap{gap(1, 3, 4)}, "0/500000 on timeline 1"},
	} {
		h := held(t, tc.files...)
		h.Gaps = tc.gaps
		if got, _ := segment.Resume(tc.history, testSize, h); got.String() != tc.want {
			t.Errorf("%s: %v, want %s", tc.name, got, tc.want)
		}
	}
}

// A gap says nothing of what follows a fork inside it, or in front of it.
func TestResumeAcrossAForkInsideAGap(t *testing.T) {
	const s3, s4 = "000000010000000000000003", "000000010000000000000004"
	h := held(t, s3, s4, "000000010000000000000008.partial")
	h.Gaps = []segment.Gap{{Timeline: 1, From: 5 << 20, To: 8 << 20}}
	two := parse(t, 2, "1\t0/600010\tx\n")
	must(t, segment.CheckBranch(two, testSize, h))
	if got, _ := segment.Resume(two, testSize, h); got.LSN != 6<<20 {
		t.Errorf("the fork is in segment 6: %v", got)
	}
	before := held(t, s3, "000000020000000000000004", "000000020000000000000005")
	before.Gaps = h.Gaps
	if got, _ := segment.Resume(parse(t, 2, "1\t0/480000\tx\n"), testSize, before); got.LSN != 6<<20 {
		t.Errorf("the fork is in segment 4: %v", got)
	}
}
