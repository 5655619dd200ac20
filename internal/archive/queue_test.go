package archive

import (
	"bytes"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/codec"
	"github.com/walrecv/walrecv/segment"
)

const history4 = history2 + "\n3\t0/500000\tbefore 2024-01-01\n"

// twoTimelines is a spool after a failover: timeline 1 ended in segment 3, and
// timeline 2 has come to segment 5. A clone's history lies between.
func (r *rig) twoTimelines() {
	r.sealed(name(1, 1), name(1, 2))
	r.partial(name(1, 3))
	r.file("00000002.history", []byte(history2))
	r.sealed(name(2, 3), name(2, 4))
	r.partial(name(2, 5))
}

func TestOrderOfArchiving(t *testing.T) {
	r := newRig(t)
	r.twoTimelines()
	r.findings()
	r.file("00000003.history", []byte(history2)) // never streamed here
	r.file("00000004.history", []byte(history4))
	r.sealed(name(4, 5))
	r.partial(name(4, 6))
	store := &putOrder{Mem: r.mem}
	if err := r.uploader(r.disk, store, 1).Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := []string{
		testGap.FileName(), "000000010000000000000001.zst", "000000010000000000000002.zst", "000000010000000000000003.*.partial.zst",
		"00000002.history", testMark.FileName(testSize), "000000020000000000000003.zst", "000000020000000000000004.zst", "000000020000000000000005.*.partial.zst",
		"00000003.history", "00000004.history", "000000040000000000000005.zst",
	}
	if len(store.keys) != len(want) {
		t.Fatalf("archived %v", store.keys)
	}
	for i, pattern := range want {
		if ok, err := path.Match(pattern, store.keys[i]); !ok || err != nil {
			t.Errorf("%d: %s, want %s", i, store.keys[i], pattern)
		}
	}
	r.expectArchived("at the end")
	r.expectPartial(name(1, 3), r.files["000000010000000000000003.partial"])
	r.expectPartial(name(2, 5), r.files["000000020000000000000005.partial"])
	r.expectLeft(testGap.FileName(), "000000010000000000000003.partial", "00000002.history", testMark.FileName(testSize), "000000020000000000000005.partial",
		"00000003.history", "00000004.history", "000000040000000000000005", "000000040000000000000006.partial")
}

// Neither the live partial nor anything that an operator or an accident left in
// the directory is for the archive.
func TestOnlyWhatIsSealedIsArchived(t *testing.T) {
	r := newRig(t)
	const n = "000000010000000000000002"
	r.sealed(name(1, 1))
	r.partial(name(1, 2))
	for _, base := range []string{
		n + ".partial.diverged-1", n + ".damaged-1", n + ".tmp", n + ".put.tmp", n + ".partial.tmp", n + ".gz.partial",
		"00000002.history.tmp", "backup_label", "0000000100000000000000a3", n[1:], n + "0", n + ".00000028.backup",
	} {
		r.file(base, wal(name(1, 2), 1, 0))
	}
	if err := r.uploader(r.disk, r.mem, 4).Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := keys(r.mem); !slices.Equal(got, []string{"000000010000000000000001.zst"}) {
		t.Errorf("archived %v", got)
	}
}

// pg_receivewal's directories, and our own from before there was an archive.
func TestCompressedSegmentsAreArchivedPlain(t *testing.T) {
	r := newRig(t)
	for i, m := range []codec.Method{codec.Gzip, codec.LZ4, codec.Zstd} {
		n := name(1, uint64(i+1))
		var file bytes.Buffer
		w, err := codec.NewWriter(&file, m, 0, int64(testSize))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(wal(n, 2, 0)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if m == codec.LZ4 {
			r.sealed(n) // streamed again, the other one being damaged
			file.Truncate(100)
		}
		r.file(n.Format(testSize)+m.Suffix(), file.Bytes())
		if m == codec.Zstd {
			r.file(name(1, 4).Format(testSize)+m.Suffix(), file.Bytes()[:100]) // being streamed again
			r.partial(name(1, 4))
		}
	}
	r.sealed(name(1, 9))
	if err := r.uploader(r.disk, r.mem, 4).Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	for n := range uint64(3) {
		if err := isWhole(r.mem, name(1, n+1), wal(name(1, n+1), 2, 0)); err != nil {
			t.Errorf("%d: %v", n+1, err)
		}
	}
	r.expectLeft("000000010000000000000004.partial", "000000010000000000000004.zst", "000000010000000000000009")
}

func TestPartialsOfEveryState(t *testing.T) {
	r := newRig(t)
	whole := wal(name(1, 3), 2, 0)
	r.file("000000010000000000000001.partial", nil)
	r.file("000000010000000000000002.partial", make([]byte, testSize))
	r.file("000000010000000000000003.partial", whole[:3*pageSize])
	r.file("000000010000000000000004.partial", wal(name(1, 5), 2, 0))
	r.file("000000010000000000000006.partial", append(wal(name(1, 6), 2, 0), 1))
	r.file("00000002.history", []byte(history2))
	if err := r.uploader(r.disk, r.mem, 4).Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.expectPartial(name(1, 3), whole)
	if got := keys(r.mem); len(got) != 2 {
		t.Errorf("archived %v", got)
	}
	lines := r.log.lines()
	slices.Sort(lines)
	if len(lines) != 2 || !strings.Contains(lines[0], "000000010000000000000004.partial") || !strings.Contains(lines[1], "000000010000000000000006.partial") {
		t.Errorf("logged %q", lines)
	}
}

// After a branch was accepted, the timeline that is being written can be lower
// than one whose history is there. Its partial is not final.
func TestPartialThatIsBeingWrittenIsNotFinal(t *testing.T) {
	l := segment.Listing{
		Histories: []segment.TimelineID{2},
		Partials:  []segment.File{{Name: name(1, 3), Base: name(1, 3).Format(testSize) + segment.PartialSuffix}},
	}
	for live, want := range map[segment.TimelineID]int{0: 2, 1: 1, 2: 2} {
		l.Live = live
		if items := plan(l, testSize); len(items) != want {
			t.Errorf("timeline %d is being written: %v", live, items)
		}
	}
}

// A segment that a gap begins with was begun, and will never be gone on with.
func TestPartialBeforeAGapIsFinal(t *testing.T) {
	partial := func(n segment.Name) segment.File {
		return segment.File{Name: n, Base: n.Format(testSize) + segment.PartialSuffix}
	}
	gap := segment.Gap{Timeline: 1, From: name(1, 3).Start(testSize), To: name(1, 5).Start(testSize)}
	l := segment.Listing{
		Partials: []segment.File{partial(name(1, 3)), partial(name(1, 5))},
		Gaps:     []string{gap.FileName()},
		Live:     1,
	}
	var partials []segment.Name
	for _, i := range plan(l, testSize) {
		if i.kind == itemPartial {
			partials = append(partials, i.name)
		}
	}
	if !slices.Equal(partials, []segment.Name{name(1, 3)}) {
		t.Errorf("%v", partials)
	}
}

// A gap is on its timeline's way, which newer timelines are not on.
func TestPartialOfANewerTimelineThanTheGap(t *testing.T) {
	gap := segment.Gap{Timeline: 2, From: name(2, 3).Start(testSize), To: name(2, 5).Start(testSize)}
	l := segment.Listing{Gaps: []string{gap.FileName()}}
	for timeline, want := range map[segment.TimelineID]bool{1: true, 2: true, 3: false} {
		if got := inGap(l, name(timeline, 3), testSize); got != want {
			t.Errorf("timeline %d: %v", timeline, got)
		}
	}
}

// A stream is acknowledged only after a look at the spool that is later than its
// beginning, and if all that is older was archived since.
func TestClear(t *testing.T) {
	at := segment.Position{Timeline: 2, LSN: 4 * segment.LSN(testSize)}
	history := item{kind: itemHistory, name: segment.Name{Timeline: 2}, bases: []string{"00000002.history"}}
	partial := item{kind: itemPartial, name: name(1, 9), bases: []string{"x.partial"}}
	older := item{kind: itemSealed, name: name(2, 3), bases: []string{"x"}}
	for what, c := range map[string]struct {
		items []item
		clear bool
	}{
		"nothing":                        {nil, true},
		"its history":                    {[]item{history}, false},
		"the partial of the parent":      {[]item{partial}, false},
		"a segment before it":            {[]item{older}, false},
		"a segment of the parent":        {[]item{{kind: itemSealed, name: name(1, 9), bases: []string{"x"}}}, false},
		"its own segments and later":     {[]item{{kind: itemSealed, name: name(2, 4), bases: []string{"x"}}}, true},
		"of a timeline that comes later": {[]item{{kind: itemHistory, name: segment.Name{Timeline: 3}, bases: []string{"x"}}}, true},
	} {
		var w waiting
		w.seen(c.items, time.Now(), 7)
		if w.clear(7, at, testSize) {
			t.Errorf("%s: clear after a look that began before", what)
		}
		if got := w.clear(6, at, testSize); got != c.clear {
			t.Errorf("%s waits: clear: %t", what, got)
		}
		for _, i := range c.items {
			w.over(i)
		}
		if !w.clear(6, at, testSize) {
			t.Errorf("%s: not clear after it was archived", what)
		}
	}
}
