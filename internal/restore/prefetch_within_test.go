package restore

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/storage/storagetest"
)

// A helper that the server would have to reap goes away, and no other one is started
// for that server: its calls fetch what comes next.
func TestAdoptedHelper(t *testing.T) {
	helping(t, recoverySignal, seg(1, 1), func(h *helped) {
		h.parent <- thisServer.PID
		h.all.Wait()
		if len(h.ended) != 1 || !errors.Is(h.ended[0], errAdopted) {
			t.Errorf("it ended with %v", h.ended)
		}
		h.withinCalls()
		h.write("/data/"+pidFile, []byte("4712\n/data\n1790000001\n5432\n"))
		h.wantBytes(seg(1, 1), wal(seg(1, 1), full))
		if h.starts != 2 {
			t.Error("no helper was started for another server")
		}
	})
	helping(t, recoverySignal, seg(1, 1), func(h *helped) {
		h.parent <- 1 // somebody else's
		h.wantStaged(seg(1, 2), seg(1, 3), seg(1, 4), seg(1, 5))
	})
}

// For the first process of a container no helper is ever started.
func TestFirstProcess(t *testing.T) {
	withHelper(t, recoverySignal, func(h *helped) {
		h.write("/data/"+pidFile, []byte("1\n/data\n1790000000\n5432\n"))
		h.putAll(1, 12)
		h.stage(seg(1, 2), wal(seg(1, 2), 9_000)) // of nobody
		h.withinCalls()
		if h.starts > 0 {
			t.Error("a helper was started")
		}
	})
}

// withinCalls goes through a recovery whose calls fetch for the later ones.
func (h *helped) withinCalls() {
	h.t.Helper()
	h.took()
	for n := uint64(1); n <= 12; n++ {
		h.wantBytes(seg(1, n), wal(seg(1, n), full))
		var want []string
		if n%(withinCall+1) == 1 {
			for i := n; i <= n+withinCall; i++ {
				want = append(want, name(seg(1, i)))
			}
		}
		if got := h.took(); !slices.Equal(got, want) {
			h.t.Errorf("for segment %d %v was opened, want %v", n, got, want)
		}
	}
	h.wantStaged()
	h.wantBytes(seg(1, 6), wal(seg(1, 6), full))
	h.wantStaged(seg(1, 7), seg(1, 8), seg(1, 9))
	h.want("00000002.history", CodeAbsent) // the end of a recovery
	h.wantStaged()
}

// What a call fetches besides does not hold back its answer, and is no answer.
func TestWithinCallIsBounded(t *testing.T) {
	for title, fault := range map[string]storagetest.Fault{"hanging": {Hang: true}, "failing": {Before: errDead}, "cut short": {Cut: &storagetest.Cut{At: 100, Err: io.EOF}}} {
		t.Run(title, func(t *testing.T) {
			withHelper(t, recoverySignal, func(h *helped) {
				h.write("/data/"+pidFile, []byte("1\n/data\n1790000000\n5432\n"))
				h.putAll(1, 12)
				h.archiveHook = func(r storagetest.Request) storagetest.Fault {
					if strings.Contains(r.Key, "/wal/") && !strings.Contains(r.Key, name(seg(1, 1))) {
						return fault
					}
					return storagetest.Fault{}
				}
				if took := elapsed(func() { h.wantBytes(seg(1, 1), wal(seg(1, 1), full)) }); took > withinGrace {
					t.Errorf("it took %v", took)
				}
				if got := h.list(); !slices.Equal(got, []string{"calls"}) {
					t.Errorf("it left %v", got)
				}
			})
		})
	}
}

// A call that fetches besides leaves room on the disk, as the helper does.
func TestWithinCallLeavesRoom(t *testing.T) {
	withHelper(t, recoverySignal, func(h *helped) {
		h.write("/data/"+pidFile, []byte("1\n/data\n1790000000\n5432\n"))
		h.putAll(1, 4)
		h.sys.free = roomFor*withinCall*full - 1
		h.wantBytes(seg(1, 1), wal(seg(1, 1), full))
		h.wantStaged()
		h.sys.free++
		h.wantBytes(seg(1, 1), wal(seg(1, 1), full))
		h.wantStaged(seg(1, 2), seg(1, 3), seg(1, 4))
	})
}

// A disk on which segments wait holds up no answer, and is not waited for.
func TestWithinCallDoesNotWaitForTheDisk(t *testing.T) {
	withHelper(t, standbySignal, func(h *helped) {
		h.write("/data/"+pidFile, []byte("1\n/data\n1790000000\n5432\n"))
		h.putAll(1, 12)
		h.localHook = func(op vfs.Op) error {
			switch {
			case !strings.HasPrefix(op.Name, h.dir().Path):
			case op.Kind == vfs.OpSync:
				t.Errorf("%s was synced", op.Name)
			case op.Kind == vfs.OpWriteAt && strings.Contains(op.Name, name(seg(1, 3))):
				time.Sleep(time.Minute)
			}
			return nil
		}
		if took := elapsed(func() { h.wantBytes(seg(1, 1), wal(seg(1, 1), full)) }); took > withinGrace {
			t.Errorf("it took %v", took)
		}
		h.wantStaged(seg(1, 2), seg(1, 4))
		time.Sleep(time.Minute) // until it answers
	})
}

// What a process holds for reading is bounded: who finds no room waits, and what needs
// more than all has it for itself. The asked segment waits for nothing.
func TestMemoryIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(10)
		st := func(n int64) *stream { return &stream{memory: func() int64 { return n }} }
		var taken atomic.Int64
		take := func(ctx context.Context, n int64) {
			if held, err := m.take(ctx, st(n)); err == nil {
				taken.Add(held)
			}
		}
		asked := m.grab(st(8))
		ctx, cancel := context.WithCancel(t.Context())
		go take(ctx, 8)
		go take(t.Context(), 99)
		synctest.Wait()
		if taken.Load() != 0 || m.grab(st(8)) != 0 {
			t.Error("more was given than there is")
		}
		cancel()
		m.give(asked)
		synctest.Wait()
		if taken.Load() != 10 {
			t.Errorf("%d was given", taken.Load())
		}
		m.give(10)
		if _, err := m.take(t.Context(), &stream{}); err != nil {
			t.Error(err)
		}
	})
}

// What a call does for the next ones is no answer, also if it panics.
func TestPrefetchWithinCallPanics(t *testing.T) {
	withHelper(t, recoverySignal, func(h *helped) {
		h.write("/data/"+pidFile, []byte("1\n/data\n1790000000\n5432\n"))
		h.localHook = func(op vfs.Op) error {
			if strings.HasPrefix(op.Name, "/ahead/") && op.Kind == vfs.OpCreate {
				panic("a bug")
			}
			return nil
		}
		h.putAll(1, 9)
		h.wantBytes(seg(1, 1), wal(seg(1, 1), full))
	})
}
