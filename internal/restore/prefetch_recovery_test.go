package restore

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
)

// The helper goes the way of the server, also when that learns of another timeline.
func TestPrefetchAlongForks(t *testing.T) {
	withHelper(t, recoverySignal, func(h *helped) {
		fork := at(4, 30_000)
		two := along(line{{Timeline: 1, End: fork}}, 2)
		h.putAll(1, 9)
		h.putHistory(2, history(1, fork))
		for n := uint64(4); n <= 9; n++ {
			h.put(seg(2, n), two.wal(n))
		}
		h.wantBytes(seg(1, 1), wal(seg(1, 1), full))
		h.wantStaged(seg(1, 2), seg(1, 3), seg(1, 4), seg(1, 5))
		h.want("00000002.history", CodeDelivered)
		h.write("/data/pg_wal/00000002.history", []byte(history(1, fork)))
		h.wantBytes(seg(1, 2), wal(seg(1, 2), full))
		h.wantStaged(seg(1, 3), seg(2, 4), seg(2, 5), seg(2, 6))
		h.wantBytes(seg(1, 3), wal(seg(1, 3), full))
		h.wantBytes(seg(2, 4), two.wal(4))
		h.wantStaged(seg(2, 5), seg(2, 6), seg(2, 7), seg(2, 8))
	})
}

// Of a staged segment of an ancestor the server gets what lies before the fork, and
// nothing behind. A call that is killed in between leaves the segment as it is.
func TestStagedIsCutAtTheFork(t *testing.T) {
	n := seg(1, 2)
	withHelper(t, recoverySignal, func(h *helped) {
		h.fakeHelper()
		h.putAll(1, 3)
		h.stage(n, wal(n, full))
		h.stage(seg(1, 3), wal(seg(1, 3), full))
		h.write("/data/pg_wal/00000002.history", []byte(history(1, at(2, 30_000))))
		whole := h.dir().Segment(name(n))
		h.localHook = func(op vfs.Op) error {
			if op.Mutates() && h.exists(whole) && firstDifference(h.read(whole), wal(n, full)) < full {
				t.Error("the staged segment was changed")
			}
			return nil
		}
		h.wantBytes(n, cutAt(wal(n, full), 30_000))
		h.want(name(seg(1, 3)), CodeAbsent)
		if h.exists(whole) {
			t.Error("it is still there")
		}
	})
}

// Recoveries of all models give the same with a helper, whatever becomes of it: it is
// killed, hangs, or its disk fails.
func TestPrefetchedRecoveries(t *testing.T) {
	rounds := 4
	if pgtest.Long() {
		rounds = 100
	}
	for title, build := range models {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			m, objects := modelAndObjects(t, build)
			for range rounds {
				seed := rand.Uint64()
				for _, signal := range modes {
					inMode(t, signal, func(t *testing.T, w *world) {
						w.fill(objects)
						h := prefetching(w)
						h.torment(rand.New(rand.NewPCG(seed, 0)))
						s := newServer(w, m.truth)
						if w.standby() {
							s.follow()
						} else {
							s.recover()
						}
						h.end()
						if s.code != 0 || s.strayed || s.pos != m.end {
							t.Errorf("seed %d, %s: code %d %s, strayed %v, at %s, want %s", seed, signal, s.code, s.message, s.strayed, s.pos, m.end)
						}
					})
				}
			}
		})
	}
}

// torment does something to the helper now and then.
func (h *helped) torment(r *rand.Rand) {
	var kill func() // all that were started
	all := h.ctx
	h.changed = func(o *Options) {
		var killed atomic.Bool
		ctx, cancel := context.WithCancel(all)
		h.ctx = ctx
		before := kill
		kill = func() {
			killed.Store(true) // so it cannot remove anything
			cancel()
			if before != nil {
				before()
			}
			h.all.Wait()
		}
		fails := -1
		if r.IntN(3) == 0 {
			fails = r.IntN(40)
		}
		o.FS = vfs.NewFault(h.fs, func(op vfs.Op) error {
			if killed.Load() || fails >= 0 && op.Mutates() && op.Mutation >= fails {
				return vfs.ErrCrashed
			}
			return nil
		})
	}
	h.asked = func(string, int) {
		switch r.IntN(8) {
		case 0:
			if kill != nil {
				kill()
				kill = nil
			}
		case 1:
			synctest.Wait()
		case 2:
			time.Sleep(time.Duration(r.Int64N(int64(2 * helperIdle))))
		}
	}
}

// However the machine ends while segments are staged, what is there under a segment's
// name is whole.
func TestStagingSweep(t *testing.T) {
	for k := 0; ; k++ {
		crashed := false
		inMode(t, recoverySignal, func(t *testing.T, w *world) {
			h := prefetching(w)
			h.putAll(1, 4)
			crasher := vfs.NewCrasher(h.fs, k, rand.New(rand.NewPCG(uint64(k), 1)))
			h.changed = func(o *Options) { o.FS = crasher.FS() }
			h.sys.last = name(seg(1, 1))
			h.must(h.start())
			synctest.Wait()
			h.end()
			var disk *vfs.Mem
			disk, crashed = crasher.Crashed()
			if !crashed {
				return
			}
			h.fs = disk
			for _, file := range h.staged() {
				n, err := segment.ParseName(file, testSize)
				if err != nil || firstDifference(h.read(h.dir().Segment(file)), wal(n, full)) < full {
					t.Errorf("operation %d: %s is not whole", k, file)
				}
			}
		})
		if !crashed {
			if k < 10 {
				t.Errorf("only %d operations", k)
			}
			return
		}
	}
}
