package archive

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage/storagetest"
)

// someObject is the key of an object of a few timelines and segments.
func someObject(t *rapid.T) Object {
	timeline := segment.TimelineID(rapid.Uint32Range(1, 4).Draw(t, "timeline"))
	n := name(timeline, rapid.Uint64Range(3, 7).Draw(t, "number"))
	o := Object{System: testSystem, Timeline: timeline, Segment: n.Format(testSize)}
	o.Kind = rapid.SampledFrom([]Kind{KindSegment, KindSegment, KindPartial, KindBackup, KindHistory, KindTail, KindTail}).Draw(t, "kind")
	switch o.Kind {
	case KindPartial:
		o.Digest = "00c0ffee"
	case KindBackup:
		o.Offset = "00000028"
	case KindHistory:
		o.Segment = ""
	case KindTail:
		o.From = rapid.Int64Range(0, 3).Draw(t, "from")
		o.To = o.From + rapid.Int64Range(1, 3).Draw(t, "length")
	}
	o.Encrypted = (o.Kind == KindSegment || o.Kind == KindTail) && rapid.Bool().Draw(t, "encrypted")
	return o
}

// TestLater compares with what all keys say.
func TestLater(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		objects := rapid.SliceOfN(rapid.Custom(someObject), 0, 12).Draw(t, "objects")
		store := storagetest.NewMem()
		for _, o := range objects {
			store.Set(o.Key(), nil)
		}
		store.Set(systemDir(testSystem)+"wal/00000003/something else", nil)
		store.Set(systemDir(testSystem)+"tail/00000002FFFFFFFFFFFFFFFF/00000000-00000001.zst", nil) // no such segment
		from := name(segment.TimelineID(rapid.Uint32Range(1, 4).Draw(t, "of timeline")), rapid.Uint64Range(0, 8).Draw(t, "from number"))
		a := &Archive{store: store, id: testIdentity}
		l, err := a.Later(t.Context(), from)
		if err != nil {
			t.Fatal(err)
		}
		var timelines []segment.TimelineID
		has, after := false, false
		for _, o := range objects {
			n, err := segment.ParseName(o.Segment, testSize)
			switch {
			case o.Timeline > from.Timeline, o.Kind == KindHistory && o.Timeline == from.Timeline && from.Number == 0:
				timelines = append(timelines, o.Timeline)
			case err == nil && o.Timeline == from.Timeline && n.Number >= from.Number:
				timelines = append(timelines, o.Timeline)
				after = after || n.Number > from.Number
				has = has || n == from && o.Kind == KindSegment
			}
			if o.Kind == KindHistory && o.Timeline > from.Timeline && !l.HasHistory(o.Timeline) {
				t.Errorf("the history of timeline %d was not found", o.Timeline)
			}
		}
		slices.Sort(timelines)
		timelines = slices.Compact(timelines)
		if got := l.Timelines(); !slices.Equal(got, timelines) {
			t.Errorf("timelines %v, want %v", got, timelines)
		}
		if l.Has(from) != has || l.After(from) != after {
			t.Errorf("has %t, after %t; want %t, %t", l.Has(from), l.After(from), has, after)
		}
		for timeline := from.Timeline + 1; timeline <= 5; timeline++ {
			there := slices.ContainsFunc(objects, func(o Object) bool { return o.Kind == KindHistory && o.Timeline == timeline })
			if l.HasHistory(timeline) != there {
				t.Errorf("history of timeline %d: %t", timeline, !there)
			}
		}
	})
}

// chunkKeyOf is the key of a chunk of a segment.
func (a *Archive) chunkKeyOf(n segment.Name, from, to int64) string {
	return a.chunkKey(Chunk{Name: n, From: from, To: to})
}

// TestLaterMoves moves a segment from the tail to where it is complete, at every
// moment of the look: it is found.
func TestLaterMoves(t *testing.T) {
	for k := 1; ; k++ {
		mem := storagetest.NewMem()
		a := &Archive{id: testIdentity}
		mem.Set(a.chunkKeyOf(name(1, 5), 0, 100), nil)
		faulty := storagetest.NewFaulty(mem, func(r storagetest.Request) storagetest.Fault {
			if r.N == k {
				mem.Set(a.segmentKey(name(1, 5)), nil)
				_ = mem.Delete(t.Context(), a.chunkKeyOf(name(1, 5), 0, 100)) // never fails
			}
			return storagetest.Fault{}
		})
		a.store = faulty
		l, err := a.Later(t.Context(), name(1, 4))
		if err != nil {
			t.Fatal(err)
		}
		if !l.After(name(1, 4)) {
			t.Errorf("moved at request %d, and not found", k)
		}
		if faulty.Requests() < k {
			return
		}
	}
}

// TestCheapListing: what was left behind by a writer that may not delete costs next
// to nothing, and neither does what lies before.
func TestCheapListing(t *testing.T) {
	mem := storagetest.NewMem()
	a := &Archive{id: testIdentity}
	const segments, each = 30, 200
	for n := uint64(1); n <= segments; n++ {
		mem.Set(a.segmentKey(name(1, n)), nil)
		for i := int64(0); i < each; i++ {
			mem.Set(a.chunkKeyOf(name(1, n), i, i+1), nil)
		}
	}
	mem.Set(a.chunkKeyOf(name(1, segments+1), 0, 50), nil)
	faulty := storagetest.NewFaulty(mem, func(storagetest.Request) storagetest.Fault { return storagetest.Fault{} })
	a.store = faulty
	for what, list := range map[string]func() error{
		"Later":    func() error { _, err := a.Later(t.Context(), name(1, segments)); return err },
		"First":    func() error { _, _, err := a.First(t.Context(), 1); return err },
		"Listing":  func() error { _, err := a.Listing(t.Context()); return err },
		"timeline": func() error { _, err := a.Later(t.Context(), name(2, 0)); return err },
	} {
		before := faulty.Requests()
		if err := list(); err != nil {
			t.Fatal(err)
		}
		if n := faulty.Requests() - before; n > 4 {
			t.Errorf("%s takes %d requests", what, n)
		}
	}
}

// listTail lists an archive of complete segments of timeline 1 and of chunks, by
// number, from and to.
func listTail(t *testing.T, complete []uint64, chunks ...[3]int64) *Listing {
	t.Helper()
	a := &Archive{id: testIdentity}
	store := storagetest.NewMem()
	for _, n := range complete {
		store.Set(a.segmentKey(name(1, n)), nil)
	}
	for _, c := range chunks {
		store.Set(a.chunkKeyOf(name(1, uint64(c[0])), c[1], c[2]), nil)
	}
	a.store = store
	l, err := a.Listing(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestListingOfATail(t *testing.T) {
	const all = int64(testSize)
	for _, tt := range []struct {
		name     string
		complete []uint64
		chunks   [][3]int64
		end      segment.LSN // of the tail behind the newest complete segment
		tails    []uint64
		holes    string
		line     string
	}{
		{"none", []uint64{3, 4}, nil, 0x500000, nil, "[]", "[{00000001 {3 4}}]"},
		{"leftovers", []uint64{3, 4}, [][3]int64{{2, 0, 9}, {3, 0, 7}, {4, 0, all}}, 0x500000, nil, "[]", "[{00000001 {3 4}}]"},
		{"one segment", []uint64{3, 4}, [][3]int64{{4, 0, 7}, {5, 0, 100}, {5, 50, 700}}, 0x5002BC, []uint64{5}, "[]", "[{00000001 {3 4}}]"},
		{"with a hole", []uint64{3, 4}, [][3]int64{{5, 0, 100}, {5, 101, 700}}, 0x500064, []uint64{5}, "[]", "[{00000001 {3 4}}]"},
		{"without a beginning", []uint64{3, 4}, [][3]int64{{5, 1, 100}}, 0x500000, []uint64{5}, "[]", "[{00000001 {3 4}}]"},
		{"two segments", []uint64{3, 4}, [][3]int64{{5, 0, 100}, {5, 100, all}, {6, 0, 16}}, 0x600010, []uint64{5, 6}, "[]", "[{00000001 {3 5}}]"},
		{"the first one is not whole", []uint64{3, 4}, [][3]int64{{5, 0, 100}, {6, 0, 16}}, 0x500064, []uint64{5, 6}, "[5-5]", "[{00000001 {3 4}}]"},
		{"the first one is not there", []uint64{3, 4}, [][3]int64{{6, 0, 16}}, 0x500000, []uint64{6}, "[5-5]", "[{00000001 {3 4}}]"},
		{"in a hole", []uint64{3, 5}, [][3]int64{{4, 0, 100}, {4, 50, all}}, 0x600000, []uint64{4}, "[]", "[{00000001 {3 5}}]"},
		{"in a hole, not whole", []uint64{3, 5}, [][3]int64{{4, 0, 100}}, 0x600000, []uint64{4}, "[4-4]", "[{00000001 {3 3}} {00000001 {5 5}}]"},
		{"alone", nil, [][3]int64{{5, 0, all}, {6, 0, 16}}, 0, []uint64{5, 6}, "[]", "[{00000001 {5 5}}]"},
	} {
		l := listTail(t, tt.complete, tt.chunks...)
		var tails []uint64
		for _, n := range l.Tails(1) {
			tails = append(tails, n.Number)
		}
		if !slices.Equal(tails, tt.tails) {
			t.Errorf("%s: tails of %v, want %v", tt.name, tails, tt.tails)
		}
		if r := l.Ranges(1); len(r) > 0 {
			if end := l.TailEnd(name(1, r[len(r)-1].Last+1)); end != tt.end {
				t.Errorf("%s: it ends at %s, want %s", tt.name, end, tt.end)
			}
		}
		c := NewChain(l, nil, nil, nil)
		var holes []string
		for _, h := range c.Branches[0].Holes {
			holes = append(holes, fmt.Sprintf("%d-%d", h.First, h.Last))
		}
		if fmt.Sprint(holes) != tt.holes || fmt.Sprint(c.Line(1)) != tt.line {
			t.Errorf("%s: holes %v, line %v; want %s, %s", tt.name, holes, c.Line(1), tt.holes, tt.line)
		}
	}
	if l := listTail(t, nil, [3]int64{5, 0, 10}); l.Empty() || !l.After(name(1, 4)) || l.After(name(1, 5)) {
		t.Error("chunks are no WAL")
	}
}
