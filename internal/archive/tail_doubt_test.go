package archive

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
)

// cameDamaged has the tail archived and acknowledged up to each of some positions, of
// WAL that came damaged, which the receiver asks for again.
func cameDamaged(r *tailRig, to ...segment.LSN) {
	r.t.Helper()
	r.start()
	r.connect()
	r.salt[1] = 1
	for _, to := range to {
		r.send(to, true)
		synctest.Wait()
		if r.ackedTo() != to {
			r.t.Fatalf("%s is acknowledged of %s", r.ackedTo(), to)
		}
	}
	r.salt[1] = 0
	r.highest = 100 * testStart // the rig finds the damage
	r.tail.Damaged(segment.Position{Timeline: 1, LSN: testStart})
}

// acked waits until all that came is acknowledged.
func acked(r *tailRig) {
	r.t.Helper()
	time.Sleep(time.Minute)
	if got, to := r.ackedTo(), r.writer.Position().LSN; got != to {
		r.t.Errorf("%s: %s is acknowledged of %s", r.what, got, to)
	}
}

// mended fails unless the archive has all of what came again, and nothing else.
func mended(r *tailRig) {
	r.t.Helper()
	acked(r)
	r.expectArchived(testStart, r.writer.Position().LSN)
}

// What came damaged gets into the tail before it is noticed; what comes again takes
// its place, as far as it goes, and however it comes.
func TestTailOfDamage(t *testing.T) {
	const size = segment.LSN(testSize)
	for what, steps := range map[string][]segment.LSN{ // 0: another connection
		"as far as before":       {5000},
		"further":                {9000},
		"by and by":              {700, 4000, 5000},
		"whole at once":          {3*size + 5},
		"whole after a while":    {5000, 3*size + 5},
		"in several connections": {3000, 0, 5000, 0, 5000},
		"in the same chunks":     {1000, 2000, 5000},
		"in chunks that overlap": {1500, 2500, 4500, 0, 4700, 6000},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newTailRig(t)
			r.what = what
			cameDamaged(r, testStart+1000, testStart+2000, testStart+5000)
			r.connectAt(segment.Position{Timeline: 1, LSN: testStart})
			for _, to := range steps {
				if to == 0 {
					r.connect()
					continue
				}
				r.send(testStart+to, true)
				acked(r)
			}
			mended(r)
			r.end(true)
		})
	}
}

// Nobody has asked for it again: it is another server.
func TestTailOfNoDamage(t *testing.T) {
	for what, damaged := range map[string]segment.LSN{"no damage": 0, "damage further on": 2 * testStart} {
		synctest.Test(t, func(t *testing.T) {
			r := newTailRig(t)
			r.start()
			r.connect()
			r.send(testStart+5000, true)
			synctest.Wait()
			r.salt[1] = 1
			r.highest = 100 * testStart
			if damaged > 0 {
				r.tail.Damaged(segment.Position{Timeline: 1, LSN: damaged})
			}
			r.connectAt(segment.Position{Timeline: 1, LSN: testStart})
			r.send(testStart+6000, true)
			time.Sleep(time.Hour)
			got := r.ackedTo()
			if err := r.stop(); !errors.Is(err, segment.ErrBranch) || got > testStart {
				t.Errorf("%s: acknowledged %s, and it ended with %v", what, got, err)
			}
		})
	}
}

// full is a store that nothing gets into while it is.
type full struct {
	storage.Store
	is atomic.Bool
}

func (f *full) Put(ctx context.Context, key string, src storage.Source) error {
	if f.is.Load() {
		return errors.New("full")
	}
	return f.Store.Put(ctx, key, src)
}

func (f *full) Delete(ctx context.Context, key string) error {
	return f.Store.(storage.Deleter).Delete(ctx, key)
}

// What came damaged may be all that there is: it stays until something is in its
// place, also if the server does not have it any more.
func TestTailOfDamageStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTailRig(t)
		f := &full{Store: r.mem}
		r.store = f
		cameDamaged(r, testStart+5000)
		f.is.Store(true)
		before := r.chunks()
		for range 2 {
			r.connectAt(segment.Position{Timeline: 1, LSN: testStart})
			r.send(testStart+5000, true)
			time.Sleep(time.Hour)
			if after := r.chunks(); len(after) != 1 || after[0] != before[0] {
				t.Errorf("%v became %v", before, after)
			}
		}
		f.is.Store(false)
		r.connectAt(segment.Position{Timeline: 1, LSN: testStart})
		r.send(testStart+700, true)
		acked(r)
		if after := r.chunks(); !slices.Contains(after, before[0]) {
			t.Errorf("%v became %v, before all of it had come again", before, after)
		}
		r.send(testStart+5000, true)
		mended(r)
		r.end(true)
	})
}

// Where nothing can be deleted, it is told once, and does not count.
func TestTailOfDamageForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTailRig(t)
		r.store = struct{ storage.Store }{r.mem}
		cameDamaged(r, testStart+5000)
		for range 3 {
			r.connectAt(segment.Position{Timeline: 1, LSN: testStart})
			r.send(testStart+5000, true)
			acked(r)
		}
		told := slices.DeleteFunc(r.log.lines(), func(line string) bool { return !strings.Contains(line, "cannot be deleted: until") })
		if len(told) != 1 || !strings.HasPrefix(told[0], "ERROR") {
			t.Errorf("told: %v", told)
		}
		r.send(2*testStart+5, true)
		time.Sleep(time.Hour)
		mended(r)
		r.end(true)
	})
}
