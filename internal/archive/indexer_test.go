package archive

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage/storagetest"
)

// indexKeys lists what index objects are about.
func indexKeys(mem *storagetest.Mem) []string {
	var about []string
	for _, key := range mem.Keys() {
		if o, err := ParseKey(key); err == nil && o.Kind == KindIndex {
			about = append(about, o.Segment+"-"+o.Last)
		}
	}
	return about
}

func span(first, last segment.Name) string {
	return first.Format(testSize) + "-" + last.Format(testSize)
}

// sealedRun puts segments first to last into the spool.
func (r *rig) sealedRun(t segment.TimelineID, first, last uint64) {
	r.t.Helper()
	for number := first; number <= last; number++ {
		r.file(name(t, number).Format(testSize), small(name(t, number)))
	}
}

// running runs an Uploader until stop is called.
func (r *rig) running(u *Uploader) (stop func()) {
	ctx, cancel := context.WithCancel(r.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- u.Run(ctx) }()
	return func() {
		r.t.Helper()
		cancel()
		if err := <-ended; err != nil {
			r.t.Error(err)
		}
	}
}

// expectSameInfos checks that the index says what the objects say.
func (r *rig) expectSameInfos() {
	r.t.Helper()
	with := told(r.t, r.archive)
	bare := storagetest.NewMem()
	for _, key := range r.mem.Keys() {
		if data, _ := r.mem.Get(key); !strings.Contains(key, "/index/") {
			bare.Set(key, data)
		}
	}
	without := told(r.t, &Archive{store: bare, id: testIdentity})
	if !slices.Equal(with, without) || len(with) == 0 {
		r.t.Errorf("infos: %s", firstDifference(with, without))
	}
}

// A block gets its index when its last segment was archived, or its timeline has
// ended, from what is known of the uploads.
func TestIndexIsWrittenBesideUploads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.sealedRun(1, 250, 254)
		opened := map[string]bool{}
		store := storagetest.NewFaulty(r.mem, func(req storagetest.Request) storagetest.Fault {
			if req.Op == storagetest.OpOpen {
				opened[req.Key] = true
			}
			return storagetest.Fault{}
		})
		u := r.uploader(r.disk, store, 3)
		stop := r.running(u)
		synctest.Wait()
		if got := indexKeys(r.mem); len(got) > 0 {
			t.Errorf("before the block is full: %v", got)
		}
		r.sealedRun(1, 255, 260)
		u.Nudge()
		synctest.Wait()
		want := []string{span(name(1, 250), name(1, 255))}
		if got := indexKeys(r.mem); !slices.Equal(got, want) {
			t.Errorf("the block is full: %v", got)
		}
		r.file("00000002.history", []byte(history2))
		r.sealedRun(2, 261, 262)
		u.Nudge()
		synctest.Wait()
		want = append(want, span(name(1, 256), name(1, 260)))
		if got := indexKeys(r.mem); !slices.Equal(got, want) || len(opened) > 0 {
			t.Errorf("the timeline has ended: %v, read %v", got, opened)
		}
		stop()
		r.expectArchived("at the end")
		r.expectSameInfos()
		if lines := r.log.lines(); len(lines) > 0 {
			t.Errorf("logged %q", lines)
		}
	})
}

// Blocks without an index get one at the start, but those that more is to come of;
// and nobody writes what is there.
func TestMissingIndexIsWrittenAtTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		rng := rand.New(rand.NewPCG(1, 8))
		for number := uint64(100); number < 700; number++ {
			fakeSegment(t, r.mem, r.archive, randomInfo(rng, name(1, number)))
		}
		for number := uint64(690); number < 800; number++ {
			fakeSegment(t, r.mem, r.archive, randomInfo(rng, name(2, number)))
		}
		want := []string{
			span(name(1, 100), name(1, 255)), span(name(1, 256), name(1, 511)), span(name(1, 512), name(1, 699)),
			span(name(2, 690), name(2, 767)),
		}
		for range 2 {
			stop := r.running(r.uploader(r.disk, r.mem, 3))
			synctest.Wait()
			stop()
			if got := indexKeys(r.mem); !slices.Equal(got, want) {
				t.Errorf("%v", got)
			}
			r.expectSameInfos()
		}

		// One that does not end where the block ends is not enough.
		r.mem.Set(r.archive.segmentKey(name(1, 700)), []byte("damaged"))
		fakeSegment(t, r.mem, r.archive, randomInfo(rng, name(1, 701)))
		stop := r.running(r.uploader(r.disk, r.mem, 3))
		synctest.Wait()
		stop()
		if got := indexKeys(r.mem); len(got) != 5 || !slices.Contains(got, span(name(1, 512), name(1, 701))) {
			t.Errorf("%v", got)
		}
		r.expectSameInfos()
	})
}

// Segments that fill a hole belong to a block that was written before.
func TestIndexOfFilledHoles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.sealedRun(1, 254, 257)
		u := r.uploader(r.disk, r.mem, 1)
		stop := r.running(u)
		synctest.Wait()
		r.sealedRun(1, 250, 252)
		u.Nudge()
		synctest.Wait()
		stop()
		want := []string{span(name(1, 250), name(1, 255)), span(name(1, 254), name(1, 255))}
		if got := indexKeys(r.mem); !slices.Equal(got, want) {
			t.Errorf("%v", got)
		}
		r.expectSameInfos()
	})
}

// twoBlocks is a spool with the end of a block and the beginning of another, of
// which a history makes an end, too.
func (r *rig) twoBlocks() []string {
	r.t.Helper()
	r.findings()
	r.sealedRun(1, 254, 256)
	r.file("00000002.history", []byte(history2))
	r.sealedRun(2, 257, 257)
	return []string{span(name(1, 254), name(1, 255)), span(name(1, 256), name(1, 256))}
}

// Every request goes wrong once. The index is there in the end, what it says is
// right, and nobody was kept from archiving.
func TestSweepOverRequestsOfTheIndexer(t *testing.T) {
	next := strides(t)
	for what, fault := range map[string]storagetest.Fault{
		"before":     {Before: storagetest.ErrInjected},
		"after":      {After: storagetest.ErrInjected},
		"hangs":      {Hang: true},
		"hang after": {HangAfter: true},
	} {
		k := 0
		for fired := true; fired; {
			k += next()
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				want := r.twoBlocks()
				store := storagetest.NewFaulty(r.mem, storagetest.FailAt(k, fault))
				stop := r.running(r.uploader(r.watched(r.disk, r.store), store, 2))
				time.Sleep(3 * time.Hour)
				r.expectArchived(fmt.Sprint(what, k))
				if got := indexKeys(r.mem); !slices.Equal(got, want) {
					t.Errorf("%s %d: %v", what, k, got)
				}
				r.expectSameInfos()
				stop()
				fired = store.Fired() > 0
				if lines := r.log.lines(); len(lines) > 2 || fired && len(lines) == 0 {
					t.Errorf("%s %d: logged %q", what, k, lines)
				}
			})
		}
		if k < 12 {
			t.Errorf("%s: only %d requests", what, k-1)
		}
	}
}

// strides goes through the steps of a sweep: one by one in the long form of the
// tests, and otherwise by chance, two or three on average.
func strides(t *testing.T) (next func() int) {
	t.Helper()
	if pgtest.Long() {
		return func() int { return 1 }
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	return func() int { return 1 + random.IntN(4) }
}

// The process ends with every request, before or after it took effect, and is
// started again.
func TestSweepOverEndsDuringRequests(t *testing.T) {
	next := strides(t)
	for _, after := range []bool{false, true} {
		k := 0
		for ended := true; ended; {
			k += next()
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				want := r.twoBlocks()
				fault := storagetest.Fault{Hang: true}
				if after {
					fault = storagetest.Fault{HangAfter: true}
				}
				store := storagetest.NewFaulty(r.mem, storagetest.FailAt(k, fault))
				stop := r.running(r.uploader(r.watched(r.disk, r.store), store, 2))
				synctest.Wait()
				stop()
				ended = store.Fired() > 0

				stop = r.running(r.uploader(r.watched(r.disk, r.store), r.mem, 2))
				synctest.Wait()
				stop()
				r.expectArchived("after the restart")
				if got := indexKeys(r.mem); !slices.Equal(got, want) {
					t.Errorf("request %d, %v: %v", k, after, got)
				}
				r.expectSameInfos()
			})
		}
		if k < 12 {
			t.Errorf("only %d requests", k-1)
		}
	}
}

// An archive that takes no index is told of once, and archiving goes on.
func TestArchiveThatTakesNoIndex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.sealedRun(1, 250, 300)
		store := storagetest.NewFaulty(r.mem, func(req storagetest.Request) storagetest.Fault {
			if req.Op == storagetest.OpPut && strings.Contains(req.Key, "/index/") {
				return storagetest.Fault{Before: storagetest.ErrInjected}
			}
			return storagetest.Fault{}
		})
		stop := r.running(r.uploader(r.disk, store, 3))
		time.Sleep(time.Hour)
		stop()
		r.expectArchived("at the end")
		if lines := r.log.lines(); len(lines) != 1 || !strings.HasPrefix(lines[0], "WARN cannot write the index") {
			t.Errorf("logged %q", lines)
		}
	})
}

// A store on which the index hangs does not hang the uploads.
func TestIndexThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.sealedRun(1, 255, 256)
		store := storagetest.NewFaulty(r.mem, func(req storagetest.Request) storagetest.Fault {
			return storagetest.Fault{Hang: strings.Contains(req.Key, "/index/")}
		})
		u := r.uploader(r.disk, store, 1)
		stop := r.running(u)
		synctest.Wait()
		r.sealedRun(1, 257, 257)
		u.Nudge()
		synctest.Wait()
		if at, ok := u.Archived(); !ok || at.LSN != testSize.Start(258) {
			t.Errorf("archived up to %v", at)
		}
		stop()
	})
}

// Segments larger and smaller than those whose names change their middle part
// every 256 numbers are listed by blocks all the same.
func TestBlocksOfAllSegmentSizes(t *testing.T) {
	for size := segment.Size(1 << 20); size <= 1<<30; size *= 2 {
		id := testIdentity
		id.SegmentSize = size
		store := storagetest.NewMem()
		a, err := Init(t.Context(), store, id, Keys{})
		if err != nil {
			t.Fatal(err)
		}
		for _, number := range []uint64{255, 256, 300, 511, 512, 4095, 4096} {
			store.Set(a.segmentKey(name(1, number)), nil)
		}
		store.Set(a.segmentKey(name(1, 300))+".age", nil)
		for b, want := range map[block][]segment.Name{
			{1, 0}:  {name(1, 255)},
			{1, 1}:  {name(1, 256), name(1, 300), name(1, 511)},
			{1, 15}: {name(1, 4095)},
			{1, 16}: {name(1, 4096)},
			{2, 1}:  nil,
		} {
			if got, err := a.listBlock(t.Context(), b); err != nil || !slices.Equal(got, want) {
				t.Errorf("%s, %v: %v, %v", size, b, got, err)
			}
		}
	}
}
