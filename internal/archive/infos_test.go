package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage/storagetest"
)

// fakeSegment puts an object that has the end of a segment's, and no content.
func fakeSegment(t testing.TB, store *storagetest.Mem, a *Archive, info SegmentInfo) {
	t.Helper()
	tr := trailer{Digest: info.Digest, Size: int64(testSize)}
	if info.Known {
		var err error
		if tr.Summary, err = encodeSummary(info.Summary, info.Name, testSize); err != nil {
			t.Fatal(err)
		}
	}
	end, err := tr.encode()
	if err != nil {
		t.Fatal(err)
	}
	store.Set(a.segmentKey(info.Name), end)
}

func randomInfo(rng *rand.Rand, n segment.Name) SegmentInfo {
	info := SegmentInfo{Name: n, Known: rng.IntN(8) > 0}
	for i := range info.Digest {
		info.Digest[i] = byte(rng.IntN(256))
	}
	if info.Known {
		info.Summary = randomSummary(rng, n)
		if rng.IntN(50) > 0 {
			info.Summary.RestorePoints = nil
		}
	}
	return info
}

// told collects what Infos tells.
func told(t *testing.T, a *Archive) []string {
	t.Helper()
	l, err := a.Listing(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	index, err := a.Index(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = a.Infos(t.Context(), l, index, func(info SegmentInfo, err error) error {
		lines = append(lines, fmt.Sprintf("%+v %v", info, err))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// Whatever there is of an index, Infos says the same.
func TestInfosWithAndWithoutIndex(t *testing.T) {
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, 4))
		store := storagetest.NewMem()
		a, _, _ := newArchive(t, store)
		var all []SegmentInfo
		for tli := range segment.TimelineID(2) {
			for number := range uint64(600) {
				if rng.IntN(40) == 0 {
					continue // a hole
				}
				info := randomInfo(rng, name(tli+1, number+200))
				fakeSegment(t, store, a, info)
				all = append(all, info)
			}
		}
		broken := all[rng.IntN(len(all))]
		without := told(t, a)
		if len(without) != len(all) || without[0] != fmt.Sprintf("%+v %v", all[0], error(nil)) {
			t.Fatalf("seed %d: %d infos of %d segments", seed, len(without), len(all))
		}

		putSomeIndex(t, rng, a, all)
		if with := told(t, a); !slices.Equal(with, without) {
			t.Fatalf("seed %d: with an index: %s", seed, firstDifference(with, without))
		}
		damageIndex(rng, store)
		if with := told(t, a); !slices.Equal(with, without) {
			t.Fatalf("seed %d: with a damaged index: %s", seed, firstDifference(with, without))
		}

		// A segment that is gone is not told of, whatever the index says.
		if err := store.Delete(t.Context(), a.segmentKey(broken.Name)); err != nil {
			t.Fatal(err)
		}
		gone := fmt.Sprintf("%+v %v", broken, error(nil))
		want := slices.DeleteFunc(without, func(s string) bool { return s == gone })
		if with := told(t, a); !slices.Equal(with, want) {
			t.Fatalf("seed %d: without %v: %s", seed, broken.Name, firstDifference(with, want))
		}
	}
}

// putSomeIndex writes index objects about some of the segments of some blocks,
// for some blocks several.
func putSomeIndex(t *testing.T, rng *rand.Rand, a *Archive, all []SegmentInfo) {
	t.Helper()
	blocks := map[block][]SegmentInfo{}
	for _, info := range all {
		blocks[blockOf(info.Name)] = append(blocks[blockOf(info.Name)], info)
	}
	for _, infos := range blocks {
		for range rng.IntN(3) {
			from := rng.IntN(len(infos))
			if err := a.putIndex(t.Context(), infos[from:from+1+rng.IntN(len(infos)-from)]); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// damageIndex alters index objects and adds some that contradict others.
func damageIndex(rng *rand.Rand, store *storagetest.Mem) {
	for _, key := range store.Keys() {
		if !strings.Contains(key, "/index/") {
			continue
		}
		data, _ := store.Get(key)
		data = bytes.Clone(data)
		switch rng.IntN(4) {
		case 0:
			data = data[:rng.IntN(len(data))]
		case 1:
			data[rng.IntN(len(data))] ^= 1 << rng.IntN(8)
		case 2:
			store.Set(strings.Replace(key, "/index/00000001/00000001", "/index/00000002/00000002", 1), data)
			store.Set(strings.Replace(key, ".json", "0.json", 1), data)
		}
		store.Set(key, data)
	}
}

func firstDifference(got, want []string) string {
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return "got " + got[i] + ", want " + want[i]
		}
	}
	return fmt.Sprintf("%d of %d", len(got), len(want))
}

// Two index objects that contradict each other are both wrong until the object
// was asked.
func TestIndexObjectsThatContradict(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 5))
	store := storagetest.NewMem()
	a, _, _ := newArchive(t, store)
	truth, lie := randomInfo(rng, name(1, 7)), randomInfo(rng, name(1, 7))
	fakeSegment(t, store, a, truth)
	for _, info := range []SegmentInfo{truth, lie} {
		if err := a.putIndex(t.Context(), []SegmentInfo{info}); err != nil {
			t.Fatal(err)
		}
	}
	if got := told(t, a); !slices.Equal(got, []string{fmt.Sprintf("%+v %v", truth, error(nil))}) {
		t.Errorf("%v", got)
	}
}

// Every part of an index object that is not what it should be makes it void.
func TestBadIndexObjects(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 6))
	store := storagetest.NewMem()
	a, _, _ := newArchive(t, store)
	infos := []SegmentInfo{randomInfo(rng, name(1, 7)), randomInfo(rng, name(1, 8))}
	if err := a.putIndex(t.Context(), infos); err != nil {
		t.Fatal(err)
	}
	index, err := a.listIndex(t.Context())
	if err != nil || len(index[block{1, 0}]) != 1 {
		t.Fatal(index, err)
	}
	o := index[block{1, 0}][0]
	if got, err := a.readIndex(t.Context(), o); err != nil || !reflect.DeepEqual(got, infos) {
		t.Fatalf("%+v, %v", got, err)
	}
	object, _ := store.Get(o.Key())
	object = bytes.Clone(object)
	for i := range object {
		bad := bytes.Clone(object)
		bad[i] ^= 1 << (i % 8)
		store.Set(o.Key(), bad)
		var damaged *DamagedError
		if got, err := a.readIndex(t.Context(), o); !errors.As(err, &damaged) && !reflect.DeepEqual(got, infos) {
			t.Fatalf("byte %d: %+v, %v", i, got, err)
		}
	}
	foreign := o // sound, under another key
	foreign.Digest = strings.Repeat("0", len(o.Digest))
	store.Set(foreign.Key(), object)
	if got, err := a.readIndex(t.Context(), foreign); !errors.As(err, new(*DamagedError)) {
		t.Errorf("with another digest in its key: %+v, %v", got, err)
	}
	d := strings.Repeat("0", 64)
	entry := func(name string) string { return `{"name":"` + name + `","sha256":"` + d + `"}` }
	first, last := name(1, 7).Format(testSize), name(1, 8).Format(testSize)
	for _, text := range []string{
		``, `{}`, `{"format":1}`, `{"format":2,"segments":[` + entry(first) + `,` + entry(last) + `]}`,
		`{"format":1,"segments":[` + entry(first) + `]}`, `{"format":1,"segments":[` + entry(last) + `]}`,
		`{"format":1,"segments":[` + entry(first) + `,` + entry(first) + `,` + entry(last) + `]}`,
		`{"format":1,"segments":[` + entry(first) + `,` + entry("x") + `,` + entry(last) + `]}`,
		`{"format":1,"segments":[` + entry(first) + `,` + entry(name(2, 7).Format(testSize)) + `,` + entry(last) + `]}`,
		`{"format":1,"segments":[` + entry(first) + `,{"name":"` + last + `"}]}`,
		`{"format":1,"segments":[` + entry(first) + `,{"name":"` + last + `","sha256":"` + d + `","summary":{"faults":-1}}]}`,
	} {
		if got, err := decodeIndex([]byte(text), o, testSize); err == nil {
			t.Errorf("%s was read as %+v", text, got)
		}
	}
}

func FuzzDecodeIndex(f *testing.F) {
	first, last := name(1, 7).Format(testSize), name(1, 8).Format(testSize)
	f.Add([]byte(`{"format":1,"segments":[{"name":"` + first + `","sha256":"` + Digest{}.String() + `","summary":{}},{"name":"` + last + `","sha256":"` + Digest{}.String() + `"}]}`))
	o := Object{System: testSystem, Kind: KindIndex, Timeline: 1, Segment: first, Last: last}
	f.Fuzz(func(t *testing.T, text []byte) {
		infos, err := decodeIndex(text, o, testSize)
		if err != nil {
			return
		}
		for _, info := range infos {
			if info.Name.Timeline != 1 || info.Name.Number < 7 || info.Name.Number > 8 {
				t.Errorf("%v in the index of 7 and 8", info.Name)
			}
		}
	})
}

// A segment that cannot be read is told of with its error; trouble with the
// listings, and the end of the context, end Infos.
func TestInfosOverAFaultyStore(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 7))
	store := storagetest.NewMem()
	a, _, _ := newArchive(t, store)
	for number := range uint64(10) {
		fakeSegment(t, store, a, randomInfo(rng, name(1, number+1)))
	}
	l, err := a.Listing(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	store.Set(a.segmentKey(name(1, 3)), nil)
	if err := store.Delete(t.Context(), a.segmentKey(name(1, 5))); err != nil {
		t.Fatal(err)
	}
	a.store = storagetest.NewFaulty(store, func(r storagetest.Request) storagetest.Fault {
		if r.Key == a.segmentKey(name(1, 7)) {
			return storagetest.Fault{Before: storagetest.ErrInjected}
		}
		return storagetest.Fault{}
	})
	var numbers []uint64
	err = a.Infos(t.Context(), l, nil, func(info SegmentInfo, err error) error {
		numbers = append(numbers, info.Name.Number)
		var damaged *DamagedError
		switch info.Name.Number {
		case 3:
			if !errors.As(err, &damaged) {
				t.Errorf("damaged: %v", err)
			}
		case 5:
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("deleted: %v", err)
			}
		case 7:
			if !errors.Is(err, storagetest.ErrInjected) {
				t.Errorf("unreadable: %v", err)
			}
		default:
			if err != nil {
				t.Error(err)
			}
		}
		return nil
	})
	if err != nil || !slices.Equal(numbers, []uint64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}) {
		t.Errorf("%v, %v", numbers, err)
	}

	a.store = faulty(store, storagetest.OpList, storagetest.Fault{Before: storagetest.ErrInjected})
	if _, err := a.Index(t.Context()); !errors.Is(err, storagetest.ErrInjected) {
		t.Error(err)
	}
	stop := errors.New("stop")
	if err := a.Infos(t.Context(), l, nil, func(SegmentInfo, error) error { return stop }); !errors.Is(err, stop) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = a.Infos(ctx, l, nil, func(info SegmentInfo, err error) error {
		cancel()
		return nil
	})
	if !errors.Is(err, context.Canceled) && err != nil {
		t.Error(err)
	}
}

func TestFindings(t *testing.T) {
	store := storagetest.NewMem()
	a, _, _ := newArchive(t, store)
	gap, mark := testGap, testMark
	gapContent, err := gap.Encode()
	if err != nil {
		t.Fatal(err)
	}
	markContent, err := mark.Encode(testSize)
	if err != nil {
		t.Fatal(err)
	}
	dir := systemDir(testSystem)
	store.Set(dir+"gaps/"+gap.FileName(), gapContent)
	store.Set(dir+"marks/"+mark.FileName(testSize), markContent)
	store.Set(dir+"gaps/README", nil)
	if got, err := a.Gaps(t.Context()); err != nil || !reflect.DeepEqual(got, []segment.Gap{gap}) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := a.Marks(t.Context()); err != nil || !reflect.DeepEqual(got, []segment.Mark{mark}) {
		t.Errorf("%+v, %v", got, err)
	}

	// What is damaged does not hide the rest.
	gap.To = 0x600000
	mark.LSN++
	for _, bad := range [][]byte{nil, gapContent, markContent, []byte("{}")} {
		store.Set(dir+"gaps/"+gap.FileName(), bad)
		store.Set(dir+"marks/"+mark.FileName(testSize), bad)
		var damaged *DamagedError
		if got, err := a.Gaps(t.Context()); !errors.As(err, &damaged) || len(got) != 1 {
			t.Errorf("%q: %+v, %v", bad, got, err)
		}
		if got, err := a.Marks(t.Context()); !errors.As(err, &damaged) || len(got) != 1 {
			t.Errorf("%q: %+v, %v", bad, got, err)
		}
	}
	for _, op := range []storagetest.Op{storagetest.OpList, storagetest.OpOpen} {
		a.store = faulty(store, op, storagetest.Fault{Before: storagetest.ErrInjected})
		if got, err := a.Gaps(t.Context()); !errors.Is(err, storagetest.ErrInjected) || got != nil {
			t.Errorf("%+v, %v", got, err)
		}
	}
}

func TestHistories(t *testing.T) {
	store := storagetest.NewMem()
	a, _, _ := newArchive(t, store)
	if err := a.PutHistory(t.Context(), 2, []byte(history2)); err != nil {
		t.Fatal(err)
	}
	store.Set(a.historyKey(3), []byte("rubbish"))
	for tli := range segment.TimelineID(4) {
		store.Set(a.segmentKey(name(tli+1, 1)), nil)
	}
	l, err := a.Listing(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var damage *DamagedError
	histories, damaged, err := a.Histories(t.Context(), l)
	if err != nil || len(histories) != 1 || len(histories[2].Entries) != 1 || len(damaged) != 1 || !errors.As(damaged[3], &damage) {
		t.Errorf("%+v, %v, %v", histories, damaged, err)
	}
	if err := store.Delete(t.Context(), a.historyKey(3)); err != nil {
		t.Fatal(err)
	}
	if histories, damaged, err := a.Histories(t.Context(), l); err != nil || len(histories) != 1 || len(damaged) > 0 {
		t.Errorf("%+v, %v, %v", histories, damaged, err)
	}
	a.store = storagetest.NewFaulty(store, func(storagetest.Request) storagetest.Fault {
		return storagetest.Fault{Before: storagetest.ErrInjected} // not for the first one only: the two are read at a time
	})
	if histories, damaged, err := a.Histories(t.Context(), l); err != nil || len(histories) != 0 || !errors.Is(damaged[2], storagetest.ErrInjected) || !errors.Is(damaged[3], storagetest.ErrInjected) {
		t.Errorf("%+v, %v, %v", histories, damaged, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if histories, damaged, err := a.Histories(ctx, l); !errors.Is(err, context.Canceled) {
		t.Errorf("%+v, %v, %v", histories, damaged, err)
	}
}
