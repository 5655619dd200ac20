package archive

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"slices"
	"testing"

	"github.com/walrecv/walrecv/storage/storagetest"
)

// A segment whose complete object never got there is made of its chunks.
func TestSealTail(t *testing.T) {
	mem := storagetest.NewMem()
	a, scratch, disk := newArchive(t, mem)
	n := name(1, 7)
	data := wal(n, 128, 0)
	put := func(from, to int64) Chunk {
		c := Chunk{Name: n, From: from, To: to}
		if err := putChunk(t, a, scratch, c, opener(data[from:to])); err != nil {
			t.Fatal(err)
		}
		return c
	}
	chunks := []Chunk{put(0, 10), put(0, 5000), put(3000, 700_000), put(100, 200), put(700_000, 700_001), put(600_001, int64(testSize))}
	if err := a.SealTail(t.Context(), scratch, n, chunks[:4]); err == nil {
		t.Error("not all of it is there")
	}
	for k := 1; ; k++ {
		for _, fault := range []storagetest.Fault{{Before: storagetest.ErrInjected}, {After: storagetest.ErrInjected}, {Cut: &storagetest.Cut{At: 50, Err: io.ErrUnexpectedEOF}}} {
			store := storagetest.NewFaulty(mem, storagetest.FailAt(k, fault))
			broken := opened(store, testIdentity, Keys{})
			err := broken.SealTail(t.Context(), scratch, n, chunks)
			var local *LocalError
			var damaged *DamagedError
			if errors.As(err, &local) || errors.As(err, &damaged) || errors.Is(err, fs.ErrNotExist) || err != nil && store.Fired() == 0 {
				t.Errorf("request %d, %+v: %v", k, fault, err)
			}
			if err == nil && isWhole(mem, n, data) != nil {
				t.Errorf("request %d, %+v: %v", k, fault, isWhole(mem, n, data))
			}
		}
		if k == 6 {
			break
		}
		if err := mem.Delete(t.Context(), a.segmentKey(n)); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := readSegment(t.Context(), a, n); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	keys, _ := testKeys(t, "")
	secret := slices.Clone(chunks)
	secret[1].Encrypted = true
	p, err := a.with(keys).prepareChunk(t.Context(), scratch, secret[1], opener(data[secret[1].From:secret[1].To]))
	if err == nil {
		_, err = a.put(t.Context(), a.chunkObject(secret[1]), p)
		p.remove()
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := a.SealTail(t.Context(), scratch, n, secret); !errors.Is(err, ErrEncrypted) {
		t.Errorf("encrypted: %v", err)
	}
	object, _ := mem.Get(a.chunkKey(secret[1]))
	mem.Set(a.chunkKey(secret[1]), append(bytes.Clone(object[:len(object)-1]), object[len(object)-1]^1))
	var damaged *DamagedError
	if err := a.SealTail(t.Context(), scratch, n, secret); !errors.As(err, &damaged) {
		t.Errorf("encrypted and damaged: %v", err)
	}
	object, _ = mem.Get(a.chunkKey(chunks[2]))
	mem.Set(a.chunkKey(chunks[2]), object[:len(object)-1])
	if err := a.SealTail(t.Context(), scratch, n, chunks); !errors.As(err, &damaged) {
		t.Errorf("damaged: %v", err)
	}
	if err := mem.Delete(t.Context(), a.chunkKey(chunks[2])); err != nil {
		t.Fatal(err)
	}
	if err := a.SealTail(t.Context(), scratch, n, chunks); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("gone: %v", err)
	}
	expectEmptyDir(t, disk)
}
