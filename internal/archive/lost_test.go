package archive

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage/storagetest"
)

// TestLost: the index remembers segments that are gone.
func TestLost(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 8))
	store := storagetest.NewMem()
	a, _, _ := newArchive(t, store)
	index := func(timeline segment.TimelineID, first, last uint64) {
		var infos []SegmentInfo
		for n := first; n <= last; n++ {
			infos = append(infos, randomInfo(rng, name(timeline, n)))
		}
		if err := a.putIndex(t.Context(), infos); err != nil {
			t.Fatal(err)
		}
	}
	index(1, 250, 255)
	index(1, 256, 300)
	index(1, 256, 290) // an older one of the same block
	index(2, 300, 310)
	for n := uint64(252); n < 290; n++ {
		fakeSegment(t, store, a, SegmentInfo{Name: name(1, n)})
	}
	fakeSegment(t, store, a, SegmentInfo{Name: name(2, 305)})
	lost := func() (list []string, x *Index) {
		x, err := a.Index(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		l, err := a.Listing(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		holes, err := a.Lost(t.Context(), l, x)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range holes {
			list = append(list, fmt.Sprintf("%d:%d-%d", uint32(h.Timeline), h.First, h.Last))
		}
		return list, x
	}
	if got, x := lost(); !slices.Equal(got, []string{"1:250-251", "1:290-300", "2:300-304", "2:306-310"}) || len(x.Damaged()) > 0 {
		t.Errorf("lost %q, damaged %v", got, x.Damaged())
	}

	objects, err := a.listIndex(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	key := objects[block{2, 1}][0].Key()
	store.Set(key, []byte("no index"))
	if got, x := lost(); !slices.Equal(got, []string{"1:250-251", "1:290-300"}) || len(x.Damaged()) != 1 || x.Damaged()[0].Key != key {
		t.Errorf("lost %q, damaged %v", got, x.Damaged())
	}

	l, err := a.Listing(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	x, err := a.Index(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	a.store = faulty(store, storagetest.OpOpen, storagetest.Fault{Before: storagetest.ErrInjected})
	if _, err := a.Lost(t.Context(), l, x); !errors.Is(err, storagetest.ErrInjected) {
		t.Errorf("a store that fails: %v", err)
	}
	if holes, err := a.Lost(t.Context(), l, nil); err != nil || holes != nil {
		t.Errorf("no index: %v, %v", holes, err)
	}
}
