package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/storagetest"
)

func putChunk(t *testing.T, a *Archive, scratch *Scratch, c Chunk, open Opener) error {
	t.Helper()
	p, err := a.prepareChunk(t.Context(), scratch, c, open)
	if err != nil {
		return err
	}
	defer p.remove()
	_, err = a.put(t.Context(), a.chunkObject(c), p)
	return err
}

func readChunk(t *testing.T, a *Archive, c Chunk) ([]byte, error) {
	t.Helper()
	r, err := a.OpenChunk(t.Context(), c)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func TestChunkRoundTrip(t *testing.T) {
	store := storagetest.NewMem()
	a, scratch, disk := newArchive(t, store)
	n := name(2, 7)
	data := wal(n, 128, 0)
	chunks := []Chunk{{Name: n, From: 0, To: 1}, {Name: n, From: 0, To: 8192}, {Name: n, From: 5, To: int64(testSize)}, {Name: n, From: 0, To: int64(testSize)}}
	for _, c := range chunks {
		for range 2 { // the second one finds that it is there
			if err := putChunk(t, a, scratch, c, opener(data[c.From:c.To])); err != nil {
				t.Fatal(err)
			}
		}
		got, err := readChunk(t, a, c)
		if err != nil || !bytes.Equal(got, data[c.From:c.To]) {
			t.Errorf("%s: %d bytes, %v", c, len(got), err)
		}
	}
	if _, ok := store.Get("7411122233344455566/tail/000000020000000000000007/00000005-00100000.zst"); !ok {
		t.Errorf("the object is not where it should be: %v", store.Keys())
	}
	mustPut(t, a, scratch, n, data)
	store.Set(systemDir(testSystem)+"tail/000000020000000000000007/00000000-00200000.zst", nil) // beyond the segment
	store.Set(systemDir(testSystem)+"tail/000000020000000000000007/later", nil)
	if err := putChunk(t, a, scratch, Chunk{Name: name(2, 8), To: 3}, opener(data[:3])); err != nil {
		t.Fatal(err)
	}
	got, err := a.Chunks(t.Context(), n)
	if err != nil || len(got) != len(chunks) {
		t.Errorf("%v, %v", got, err)
	}
	for _, c := range chunks {
		if !slices.Contains(got, c) {
			t.Errorf("%s is not in %v", c, got)
		}
	}
	if got, err := a.Chunks(t.Context(), name(1, 7)); err != nil || len(got) > 0 {
		t.Errorf("on another timeline: %v, %v", got, err)
	}
	expectEmptyDir(t, disk)
}

func TestChunkErrors(t *testing.T) {
	store := storagetest.NewMem()
	a, scratch, disk := newArchive(t, store)
	n := name(2, 7)
	data := wal(n, 128, 0)
	c := Chunk{Name: n, From: 100, To: 5000}
	if _, err := a.OpenChunk(t.Context(), c); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
	encrypted := Chunk{Name: n, To: 1, Encrypted: true}
	store.Set(a.chunkKey(encrypted), []byte("age-encryption.org/v1\n"))
	if _, err := a.OpenChunk(t.Context(), encrypted); !errors.Is(err, ErrEncrypted) {
		t.Errorf("encrypted: %v", err)
	}
	for what, plain := range map[string][]byte{"short": data[100:4999], "long": data[100:5001]} {
		var local *LocalError
		if err := putChunk(t, a, scratch, c, opener(plain)); !errors.As(err, &local) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := putChunk(t, a, scratch, c, opener(data[100:5000])); err != nil {
		t.Fatal(err)
	}
	other := wal(n, 128, 1)[100:5000]
	var conflict *ConflictError
	if err := putChunk(t, a, scratch, c, opener(other)); !errors.As(err, &conflict) || conflict.Ours != sha256.Sum256(other) {
		t.Errorf("other content: %v", err)
	}
	object, _ := store.Get(a.chunkKey(c))
	object = bytes.Clone(object)
	for size := range len(object) {
		store.Set(a.chunkKey(c), object[:size])
		var damaged *DamagedError
		if _, err := readChunk(t, a, c); !errors.As(err, &damaged) {
			t.Fatalf("%d of %d bytes: %v", size, len(object), err)
		}
	}
	store.Set(a.chunkKey(Chunk{Name: n, From: 100, To: 5001}), object) // under a key that says more
	var damaged *DamagedError
	if _, err := readChunk(t, a, Chunk{Name: n, From: 100, To: 5001}); !errors.As(err, &damaged) {
		t.Errorf("under a wrong key: %v", err)
	}
	expectEmptyDir(t, disk)
}

// A listing that fails is not an empty one.
func TestChunksOfAFaultyStore(t *testing.T) {
	mem := storagetest.NewMem()
	a, _, _ := newArchive(t, mem)
	a.store = faulty(mem, storagetest.OpList, storagetest.Fault{Before: storagetest.ErrInjected})
	if got, err := a.Chunks(t.Context(), name(1, 1)); !errors.Is(err, storagetest.ErrInjected) || got != nil {
		t.Errorf("%v, %v", got, err)
	}
}

// A large chunk does not take memory of its size, a small one no disk.
func TestChunksInMemoryAndOnDisk(t *testing.T) {
	id := testIdentity
	id.SegmentSize = 4 * maxSmallObject
	store := storagetest.NewMem()
	a, err := Init(t.Context(), store, id, Keys{})
	if err != nil {
		t.Fatal(err)
	}
	for size, onDisk := range map[int64]bool{maxSmallObject: false, maxSmallObject + 1: true} {
		_, scratch, disk := newArchive(t, storagetest.NewMem())
		seen := false
		probe := &putProbe{Store: store, before: func() {
			entries, err := disk.ReadDir("/")
			seen = err == nil && len(entries) == 1
		}}
		a.store = probe
		if err := putChunk(t, a, scratch, Chunk{Name: segment.Name{Timeline: 1}, To: size}, opener(make([]byte, size))); err != nil {
			t.Fatal(err)
		}
		if seen != onDisk {
			t.Errorf("%d bytes: on disk %t", size, seen)
		}
		expectEmptyDir(t, disk)
	}
}

// fewest is the smallest number of chunks that cover [from,end), by trying all.
func fewest(chunks []Chunk, from, end int64) int {
	best := len(chunks) + 1
	for set := range 1 << len(chunks) {
		var chosen []Chunk
		for i, c := range chunks {
			if set>>i&1 == 1 {
				chosen = append(chosen, c)
			}
		}
		if len(chosen) < best && reach(chosen, from) >= end {
			best = len(chosen)
		}
	}
	return best
}

// reach is where the bytes that chunks hold from an offset on have their first hole.
func reach(chunks []Chunk, from int64) int64 {
	for at := from; ; at++ {
		if !slices.ContainsFunc(chunks, func(c Chunk) bool { return c.From <= at && at < c.To }) {
			return at
		}
	}
}

func TestCover(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		chunks := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Chunk {
			from := rapid.Int64Range(0, 20).Draw(t, "from")
			return Chunk{From: from, To: from + rapid.Int64Range(1, 12).Draw(t, "length"), Encrypted: rapid.Bool().Draw(t, "encrypted")}
		}), 0, 9).Draw(t, "chunks")
		before := slices.Clone(chunks)
		from := rapid.Int64Range(0, 25).Draw(t, "begin")
		needed, end := Cover(chunks, from)
		if !slices.Equal(chunks, before) {
			t.Fatal("the chunks were changed")
		}
		if want := reach(chunks, from); end != want {
			t.Fatalf("covers up to %d, there is WAL up to %d", end, want)
		}
		if end == from && len(needed) > 0 {
			t.Fatalf("%v for nothing", needed)
		}
		if want := fewest(chunks, from, end); end > from && len(needed) != want {
			t.Fatalf("%v, %d are enough", needed, want)
		}
		at := from
		for _, c := range needed {
			if c.From > at || c.To <= at || !slices.Contains(chunks, c) {
				t.Fatalf("%v: %s is not one to read at %d", needed, c, at)
			}
			at = c.To
		}
		if at != end {
			t.Fatalf("%v end at %d, not %d", needed, at, end)
		}
	})
}

// putProbe is a store that is looked at before each Put.
type putProbe struct {
	storage.Store
	before func()
}

func (p *putProbe) Put(ctx context.Context, key string, src storage.Source) error {
	p.before()
	return p.Store.Put(ctx, key, src)
}
