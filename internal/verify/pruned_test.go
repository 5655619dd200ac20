package verify_test

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/verify"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage/storagetest"
)

// prune says that all before a position was removed, and returns what that is.
func (w *world) prune(at segment.LSN) (left []string) {
	w.t.Helper()
	a, err := archive.Open(w.t.Context(), w.store, w.id.SystemID, archive.Keys{})
	if err != nil {
		w.t.Fatal(err)
	}
	p := archive.Pruned{Timeline: 5, Before: at}
	if err := a.PutPruned(w.t.Context(), p, time.Unix(0, 0)); err != nil {
		w.t.Fatal(err)
	}
	for _, key := range w.store.Keys() {
		if o, err := archive.ParseKey(key); err == nil && p.Covers(o, mib) {
			left = append(left, key)
		}
	}
	return left
}

// TestPruned: an archive whose beginning was removed is sound, over forks and with
// parents that are wholly gone, also while it is being removed.
func TestPruned(t *testing.T) {
	r, sound := sample(t)
	for timeline := range segment.TimelineID(5) {
		if on := r.on(timeline + 1); len(on) > 0 {
			sound.putIndex("", on...)
		}
	}
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	cuts := []segment.Name{r.on(1)[2], r.on(2)[0], r.on(5)[1]}
	for _, cut := range cuts {
		w := sound.clone(t)
		left := w.prune(cut.Start(mib))
		rng.Shuffle(len(left), func(i, j int) { left[i], left[j] = left[j], left[i] })
		for _, part := range [][]string{nil, left[:len(left)/2], left[len(left)/2:]} {
			for _, key := range part {
				w.remove(key)
			}
			got := w.verify(verify.Options{Deep: true})
			for _, f := range spelled(slices.Concat(got.Findings, got.Unread)) {
				t.Errorf("seed %d, before %s: %s", seed, cut.Format(mib), f)
			}
			want := []verify.Kind{verify.KindRemoved}
			if len(w.prune(cut.Start(mib))) == 0 {
				want = nil
			}
			if !slices.Equal(kinds(got.Notices), want) {
				t.Errorf("seed %d, before %s: notices %q", seed, cut.Format(mib), spelled(got.Notices))
			}
		}
	}
}

// TestPrunedMeanwhile: what is pruned before it was read is not lost.
func TestPrunedMeanwhile(t *testing.T) {
	r, sound := sample(t)
	on := r.on(1)
	for what, c := range map[string]struct {
		at             segment.Name
		kinds, notices []verify.Kind
	}{
		"pruned": {on[1], nil, []verify.Kind{verify.KindRemoved}},
		"lost":   {on[0], []verify.Kind{verify.KindGone}, nil},
	} {
		w := sound.clone(t)
		var once sync.Once
		store := storagetest.NewFaulty(w.store, func(r storagetest.Request) storagetest.Fault {
			if r.Op == storagetest.OpOpen && r.Key == w.key(on[0]) { // it was listed
				once.Do(func() { w.prune(c.at.Start(mib)); w.remove(w.key(on[0])) })
			}
			return storagetest.Fault{}
		})
		got := w.verifyOn(store, verify.Options{})
		if !slices.Equal(kinds(got.Findings), c.kinds) || !slices.Equal(kinds(got.Notices), c.notices) {
			t.Errorf("%s: findings %q, notices %q", what, spelled(got.Findings), spelled(got.Notices))
		}
	}
}

// TestPrunedTooMuch: the newest segment is never pruned, so that whoever says so is
// wrong, or it is lost.
func TestPrunedTooMuch(t *testing.T) {
	r, w := sample(t)
	newest := r.on(5)
	w.prune(newest[len(newest)-1].End(mib))
	if got := w.verify(verify.Options{}); len(got.Findings) != 1 || got.Findings[0].Kind != verify.KindRemoved || got.Segments != len(r.segments) {
		t.Errorf("%d segments, %q", got.Segments, spelled(got.Findings))
	}
}
