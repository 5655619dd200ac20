package restore

import (
	"bytes"
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
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/storagetest"
)

// tell asks as a call does that needs no answer.
func (h *helped) tell(n segment.Name) {
	h.t.Helper()
	if !h.sys.Ring(h.dir().Bell(), name(n)) {
		h.t.Fatal("there is no helper")
	}
	synctest.Wait()
}

// helping has a helper that was started by a call for a segment.
func helping(t *testing.T, signal string, first segment.Name, test func(h *helped)) {
	t.Helper()
	withHelper(t, signal, func(h *helped) {
		h.putAll(1, 12)
		h.wantBytes(first, wal(first, full))
		h.took()
		test(h)
	})
}

// What is staged moves on with what is asked for.
func TestPrefetchMovesOn(t *testing.T) {
	helping(t, recoverySignal, seg(1, 1), func(h *helped) {
		h.wantStaged(seg(1, 2), seg(1, 3), seg(1, 4), seg(1, 5))
		h.tell(seg(1, 3)) // nobody has taken 2
		h.wantStaged(seg(1, 3), seg(1, 4), seg(1, 5), seg(1, 6), seg(1, 7))
		h.tell(seg(1, 9))
		h.wantStaged(seg(1, 10), seg(1, 11), seg(1, 12))
		h.wantBytes(seg(1, 10), wal(seg(1, 10), full))
		h.tell(seg(1, 8)) // a server that has ended in a crash begins anew
		h.wantStaged(seg(1, 9), seg(1, 10), seg(1, 11), seg(1, 12))
		h.tell(seg(1, 2))
		h.wantStaged(seg(1, 3), seg(1, 4), seg(1, 5), seg(1, 6))
	})
}

// However large segments are, what is staged has a bound, and so has what it leaves
// free on the disk.
func TestPrefetchIsBounded(t *testing.T) {
	helping(t, recoverySignal, seg(1, 1), func(h *helped) {
		hp := &helper{ahead: &ahead{call: &call{o: h.o}}, fetcher: &fetcher{}}
		for size, want := range map[segment.Size]uint64{1 << 20: 4, 256 << 20: 4, 512 << 20: 2, 1 << 30: 1} {
			hp.fetcher.cluster.Size = size
			if got := hp.last(); got != want {
				t.Errorf("%d segments of %s are prefetched, want %d", got, size, want)
			}
		}
		h.sys.set(func() { h.sys.free = 2*ahead4*full - 1 })
		h.tell(seg(1, 3))
		h.wantStaged(seg(1, 3), seg(1, 4), seg(1, 5))
		h.sys.set(func() { h.sys.free = 2 * ahead4 * full })
		time.Sleep(backoffMost)
		h.tell(seg(1, 4))
		h.wantStaged(seg(1, 4), seg(1, 5), seg(1, 6), seg(1, 7), seg(1, 8))
	})
}

// At the end of the archive no request is made but the one for what was not there, when
// a new segment is asked for, and not for each where many are.
func TestPrefetchAtTheEnd(t *testing.T) {
	helping(t, standbySignal, seg(1, 10), func(h *helped) {
		h.wantStaged(seg(1, 11), seg(1, 12))
		h.took()
		h.tell(seg(1, 11))
		for range 20 {
			h.tell(seg(1, 11))
		}
		if got := h.took(); len(got) > 0 {
			t.Errorf("a moment after nothing was there %v was opened", got)
		}
		time.Sleep(helperLook)
		h.tell(seg(1, 12))
		if got := h.took(); !slices.Equal(got, []string{name(seg(1, 13))}) {
			t.Errorf("in front of the end %v was opened", got)
		}
		h.tell(seg(1, 13))
		h.putAll(13, 17) // they come, while nothing is asked
		time.Sleep(helperLook)
		if got := h.took(); len(got) > 0 {
			t.Errorf("behind the end %v was opened", got)
		}
		h.tell(seg(1, 14))
		h.wantStaged(seg(1, 15), seg(1, 16), seg(1, 17))
	})
}

// At its end a recovery asks for the last segment once more.
func TestLastSegmentOnceMore(t *testing.T) {
	helping(t, recoverySignal, seg(1, 9), func(h *helped) {
		for n := uint64(10); n <= 12; n++ {
			h.wantBytes(seg(1, n), wal(seg(1, n), full))
		}
		h.want(name(seg(1, 13)), CodeAbsent)
		h.wantStaged(seg(1, 12))
		h.want(name(seg(1, 13)), CodeAbsent)
		h.took()
		h.wantBytes(seg(1, 12), wal(seg(1, 12), full))
		if got := h.took(); slices.Contains(got, name(seg(1, 12))) {
			t.Errorf("%v was opened", got)
		}
	})
}

// The helper ends by itself, and leaves nothing.
func TestHelperEnds(t *testing.T) {
	for title, c := range map[string]struct {
		with   func(h *helped)
		within time.Duration
		err    error
	}{
		"idle": {func(h *helped) {
			for n := uint64(2); n <= 12; n++ {
				h.wantBytes(seg(1, n), wal(seg(1, n), full))
			}
		}, helperIdle, errIdle},
		"recovery over":  {func(h *helped) { h.remove("/data/" + recoverySignal) }, helperIdle, errIdle},
		"server gone":    {func(h *helped) { h.remove("/data/" + pidFile) }, helperLook, errServer},
		"server dead":    {func(h *helped) { h.sys.set(func() { h.sys.dead = true }) }, helperLook, errServer},
		"another server": {func(h *helped) { h.write("/data/"+pidFile, []byte("4712\n/data\n1790000001\n5432\n")) }, helperLook, errServer},
		"server stopping": {func(h *helped) {
			h.write("/data/"+pidFile, []byte("4711\n/data\n1790000000\n5432\n/tmp\n*\n 1 2\nstopping\n"))
		}, helperLook, errServer},
		"told":           {func(h *helped) { h.stop() }, 0, context.Canceled},
		"directory gone": {func(h *helped) { h.lose() }, helperLook, errLost},
	} {
		t.Run(title, func(t *testing.T) {
			helping(t, recoverySignal, seg(1, 1), func(h *helped) {
				h.wantStaged(seg(1, 2), seg(1, 3), seg(1, 4), seg(1, 5))
				c.with(h)
				if took := elapsed(h.all.Wait); took > c.within {
					t.Errorf("it took %v", took)
				}
				if len(h.ended) != 1 || !errors.Is(h.ended[0], c.err) {
					t.Errorf("it ended with %v", h.ended)
				}
				if entries, err := h.fs.ReadDir("/ahead"); len(entries) > 0 || err != nil {
					t.Errorf("it left %v, %v", entries, err)
				}
			})
		})
	}
}

// lose removes the directory.
func (h *helped) lose() {
	h.t.Helper()
	for _, file := range h.list() {
		h.remove(h.dir().Segment(file))
	}
	h.must(h.fs.Remove(h.dir().Path))
	h.sys.set(func() {
		b := h.sys.bells[h.dir().Bell()]
		b.lost = true
		delete(h.sys.bells, b.name)
	})
}

// A helper that has lost its directory leaves that of the next one alone.
func TestHelperHasLostItsDirectory(t *testing.T) {
	withHelper(t, recoverySignal, func(h *helped) {
		h.putAll(1, 9)
		helpers := 0
		h.changed = func(o *Options) {
			helpers++
			first := helpers == 1
			o.FS = vfs.NewFault(h.fs, func(op vfs.Op) error {
				switch content := op.Kind == vfs.OpWriteAt && op.Offset > 0 && strings.HasSuffix(op.Name, ".tmp"); {
				case content && first:
					time.Sleep(lifeSign / 5) // a slow network
				case content:
					time.Sleep(helperLook) // that is slower now
				}
				return nil
			})
		}
		h.wantBytes(seg(1, 1), wal(seg(1, 1), full))
		synctest.Wait()
		h.lose()
		h.wantBytes(seg(1, 2), wal(seg(1, 2), full)) // starts another helper
		time.Sleep(helperLook * 3 / 4)               // and the first one notices
		synctest.Wait()
		if len(h.ended) != 1 {
			t.Fatalf("%v has ended", h.ended)
		}
		if h.starts != 2 || !errors.Is(h.ended[0], errLost) || len(h.staged()) > 0 {
			t.Errorf("%d were started, %v has ended, and %v is there", h.starts, h.ended, h.staged())
		}
		for n := uint64(3); n <= 6; n++ {
			h.wantBytes(seg(1, n), wal(seg(1, n), full))
		}
		if h.starts != 2 {
			t.Errorf("%d were started", h.starts)
		}
	})
}

// What the server asks for again and again keeps no helper.
func TestHelperIsIdleBesideAFollower(t *testing.T) {
	helping(t, standbySignal, seg(1, 12), func(h *helped) {
		for range 100 {
			h.ask(name(seg(1, 13)))
			h.ask("00000002.history")
			time.Sleep(500 * time.Millisecond)
		}
		synctest.Wait()
		if h.starts != 1 || len(h.ended) != 1 || !errors.Is(h.ended[0], errIdle) {
			t.Errorf("%d started, ended with %v", h.starts, h.ended)
		}
	})
}

// There is one helper for a directory.
func TestOneHelper(t *testing.T) {
	helping(t, recoverySignal, seg(1, 1), func(h *helped) {
		h.sys.last = name(seg(1, 1))
		h.must(h.start())
		synctest.Wait()
		if len(h.ended) != 1 || h.ended[0] != nil {
			t.Errorf("the second one ended with %v", h.ended)
		}
		h.wantStaged(seg(1, 2), seg(1, 3), seg(1, 4), seg(1, 5))
	})
}

// A helper begins with an empty directory.
func TestHelperRemovesWhatWasLeft(t *testing.T) {
	withHelper(t, recoverySignal, func(h *helped) {
		h.putAll(1, 3)
		h.stage(seg(1, 2), wal(seg(1, 2), 9_000))
		h.stage(seg(7, 9), nil)
		h.write(h.dir().Segment(name(seg(1, 3))+".0.tmp"), nil)
		h.calls(thisServer)
		h.must(h.fs.Remove(h.dir().Path + "/calls"))
		for n := uint64(1); n <= 3; n++ {
			h.wantBytes(seg(1, n), wal(seg(1, n), full))
			synctest.Wait() // the helper takes its time to start
		}
		if got := h.staged(); len(got) > 0 {
			t.Errorf("%v is there", got)
		}
	})
}

// A call waits for what is on its way as long as it comes, and then fetches it itself.
func TestOnItsWay(t *testing.T) {
	// No look falls into the moment in which a file is exchanged.
	const between = 37 * time.Microsecond
	n := seg(1, 2)
	scratch := func(h *helped) string { return h.dir().Segment(name(n)) + ".0.tmp" }
	for title, c := range map[string]struct {
		goesOn func(h *helped) // beside the call
		within time.Duration
		hit    bool
	}{
		"hanging": {func(*helped) {}, flightStall + time.Second/10, false},
		"fails":   {func(h *helped) { time.Sleep(flightStall / 2); h.remove(scratch(h)) }, flightStall/2 + time.Second/10, false},
		"arrives": {func(h *helped) {
			time.Sleep(flightStall/2 + between)
			h.write(scratch(h), wal(n, full))
			h.must(vfs.Move(h.fs, nil, scratch(h), h.dir().Segment(name(n))))
		}, flightStall, true},
		"slow": {func(h *helped) {
			for range 60 {
				time.Sleep(flightStall*9/10 + between)
				h.write(scratch(h), nil) // another file for who looks at it
			}
			h.write(scratch(h), wal(n, full))
			h.must(vfs.Move(h.fs, nil, scratch(h), h.dir().Segment(name(n))))
		}, 2 * time.Minute, true},
	} {
		t.Run(title, func(t *testing.T) {
			withHelper(t, standbySignal, func(h *helped) {
				h.putAll(1, 3)
				h.o.RetryFor = 2 * flightStall
				h.fakeHelper()
				h.write(scratch(h), nil)
				h.all.Go(func() { c.goesOn(h) })
				if took := elapsed(func() { h.wantBytes(n, wal(n, full)) }); took > c.within {
					t.Errorf("it took %v", took)
				}
				if hit := len(h.took()) == 0; hit != c.hit {
					t.Errorf("the staged segment was used: %v", hit)
				}
				if h.exists(scratch(h)) {
					t.Error("the next call would wait for it again")
				}
			})
		})
	}
}

// What comes slowly shows, so that no call takes it for something that hangs, and what was
// taken away is not fetched on.
func TestSlowlyOnItsWay(t *testing.T) {
	withHelper(t, recoverySignal, func(h *helped) {
		n := seg(1, 2)
		h.must(h.dir().Make())
		scratch, err := h.dir().Begin(name(n))
		h.must(err)
		h.must(scratch.Preallocate(full))
		body := &showing{ReadCloser: io.NopCloser(slowReader{bytes.NewReader(make([]byte, full))}), scratch: scratch, shown: time.Now()}
		before := h.dir().Flying()[name(n)]
		for range 10 {
			_, err := body.Read(make([]byte, 10_000))
			h.must(err)
			now := h.dir().Flying()[name(n)]
			if now == before {
				t.Error("nothing was to be seen")
			}
			before = now
		}
		h.dir().GiveUp(before)
		if _, err := body.Read(make([]byte, 10_000)); err == nil {
			t.Error("it goes on")
		}
		scratch.Abandon()
		if got := h.list(); len(got) > 0 {
			t.Errorf("%v is left", got)
		}
	})
}

// A call that should not wait takes nothing away from the next ones; nor does one whose
// segment alone does not come.
func TestGivenUpAlone(t *testing.T) {
	for title, with := range map[string]func(h *helped){
		"own copy": func(h *helped) { h.write("/data/pg_wal/"+name(seg(1, 2)), wal(seg(1, 2), full)) },
		"others come": func(h *helped) {
			h.all.Go(func() {
				for range 40 {
					time.Sleep(flightStall / 10)
					h.write(h.dir().Segment(name(seg(1, 3)))+".0.tmp", nil) // another one
				}
			})
		},
		"syncing": func(h *helped) { h.write(h.dir().Segment(name(seg(1, 4)))+".0.tmp.sync", nil) },
	} {
		t.Run(title, func(t *testing.T) {
			withHelper(t, standbySignal, func(h *helped) {
				h.putAll(1, 4)
				h.fakeHelper()
				for n := uint64(2); n <= 3; n++ {
					h.write(h.dir().Segment(name(seg(1, n)))+".0.tmp", nil)
				}
				with(h)
				h.wantBytes(seg(1, 2), wal(seg(1, 2), full))
				if !h.exists(h.dir().Segment(name(seg(1, 3))) + ".0.tmp") {
					t.Error("it took away what is for the next call")
				}
			})
		})
	}
}

// A disk that is slow to sync has nothing fetched twice.
func TestSlowSync(t *testing.T) {
	withHelper(t, recoverySignal, func(h *helped) {
		h.putAll(1, 12)
		h.changed = func(o *Options) {
			o.FS = vfs.NewFault(h.fs, func(op vfs.Op) error {
				if op.Kind == vfs.OpSync {
					time.Sleep(flightStall * 5 / 4)
				}
				return nil
			})
		}
		for n := uint64(1); n <= 9; n++ {
			h.wantBytes(seg(1, n), wal(seg(1, n), full))
			synctest.Wait() // what comes next is on its way now
		}
		opened := slices.DeleteFunc(h.took(), func(file string) bool { return file > name(seg(1, 12)) })
		if once := slices.Compact(slices.Clone(opened)); len(once) < len(opened) {
			t.Errorf("%v was opened", opened)
		}
	})
}

// slowReader reads in small pieces that take their time.
type slowReader struct{ io.Reader }

func (r slowReader) Read(p []byte) (int, error) {
	time.Sleep(flightStall / 3)
	return r.Reader.Read(p[:min(len(p), 10_000)])
}

// A promotion is not held up by a helper that hangs.
func TestPromotionDoesNotWaitForAHelper(t *testing.T) {
	withHelper(t, standbySignal, func(h *helped) {
		h.archiveHook = hanging
		h.fakeHelper()
		h.write(h.dir().Segment(name(seg(1, 2)))+".0.tmp", nil)
		h.all.Go(func() {
			time.Sleep(flightStall / 4)
			h.write("/data/"+promoteSignal, nil)
		})
		if took := elapsed(func() { h.want(name(seg(1, 2)), CodeAbsent) }); took > flightStall/2 {
			t.Errorf("it took %v", took)
		}
	})
}

// A store that fails makes the helper quiet, and is asked again when something is asked
// for. No answer is another one for it.
func TestPrefetchAndAFailingStore(t *testing.T) {
	helping(t, recoverySignal, seg(1, 1), func(h *helped) {
		requests := 0
		h.archiveHook = func(storagetest.Request) storagetest.Fault {
			requests++
			return storagetest.Fault{Before: errDead}
		}
		h.tell(seg(1, 2)) // two more would be due
		if requests != 1 {
			t.Errorf("%d requests", requests)
		}
		time.Sleep(20 * time.Second)
		if requests != 1 {
			t.Errorf("%d requests without being asked", requests)
		}
		h.archiveHook = h.note
		h.wantBytes(seg(1, 3), wal(seg(1, 3), full))
		h.wantStaged(seg(1, 4), seg(1, 5), seg(1, 6), seg(1, 7))
		if text := string(h.read(h.dir().Path + "/log")); strings.Count(text, "\n") != 2 {
			t.Errorf("log: %s", text)
		}
	})
}

// With the archive gone at its start, the helper opens it later.
func TestHelperOpensPlacesLater(t *testing.T) {
	withHelper(t, recoverySignal, func(h *helped) {
		h.putAll(1, 9)
		var broken atomic.Bool
		broken.Store(true)
		h.changed = func(o *Options) {
			open := o.Archive.Open
			o.Archive.Open = func(ctx context.Context) (storage.Store, error) {
				if broken.Load() {
					return nil, errDead
				}
				return open(ctx)
			}
		}
		h.wantBytes(seg(1, 1), wal(seg(1, 1), full))
		h.wantStaged()
		broken.Store(false)
		time.Sleep(backoffMost)
		h.wantBytes(seg(1, 2), wal(seg(1, 2), full))
		h.wantStaged(seg(1, 3), seg(1, 4), seg(1, 5), seg(1, 6))
	})
}

// One place that does not answer, or not at once, is nothing to the other one.
func TestHelperWithOnePlace(t *testing.T) {
	for title, open := range map[string]func(context.Context) (storage.Store, error){
		"failing": func(context.Context) (storage.Store, error) { return nil, errDead },
		"hanging": func(ctx context.Context) (storage.Store, error) { <-ctx.Done(); return nil, ctx.Err() },
	} {
		t.Run(title, func(t *testing.T) {
			withHelper(t, recoverySignal, func(h *helped) {
				h.withSpool()
				h.putAll(1, 12)
				h.changed = func(o *Options) { o.Spool.Open = open }
				h.wantBytes(seg(1, 1), wal(seg(1, 1), full))
				h.took()
				for n := uint64(2); n <= 8; n++ {
					h.wantBytes(seg(1, n), wal(seg(1, n), full))
					h.wantStaged(seg(1, n+1), seg(1, n+2), seg(1, n+3), seg(1, n+4))
					time.Sleep(time.Second / 10)
				}
				if opened := h.took(); len(opened) > 11 {
					t.Errorf("%v was opened", opened)
				}
			})
		})
	}
}

// The server goes at once to a timeline that has a descendant, and that the helper has
// not heard of.
func TestPrefetchTurns(t *testing.T) {
	helping(t, standbySignal, seg(1, 1), func(h *helped) {
		fork := at(4, 30_000)
		two := along(line{{Timeline: 1, End: fork}}, 2)
		for n := uint64(4); n <= 9; n++ {
			h.put(seg(2, n), two.wal(n))
		}
		h.wantStaged(seg(1, 2), seg(1, 3), seg(1, 4), seg(1, 5))
		time.Sleep(5 * time.Second) // it streams, and with that comes
		h.write("/data/pg_wal/00000002.history", []byte(history(1, fork)))
		h.write("/data/pg_wal/00000003.history", []byte(history(1, fork, 2, at(8, 100))))
		h.wantBytes(seg(2, 4), two.wal(4))
		h.wantStaged(seg(2, 5), seg(2, 6), seg(2, 7), seg(2, 8))
	})
}

// A helper that panics tidies up, and says so.
func TestHelperPanics(t *testing.T) {
	withHelper(t, recoverySignal, func(h *helped) {
		var panics atomic.Bool
		h.changed = func(o *Options) {
			o.FS = vfs.NewFault(h.fs, func(op vfs.Op) error {
				if panics.Load() && op.Kind == vfs.OpReadDir && op.Name == "/data/pg_wal" {
					panic("a bug")
				}
				return nil
			})
		}
		h.putAll(1, 9)
		h.wantBytes(seg(1, 1), wal(seg(1, 1), full))
		h.wantStaged(seg(1, 2), seg(1, 3), seg(1, 4), seg(1, 5))
		panics.Store(true)
		time.Sleep(2 * helperLook)
		h.tell(seg(1, 2))
		h.all.Wait()
		if got := h.list(); !slices.Equal(got, []string{"log"}) || !strings.Contains(string(h.read(h.dir().Path+"/log")), "a bug") {
			t.Errorf("it left %v", got)
		}
	})
}

// Nothing that waits is fetched again because the replay of a segment takes long.
func TestSlowReplay(t *testing.T) {
	for _, signal := range modes {
		withHelper(t, signal, func(h *helped) {
			h.putAll(1, 12)
			for n := uint64(1); n <= 8; n++ {
				h.wantBytes(seg(1, n), wal(seg(1, n), full))
				time.Sleep(2 * helperIdle)
			}
			if opened := h.took(); h.starts != 1 || len(opened) != 12 {
				t.Errorf("%d helpers have opened %v", h.starts, opened)
			}
		})
	}
}

// A disk that does not answer keeps no helper.
func TestHelperEndsWithAHangingDisk(t *testing.T) {
	withHelper(t, recoverySignal, func(h *helped) {
		h.putAll(1, 12)
		h.changed = func(o *Options) {
			o.FS = vfs.NewFault(h.fs, func(op vfs.Op) error {
				if op.Kind == vfs.OpSync {
					time.Sleep(time.Hour)
				}
				return nil
			})
		}
		h.wantBytes(seg(1, 1), wal(seg(1, 1), full))
		h.remove("/data/" + pidFile)
		if took := elapsed(h.all.Wait); took > helperLook+helperEnd {
			t.Errorf("it took %v", took)
		}
		time.Sleep(2 * time.Hour) // now it answers
	})
}

// A panic while something is fetched ends nothing.
func TestPrefetchPanics(t *testing.T) {
	withHelper(t, recoverySignal, func(h *helped) {
		var panics atomic.Bool
		h.changed = func(o *Options) {
			o.FS = vfs.NewFault(h.fs, func(op vfs.Op) error {
				if panics.Load() && op.Kind == vfs.OpPreallocate {
					panic("a bug")
				}
				return nil
			})
		}
		panics.Store(true)
		h.putAll(1, 9)
		h.wantBytes(seg(1, 1), wal(seg(1, 1), full))
		h.wantStaged()
		panics.Store(false)
		time.Sleep(backoffMost)
		h.tell(seg(1, 2))
		h.wantStaged(seg(1, 3), seg(1, 4), seg(1, 5), seg(1, 6))
		if got := h.list(); !slices.Contains(got, "log") {
			t.Errorf("there is no log in %v", got)
		}
	})
}
