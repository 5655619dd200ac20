package archive

import (
	"slices"
	"testing"
	"time"

	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage/storagetest"
)

func prunedKey(t segment.TimelineID, number uint64) string {
	return (&Archive{id: testIdentity}).PrunedKey(Pruned{t, testSize.Start(number)})
}

// TestListingWithoutThePruned: what is left of it is not there any more, whatever
// was deleted first.
func TestListingWithoutThePruned(t *testing.T) {
	a := &Archive{id: testIdentity}
	chunk := func(n segment.Name) string { return a.chunkKey(Chunk{Name: n, From: 0, To: 100}) }
	keys := []string{
		a.segmentKey(name(1, 2)), a.segmentKey(name(1, 4)), a.partialKey(Partial{name(1, 5), "00c0ffee", false}),
		a.historyKey(2), a.segmentKey(name(2, 5)), a.segmentKey(name(2, 6)), a.segmentKey(name(2, 7)), a.segmentKey(name(2, 8)), chunk(name(2, 9)),
		a.historyKey(3), a.segmentKey(name(3, 4)), a.segmentKey(name(3, 5)), chunk(name(3, 6)),
		a.historyKey(4),
	}
	l := list(t, append(keys, prunedKey(2, 7), prunedKey(1, 3))...)
	if got := l.Timelines(); !slices.Equal(got, []segment.TimelineID{2, 3, 4}) {
		t.Errorf("timelines %v", got)
	}
	if got := l.Ranges(2); !slices.Equal(got, []Range{{7, 8}}) || l.Start(2) != testSize.Start(7) {
		t.Errorf("timeline 2: %v from %s", got, l.Start(2))
	}
	if got := l.Ranges(3); !slices.Equal(got, []Range{{4, 5}}) || l.Start(3) != 0 || len(l.Tails(3)) != 1 {
		t.Errorf("a timeline that came later: %v from %s", got, l.Start(3))
	}
	if len(l.Tails(2)) != 1 || l.PartialsOn(1) != 0 || l.After(name(1, 0)) {
		t.Error("the tail, or what is left of timeline 1")
	}
	if !l.IsPruned(name(1, 6)) || l.IsPruned(name(1, 7)) || l.IsPruned(name(3, 1)) {
		t.Error("IsPruned")
	}
	// Nothing removes the newest segment.
	if l := list(t, append(keys, prunedKey(9, 100))...); len(l.Pruned()) > 0 || len(l.Doubted()) != 1 || !l.Has(name(1, 2)) {
		t.Errorf("what says that all is gone was believed: %v", l.Pruned())
	}
	if l := list(t, append(keys, prunedKey(9, 8))...); len(l.Pruned()) != 1 || !l.Has(name(2, 8)) || l.Has(name(3, 5)) || len(l.Tails(3)) > 0 {
		t.Errorf("up to the newest segment: %v", l.Ranges(2))
	}
}

func TestPrunedCovers(t *testing.T) {
	p := Pruned{2, testSize.Start(7)}
	seg := func(t segment.TimelineID, n uint64) string { return name(t, n).Format(testSize) }
	for what, c := range map[string]struct {
		o    Object
		want bool
	}{
		"a segment":             {Object{Kind: KindSegment, Timeline: 1, Segment: seg(1, 6)}, true},
		"the first that stays":  {Object{Kind: KindSegment, Timeline: 1, Segment: seg(1, 7)}, false},
		"of a later timeline":   {Object{Kind: KindSegment, Timeline: 3, Segment: seg(3, 6)}, false},
		"a partial":             {Object{Kind: KindPartial, Timeline: 2, Segment: seg(2, 6)}, true},
		"a chunk":               {Object{Kind: KindTail, Timeline: 2, Segment: seg(2, 6)}, true},
		"a backup history":      {Object{Kind: KindBackup, Timeline: 2, Segment: seg(2, 6)}, true},
		"a mark":                {Object{Kind: KindMark, Timeline: 2, Segment: seg(2, 6)}, true},
		"an index":              {Object{Kind: KindIndex, Timeline: 2, Segment: seg(2, 1), Last: seg(2, 6)}, true},
		"an index that goes on": {Object{Kind: KindIndex, Timeline: 2, Segment: seg(2, 1), Last: seg(2, 7)}, false},
		"a gap":                 {Object{Kind: KindGap, Timeline: 2, File: segment.Gap{Timeline: 2, From: testSize.Start(3), To: p.Before}.FileName()}, true},
		"a gap that goes on": {
			Object{Kind: KindGap, Timeline: 2, File: segment.Gap{Timeline: 2, From: testSize.Start(3), To: p.Before + 1<<20}.FileName()}, false,
		},
		"a history":       {Object{Kind: KindHistory, Timeline: 2}, false},
		"the identity":    {Object{Kind: KindIdentity}, false},
		"itself":          {Object{Kind: KindPruned, Timeline: 2, File: p.file()}, false},
		"no such segment": {Object{Kind: KindSegment, Timeline: 1, Segment: "00000001000000000000FFFF"}, false},
	} {
		if got := p.Covers(c.o, testSize); got != c.want {
			t.Errorf("%s: %v", what, got)
		}
	}
}

// TestPutPruned: it is found again, and saying it twice is nothing.
func TestPutPruned(t *testing.T) {
	a, _, _ := newArchive(t, storagetest.NewMem())
	p := Pruned{3, testSize.Start(7)}
	for range 2 {
		if err := a.PutPruned(t.Context(), p, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	got, err := a.Pruned(t.Context())
	if err != nil || !slices.Equal(got, []Pruned{p}) {
		t.Errorf("%v, %v", got, err)
	}
	if !p.Implies(Pruned{2, testSize.Start(7)}) || p.Implies(Pruned{4, 1}) || p.Implies(Pruned{1, testSize.Start(8)}) {
		t.Error("Implies")
	}
}

// TestIndexOfWhatIsLeftOfABlock: pruning a part of it makes no new index.
func TestIndexOfWhatIsLeftOfABlock(t *testing.T) {
	a := &Archive{id: testIdentity}
	o := Object{Segment: name(1, 1).Format(testSize), Last: name(1, 9).Format(testSize)}
	for first, want := range map[uint64]bool{0: false, 1: true, 5: true} {
		if a.isIndexed([]Object{o}, []segment.Name{name(1, first), name(1, 9)}) != want {
			t.Errorf("from %d on: %v", first, !want)
		}
	}
	if a.isIndexed([]Object{o}, []segment.Name{name(1, 1), name(1, 10)}) {
		t.Error("one is missing from it")
	}
}
