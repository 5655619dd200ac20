package archive

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"testing"

	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/storagetest"
)

// keyList is a store of which only the keys are there, in the order given.
type keyList struct {
	storage.Store
	keys func(yield func(string) bool)
}

func (k keyList) List(_ context.Context, _ string, fn func(storage.Info) error) error {
	for key := range k.keys {
		if err := fn(storage.Info{Key: key}); err != nil {
			return err
		}
	}
	return nil
}

func list(t *testing.T, keys ...string) *Listing {
	t.Helper()
	a := &Archive{store: keyList{keys: slices.Values(keys)}, id: testIdentity}
	l, err := a.Listing(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestListing(t *testing.T) {
	a := &Archive{id: testIdentity}
	p := Partial{Name: name(1, 6), Digest: "00c0ffee"}
	l := list(t,
		a.historyKey(2),
		a.segmentKey(name(1, 3)), a.segmentKey(name(1, 4)), a.segmentKey(name(1, 4))+".age",
		a.partialKey(p),
		a.segmentKey(name(2, 0x1FFF)), a.segmentKey(name(2, 0x2000)), a.segmentKey(name(2, 0x2001))+".age",
		a.segmentKey(name(2, 0x2005)),
		Object{System: testSystem, Kind: KindBackup, Timeline: 2, Segment: name(2, 0x2009).Format(testSize), Offset: "00000028"}.Key(),
		"7411122233344455566/wal/00000002/00000002000000000000FFFF.zst", // no such name with 1 MB segments
		"7411122233344455566/wal/something/else",
		a.historyKey(5),
	)
	for n, want := range map[segment.Name]bool{
		name(1, 2): false, name(1, 3): true, name(1, 4): true, name(1, 5): false, name(1, 6): false,
		name(2, 0x1FFE): false, name(2, 0x1FFF): true, name(2, 0x2001): true, name(2, 0x2002): false, name(2, 0x2005): true,
		name(2, 0x2006): false, name(3, 3): false, name(5, 3): false,
	} {
		if l.Has(n) != want {
			t.Errorf("Has(%v) is %v", n, !want)
		}
	}
	for n, want := range map[segment.Name]bool{
		name(1, 0): true, name(1, 5): true, name(1, 6): false, name(2, 0x2008): true, name(2, 0x2009): false, name(3, 0): false, name(5, 0): false,
	} {
		if l.After(n) != want {
			t.Errorf("After(%v) is %v", n, !want)
		}
	}
	if got := l.Timelines(); !slices.Equal(got, []segment.TimelineID{1, 2, 5}) {
		t.Errorf("timelines %v", got)
	}
	if got := l.Histories(); !slices.Equal(got, []segment.TimelineID{2, 5}) {
		t.Errorf("histories %v", got)
	}
	if !l.HasHistory(5) || l.HasHistory(1) || l.HasHistory(9) {
		t.Error("HasHistory")
	}
	if got := l.Ranges(2); !slices.Equal(got, []Range{{0x1FFF, 0x2001}, {0x2005, 0x2005}}) {
		t.Errorf("ranges %v", got)
	}
	if got := slices.Collect(l.Segments()); !slices.Equal(got, []segment.Name{
		name(1, 3), name(1, 4), name(2, 0x1FFF), name(2, 0x2000), name(2, 0x2001), name(2, 0x2005),
	}) {
		t.Errorf("segments %v", got)
	}
	if end, ok := l.End(2); !ok || end != testSize.Start(0x2002) {
		t.Errorf("end %s, %v", end, ok)
	}
	if _, ok := l.End(5); ok {
		t.Error("a timeline without segments has an end")
	}
	if got := l.Partials(name(1, 6)); !slices.Equal(got, []Partial{p}) || len(l.Partials(name(1, 5))) > 0 || len(l.Partials(name(9, 5))) > 0 {
		t.Errorf("partials %v", got)
	}
	if l.Empty() || !list(t).Empty() {
		t.Error("Empty")
	}
}

func TestListingInAnyOrder(t *testing.T) {
	a := &Archive{id: testIdentity}
	l := list(t, a.segmentKey(name(1, 9)), a.segmentKey(name(1, 3)), a.segmentKey(name(1, 8)), a.segmentKey(name(1, 3)), a.segmentKey(name(1, 4)))
	if got := l.Ranges(1); !slices.Equal(got, []Range{{3, 4}, {8, 9}}) {
		t.Errorf("ranges %v", got)
	}
}

func TestListingOfOneClusterOnly(t *testing.T) {
	store := storagetest.NewMem()
	a, scratch, _ := newArchive(t, store)
	mustPut(t, a, scratch, name(1, 1), wal(name(1, 1), 1, 0))
	if err := a.PutHistory(t.Context(), 2, []byte(history2)); err != nil {
		t.Fatal(err)
	}
	store.Set("42/wal/00000001/000000010000000000000002.zst", nil)
	l, err := a.Listing(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := slices.Collect(l.Segments()); !slices.Equal(got, []segment.Name{name(1, 1)}) || !l.HasHistory(2) {
		t.Errorf("segments %v", got)
	}
}

func TestListingOverAFaultyStore(t *testing.T) {
	mem := storagetest.NewMem()
	a, scratch, _ := newArchive(t, mem)
	mustPut(t, a, scratch, name(1, 1), wal(name(1, 1), 1, 0))
	for _, fault := range []storagetest.Fault{{Before: storagetest.ErrInjected}, {After: storagetest.ErrInjected}} {
		a.store = faulty(mem, storagetest.OpList, fault)
		if l, err := a.Listing(t.Context()); !errors.Is(err, storagetest.ErrInjected) {
			t.Errorf("%v, %v", l, err)
		}
		a.store = faulty(mem, storagetest.OpList, fault)
		if p, err := a.Partials(t.Context(), name(1, 1)); !errors.Is(err, storagetest.ErrInjected) {
			t.Errorf("%v, %v", p, err)
		}
	}
}

func TestListingTakesLittleMemory(t *testing.T) {
	a := &Archive{id: testIdentity, store: keyList{keys: func(yield func(string) bool) {
		b := &Archive{id: testIdentity}
		for n := range uint64(100_000) {
			if n%1000 != 0 && !yield(b.segmentKey(name(1, n))) {
				return
			}
		}
	}}}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	l, err := a.Listing(t.Context())
	runtime.GC()
	runtime.ReadMemStats(&after)
	if err != nil || len(l.Ranges(1)) != 100 {
		t.Fatalf("%d ranges, %v", len(l.Ranges(1)), err)
	}
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 1<<20 {
		t.Errorf("a listing of 100,000 segments takes %d bytes", grown)
	}
}

// TestListingFrom: what is before a segment is left out, and not gone through.
func TestListingFrom(t *testing.T) {
	mem := storagetest.NewMem()
	a, _, _ := newArchive(t, mem)
	for n := range uint64(40) {
		mem.Set(a.segmentKey(name(1, n)), nil)
		mem.Set(a.segmentKey(name(3, n+10)), nil)
		for _, tli := range []segment.TimelineID{1, 2} {
			mem.Set(a.chunkObject(Chunk{Name: name(tli, n), From: 0, To: 100}).Key(), nil)
		}
	}
	mem.Set(a.historyKey(2), nil)
	mem.Set(a.historyKey(3), nil)
	store := &fromLister{Mem: mem}
	a.store = store
	l, err := a.ListingFrom(t.Context(), 35)
	if err != nil {
		t.Fatal(err)
	}
	if got := l.Ranges(1); !slices.Equal(got, []Range{{35, 39}}) {
		t.Errorf("timeline 1: %v", got)
	}
	if got := l.Ranges(3); !slices.Equal(got, []Range{{35, 49}}) {
		t.Errorf("timeline 3: %v", got)
	}
	if got := l.Tails(2); len(got) != 5 || got[0] != name(2, 35) || len(l.Tails(1)) != 0 {
		t.Errorf("tails %v and %v", got, l.Tails(1))
	}
	if !l.HasHistory(2) || !l.HasHistory(3) || l.Has(name(1, 34)) || !l.After(name(1, 34)) {
		t.Errorf("%+v", l)
	}
	// Of each timeline at most one segment that is left out, and one chunk.
	if want := 5 + 15 + 2 + 5 + 5 + 4; store.seen > want {
		t.Errorf("%d keys were listed, %d are enough", store.seen, want)
	}
}

// fromLister lists from the middle, and counts what it lists.
type fromLister struct {
	*storagetest.Mem
	seen int
}

func (f *fromLister) ListFrom(ctx context.Context, prefix, from string, fn func(storage.Info) error) error {
	return f.List(ctx, prefix, func(info storage.Info) error {
		if info.Key < from {
			return nil
		}
		f.seen++
		return fn(info)
	})
}
