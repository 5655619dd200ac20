package segment_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/walrecv/walrecv/segment"
)

func TestParseHistory(t *testing.T) {
	entry := func(t segment.TimelineID, end segment.LSN, reason string) segment.HistoryEntry {
		return segment.HistoryEntry{Timeline: t, End: end, Reason: reason}
	}
	const child = "1\t0/E00000\tno recovery target specified\n"
	for name, c := range map[string]struct {
		timeline segment.TimelineID
		text     string
		want     []segment.HistoryEntry
	}{
		"child": {2, child, []segment.HistoryEntry{entry(1, 0xE00000, "no recovery target specified")}},
		"grandchild": {3, child + "\n2\t16/B374D848\tbefore 2026-01-01 00:00:00+00\n", []segment.HistoryEntry{
			entry(1, 0xE00000, "no recovery target specified"),
			entry(2, 0x16B374D848, "before 2026-01-01 00:00:00+00"),
		}},
		"first":            {1, "", nil},
		"only comments":    {1, "# none\n\n   \t\n", nil},
		"comments":         {9, "# a\n  # b\n7\t0/10\tx # y\n", []segment.HistoryEntry{entry(7, 0x10, "x # y")}},
		"no last newline":  {2, "1\t0/E00000\tx", []segment.HistoryEntry{entry(1, 0xE00000, "x")}},
		"no reason":        {2, "1\t0/E00000\n", []segment.HistoryEntry{entry(1, 0xE00000, "")}},
		"blanks":           {2, " \t 1 \t 0/E00000  x\ty \r\n", []segment.HistoryEntry{entry(1, 0xE00000, "x\ty")}},
		"left where begun": {5, "1\t0/10\ta\n3\t0/10\tb\n", []segment.HistoryEntry{entry(1, 0x10, "a"), entry(3, 0x10, "b")}},
		"greatest": {
			1<<32 - 1, "4294967294\tFFFFFFFF/FFFFFFFF\tx\n",
			[]segment.HistoryEntry{entry(1<<32-2, segment.MaxLSN, "x")},
		},
	} {
		got, err := segment.ParseHistory(c.timeline, []byte(c.text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got.Timeline != c.timeline || !slices.Equal(got.Entries, c.want) {
			t.Errorf("%s: %+v; want %+v", name, got, c.want)
		}
	}
}

func TestParseHistoryRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		timeline segment.TimelineID
		text     string
		reason   string // what the message must say
	}{
		"timeline 0":           {0, "", "no timeline 0"},
		"empty":                {2, "", "names no ancestor"},
		"only comments":        {2, "#\n\n", "names no ancestor"},
		"ancestor of the root": {1, "1\t0/10\tx\n", "line 1: timeline 1 is not below"},
		"own timeline":         {2, "1\t0/10\tx\n2\t0/20\ty\n", "line 2: timeline 2 is not below"},
		"later timeline":       {2, "3\t0/10\tx\n", "timeline 3 is not below"},
		"falling timelines":    {4, "2\t0/10\tx\n1\t0/20\ty\n", "timeline 1 comes after 2"},
		"equal timelines":      {4, "2\t0/10\tx\n2\t0/20\ty\n", "timeline 2 comes after 2"},
		"entry for timeline 0": {2, "0\t0/10\tx\n", `"0" is not a timeline`},
		"timeline too great":   {2, "4294967297\t0/10\tx\n", "is not a timeline"},
		"timeline far too big": {2, "18446744073709551617\t0/10\tx\n", "is not a timeline"},
		"negative timeline":    {2, "-1\t0/10\tx\n", `"-1" is not a timeline`},
		"hexadecimal timeline": {20, "A\t0/10\tx\n", `"A" is not a timeline`},
		"no position":          {2, "1\n", `"" is not a WAL position`},
		"bad position":         {2, "1\t0-10\tx\n", `"0-10" is not a WAL position`},
		"position run on":      {2, "1\t0/10x\n", `"0/10x" is not a WAL position`},
		"something else":       {2, "<html>\n", `"<html>" is not a timeline`},
		"zeros":                {2, "\x00\x00\x00", "zero byte at offset 0"},
		"zero at the end":      {2, "1\t0/10\tx\n\x00", "zero byte at offset 9"},
		"huge":                 {2, "1\t0/10\tx\n" + strings.Repeat("#", 1<<20), "too many"},
	} {
		got, err := segment.ParseHistory(c.timeline, []byte(c.text))
		if err == nil {
			t.Errorf("%s: %+v; want an error", name, got)
			continue
		}
		if !strings.Contains(err.Error(), c.reason) {
			t.Errorf("%s: %q does not say %q", name, err, c.reason)
		}
		if len(got.Entries) != 0 {
			t.Errorf("%s: entries came with the error: %+v", name, got)
		}
	}
}

// PostgreSQL 15 wrote this one: timeline 2 left 1 at 0/C001E0, and a recovery to
// 0/C00138 on the way to timeline 2 branched off as timeline 3.
func TestHistoryOfARecoveryToBeforeItsFork(t *testing.T) {
	two, err := segment.ParseHistory(2, []byte("1\t0/C001E0\tno recovery target specified\n"))
	if err != nil {
		t.Fatal(err)
	}
	three, err := segment.ParseHistory(3, []byte("1\t0/C001E0\tno recovery target specified\n\n2\t0/C00138\tat restore point \"target\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	const at = segment.LSN(0xC00138)
	for _, timeline := range []segment.TimelineID{1, 2} {
		if _, end, ok := three.Bounds(timeline); end != at || !ok {
			t.Errorf("timeline %d ends at %s, %v; want %s", timeline, end, ok, at)
		}
	}
	if a, b := three.TimelineAt(at-1), three.TimelineAt(at); a != 1 || b != 3 {
		t.Errorf("timelines %d and %d around the fork, want 1 and 3", a, b)
	}
	if !three.Continues(two) {
		t.Error("it does not go on where timeline 2's history ends")
	}
}

func TestContinues(t *testing.T) {
	parse := func(timeline segment.TimelineID, text string) segment.History {
		h, err := segment.ParseHistory(timeline, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	h := parse(4, "1\t0/10\tx\n2\t0/20\ty\n3\t0/30\tz\n")
	for text, want := range map[string]bool{
		"1\t0/10\tx\n2\t0/20\tother words\n": true,
		"1\t0/11\tx\n2\t0/20\ty\n":           false,
		"1\t0/10\tx\n2\t0/21\ty\n":           false,
		"1\t0/10\tx\n":                       false,
		"2\t0/20\ty\n":                       false,
	} {
		if got := h.Continues(parse(3, text)); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
	if !h.Continues(segment.History{Timeline: 1}) || h.Continues(segment.History{Timeline: 5}) {
		t.Error("timeline 1 has no ancestors, and 5 is none")
	}
}

func TestParseHistorySizeLimit(t *testing.T) {
	text := []byte("1\t0/10\tx\n" + strings.Repeat("#", 1<<20))[:1<<20]
	if _, err := segment.ParseHistory(2, text); err != nil {
		t.Errorf("refused at the limit: %v", err)
	}
}

// forked is timeline 9 after forks at 0/380000 and 0/3C0000 (both in segment 3
// of 1 MiB), at 0/500000 (a border), and one at 0/620000 whose timeline 7 was
// left before anything was written on it.
func forked(t *testing.T) segment.History {
	t.Helper()
	const text = "1\t0/380000\ta\n\n2\t0/3C0000\tb\n\n4\t0/500000\tc\n5\t0/620000\td\n7\t0/620000\te\n"
	h, err := segment.ParseHistory(9, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestHistoryBounds(t *testing.T) {
	h := forked(t)
	for timeline, want := range map[segment.TimelineID][2]segment.LSN{
		1: {0, 0x380000}, 2: {0x380000, 0x3C0000}, 4: {0x3C0000, 0x500000}, 5: {0x500000, 0x620000},
		7: {0x620000, 0x620000}, 9: {0x620000, segment.MaxLSN},
	} {
		begin, end, ok := h.Bounds(timeline)
		if !ok || begin != want[0] || end != want[1] || !h.Contains(timeline) {
			t.Errorf("timeline %d goes from %v to %v, %v; want %v", timeline, begin, end, ok, want)
		}
	}
	for _, timeline := range []segment.TimelineID{0, 3, 6, 8, 10} {
		if begin, end, ok := h.Bounds(timeline); ok || begin != 0 || end != 0 || h.Contains(timeline) {
			t.Errorf("timeline %d goes from %v to %v, %v; it is not in the history", timeline, begin, end, ok)
		}
	}
}

func TestHistoryTimelineAt(t *testing.T) {
	h := forked(t)
	for l, want := range map[segment.LSN]segment.TimelineID{
		0: 1, 0x37FFFF: 1, 0x380000: 2, 0x3BFFFF: 2, 0x3C0000: 4, 0x4FFFFF: 4, 0x500000: 5, 0x61FFFF: 5,
		0x620000: 9, 0x700000: 9, segment.MaxLSN: 9,
	} {
		if got := h.TimelineAt(l); got != want {
			t.Errorf("%v is on timeline %d; want %d", l, got, want)
		}
	}
}

func TestHistorySegment(t *testing.T) {
	h := forked(t)
	for _, c := range []struct {
		number uint64
		size   segment.Size
		want   []segment.TimelineID
	}{
		{0, 1 << 20, []segment.TimelineID{1}},
		{2, 1 << 20, []segment.TimelineID{1}},
		{3, 1 << 20, []segment.TimelineID{1, 2, 4}},
		{4, 1 << 20, []segment.TimelineID{4}},
		{5, 1 << 20, []segment.TimelineID{5}},
		{6, 1 << 20, []segment.TimelineID{5, 9}},
		{7, 1 << 20, []segment.TimelineID{9}},
		{1<<44 - 1, 1 << 20, []segment.TimelineID{9}},
		{0, 1 << 24, []segment.TimelineID{1, 2, 4, 5, 9}},
		{1, 1 << 24, []segment.TimelineID{9}},
	} {
		if got := h.Segment(c.number, c.size); !slices.Equal(got, c.want) {
			t.Errorf("segment %d of %s holds timelines %v; want %v", c.number, c.size, got, c.want)
		}
	}
}

func TestHistoryWithoutAncestors(t *testing.T) {
	h := segment.History{Timeline: 1}
	begin, end, ok := h.Bounds(1)
	if begin != 0 || end != segment.MaxLSN || !ok || h.Contains(2) || h.TimelineAt(0) != 1 {
		t.Errorf("timeline 1 goes from %v to %v, %v", begin, end, ok)
	}
	if got := h.Segment(0, 1<<24); !slices.Equal(got, []segment.TimelineID{1}) {
		t.Errorf("segment 0 holds timelines %v", got)
	}
}

// TestHistoryLaws checks the three questions that can be asked of a history
// against each other, at positions around every fork.
func TestHistoryLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := drawHistory(t)
		s := rapid.SampledFrom(allSizes()).Draw(t, "size")
		if got, err := segment.ParseHistory(h.Timeline, historyText(h)); err != nil || !slices.Equal(got.Entries, h.Entries) {
			t.Fatalf("%+v became %+v, %v", h, got, err)
		}
		l := drawLSN(t, s)
		if len(h.Entries) > 0 && rapid.Bool().Draw(t, "at a fork") {
			l = rapid.SampledFrom(h.Entries).Draw(t, "fork").End + segment.LSN(rapid.Uint64Range(0, 2).Draw(t, "near")) - 1
		}
		timeline := h.TimelineAt(l)
		begin, end, ok := h.Bounds(timeline)
		if !ok || l < begin || l >= end && timeline != h.Timeline {
			t.Fatalf("%v is on timeline %d, which goes from %v to %v", l, timeline, begin, end)
		}
		checkSegmentTimelines(t, h, s, l)
	})
}

func checkSegmentTimelines(t *rapid.T, h segment.History, s segment.Size, l segment.LSN) {
	got := h.Segment(s.Number(l), s)
	if !slices.IsSorted(got) || !slices.Contains(got, h.TimelineAt(l)) {
		t.Fatalf("the segment of %v holds timelines %v", l, got)
	}
	first := s.Floor(l)
	last := first + segment.LSN(s-1)
	if got[0] != h.TimelineAt(first) || got[len(got)-1] != h.TimelineAt(last) {
		t.Fatalf("%v to %v hold timelines %v", first, last, got)
	}
	for _, timeline := range got {
		begin, _, _ := h.Bounds(timeline)
		if at := max(begin, first); at > last || h.TimelineAt(at) != timeline {
			t.Fatalf("timeline %d has nothing in %v to %v", timeline, first, last)
		}
	}
}

func drawHistory(t *rapid.T) segment.History {
	h := segment.History{Timeline: 1}
	var end segment.LSN
	for range rapid.IntRange(0, 6).Draw(t, "ancestors") {
		end += segment.LSN(rapid.Uint64Range(0, 1<<32).Draw(t, "length"))
		if rapid.Bool().Draw(t, "on a border") {
			end = segment.MaxSize.Floor(end + segment.LSN(segment.MaxSize) - 1)
		}
		h.Entries = append(h.Entries, segment.HistoryEntry{Timeline: h.Timeline, End: end, Reason: "drawn"})
		h.Timeline += segment.TimelineID(rapid.Uint32Range(1, 3).Draw(t, "step"))
	}
	return h
}

// historyText writes a history the way PostgreSQL does.
func historyText(h segment.History) []byte {
	var b bytes.Buffer
	for i, e := range h.Entries {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%d\t%s\t%s\n", uint32(e.Timeline), e.End, e.Reason)
	}
	return b.Bytes()
}

// FuzzParseHistory asserts that whatever is read keeps its promises, and is
// read the same again after it was written in PostgreSQL's form.
func FuzzParseHistory(f *testing.F) {
	f.Add(uint32(2), []byte("1\t0/E00000\tno recovery target specified\n"))
	f.Add(uint32(3), []byte("1\t0/E00000\tx\n\n2\t16/B374D848\ty\n"))
	f.Add(uint32(1), []byte("# nothing\n"))
	f.Add(uint32(2), []byte(" 1 0/10\r\n"))
	f.Fuzz(func(t *testing.T, timeline uint32, data []byte) {
		h, err := segment.ParseHistory(segment.TimelineID(timeline), data)
		if err != nil {
			return
		}
		again, err := segment.ParseHistory(h.Timeline, historyText(h))
		if err != nil || again.Timeline != h.Timeline || !slices.Equal(again.Entries, h.Entries) {
			t.Fatalf("%q was read as %+v, and that as %+v, %v", data, h, again, err)
		}
		var before segment.HistoryEntry
		for _, e := range h.Entries {
			if e.Timeline <= before.Timeline || e.Timeline >= h.Timeline || e.End < before.End {
				t.Errorf("%+v comes after %+v on timeline %d", e, before, timeline)
			}
			before = e
		}
		if h.TimelineAt(before.End) != h.Timeline {
			t.Errorf("timeline %d does not begin at %v", timeline, before.End)
		}
	})
}
