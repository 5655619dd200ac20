package archive

import (
	"context"
	"fmt"
	"testing"

	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/storagetest"
)

// counting counts the keys that a listing shows.
type counting struct {
	*storagetest.Mem
	shown int
}

func (c *counting) ListFrom(ctx context.Context, prefix, from string, fn func(storage.Info) error) error {
	return storage.ListFrom(ctx, c.Mem, prefix, from, func(info storage.Info) error {
		c.shown++
		return fn(info)
	})
}

// TestEachCovered: all that is covered and nothing else, page by page, also while it
// is deleted, and without going through all that stays.
func TestEachCovered(t *testing.T) {
	store := &counting{Mem: storagetest.NewMem()}
	a, _, _ := newArchive(t, store)
	p := []Pruned{{2, testSize.Start(2000)}, {1, testSize.Start(1000)}}
	want, kept := 0, 0
	put := func(covered bool, key string) {
		store.Set(key, make([]byte, 10))
		if covered {
			want++
		} else {
			kept++
		}
	}
	for id := segment.TimelineID(1); id <= 3; id++ {
		for n := uint64(1500); n < 3000; n++ {
			put(id < 3 && n < 2000, a.segmentKey(name(id, n)))
		}
		put(id < 3, a.chunkKey(Chunk{Name: name(id, 1999), To: 100}))
		put(false, a.chunkKey(Chunk{Name: name(id, 2000), To: 100}))
		put(id < 3, a.partialKey(Partial{name(id, 1999), "00c0ffee", true}))
		put(false, a.historyKey(id+1))
		index := func(first, last uint64) string {
			return Object{System: testSystem, Kind: KindIndex, Timeline: id, Segment: name(id, first).Format(testSize), Last: name(id, last).Format(testSize), Digest: "00c0ffee"}.Key()
		}
		put(id < 3, index(1500, 1700))
		put(false, index(1800, 2047))
		put(id < 3, index(1800, 1999))
		put(id < 3, fmt.Sprintf("%d/marks/%s", uint64(testSystem), segment.Mark{Name: name(id, 1500), LSN: 1}.FileName(testSize)))
		put(id < 3, fmt.Sprintf("%d/gaps/%s", uint64(testSystem), segment.Gap{Timeline: id, From: testSize.Start(1), To: testSize.Start(3)}.FileName()))
	}
	put(false, fmt.Sprintf("%d/backup/x/start.json", uint64(testSystem)))
	put(false, fmt.Sprintf("%d/wal/00000001/odd", uint64(testSystem)))
	seen := 0
	err := a.EachCovered(t.Context(), p, func(page []Covered) error {
		seen += len(page)
		for _, c := range page {
			if c.Size != 10 {
				t.Errorf("%s has %d bytes", c.Key(), c.Size)
			}
		}
		return nil
	})
	if err != nil || seen != want {
		t.Errorf("%d seen, not %d, %v", seen, want, err)
	}
	if store.shown > want+50 {
		t.Errorf("%d keys were listed for %d", store.shown, want)
	}
	err = a.EachCovered(t.Context(), p, func(page []Covered) error {
		for _, c := range page {
			if err := store.Delete(t.Context(), c.Key()); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || len(store.Keys()) != kept+1 {
		t.Errorf("%d are left, not %d and the identity, %v", len(store.Keys()), kept, err)
	}
}
