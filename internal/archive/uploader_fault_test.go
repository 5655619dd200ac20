package archive

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/local"
	"github.com/walrecv/walrecv/storage/storagetest"
)

// watched is a disk that checks, before a complete segment is removed from the
// spool, that the archive could give it back.
func (r *rig) watched(fsys vfs.FS, archive func() storage.Store) vfs.FS {
	return vfs.NewFault(fsys, func(op vfs.Op) error {
		base := path.Base(op.Name)
		if op.Kind != vfs.OpRemove || !segment.IsSegmentName(base) {
			return nil
		}
		n, err := segment.ParseName(base, testSize)
		if err == nil {
			err = isWhole(archive(), n, r.files[base])
		}
		if err != nil {
			r.t.Errorf("%s is removed: in the archive: %v", base, err)
		}
		return nil
	})
}

func (r *rig) store() storage.Store { return r.mem }

// Every request to the store goes wrong once, in every way. All is archived in
// the end, nothing is removed before, and one outage is told of.
func TestSweepOverStoreRequests(t *testing.T) {
	runs := 0
	for what, fault := range map[string]storagetest.Fault{
		"before":     {Before: storagetest.ErrInjected},
		"after":      {After: storagetest.ErrInjected},
		"hangs":      {Hang: true},
		"hang after": {HangAfter: true},
	} {
		k := 0
		for fired := true; fired; {
			k++
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.twoTimelines()
				r.findings()
				store := storagetest.NewFaulty(r.mem, storagetest.FailAt(k, fault))
				u := r.uploader(r.watched(r.disk, r.store), store, 3)
				if err := u.Drain(t.Context()); err != nil {
					t.Errorf("%s %d: %v", what, k, err)
				}
				r.expectArchived(what)
				r.expectPartial(name(1, 3), r.files["000000010000000000000003.partial"])
				r.expectLeft(testGap.FileName(), "000000010000000000000003.partial", "00000002.history", "000000020000000000000004",
					testMark.FileName(testSize), "000000020000000000000005.partial")
				fired = store.Fired() > 0
				if want := 2 * store.Fired(); len(r.log.lines()) != want {
					t.Errorf("%s %d: logged %q", what, k, r.log.lines())
				}
			})
		}
		if k < 9 {
			t.Errorf("%s: only %d requests", what, k-1)
		}
		runs += k
	}
	t.Logf("%d runs", runs)
}

// Many requests go wrong, one after the other and at the same time.
func TestUnreliableStore(t *testing.T) {
	for seed := range uint64(8) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			r.twoTimelines()
			r.findings()
			rng := rand.New(rand.NewPCG(seed, 1))
			store := storagetest.NewFaulty(r.mem, func(storagetest.Request) storagetest.Fault {
				switch rng.IntN(8) {
				case 0:
					return storagetest.Fault{Before: storagetest.ErrInjected}
				case 1, 2:
					return storagetest.Fault{After: storagetest.ErrInjected}
				case 3:
					return storagetest.Fault{HangAfter: true}
				case 4:
					return storagetest.Fault{Cut: &storagetest.Cut{At: rng.Int64N(100), Err: io.EOF}}
				}
				return storagetest.Fault{}
			})
			if err := r.uploader(r.watched(r.disk, r.store), store, 3).Drain(t.Context()); err != nil {
				t.Errorf("seed %d: %v", seed, err)
			}
			r.expectArchived("at the end")
			if lines := r.log.lines(); len(lines)%2 != 0 {
				t.Errorf("seed %d: logged %q", seed, lines)
			}
		})
	}
}

// The same for a store where everything goes wrong for a while.
func TestOutageIsToldOfTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		for n := range uint64(10) {
			r.sealed(name(1, n+1))
		}
		var down atomic.Bool
		down.Store(true)
		store := storagetest.NewFaulty(r.mem, func(storagetest.Request) storagetest.Fault {
			if down.Load() {
				return storagetest.Fault{Before: storagetest.ErrInjected}
			}
			return storagetest.Fault{}
		})
		u := r.uploader(r.disk, store, 4)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- u.Run(ctx) }()
		time.Sleep(6 * time.Hour)
		lines := r.log.lines()
		if len(lines) != 1 || !strings.HasPrefix(lines[0], "WARN cannot archive") || !strings.Contains(lines[0], storagetest.ErrInjected.Error()) {
			t.Errorf("six hours without a store: logged %q", lines)
		}
		if err := u.Trouble(); !errors.Is(err, storagetest.ErrInjected) {
			t.Errorf("six hours without a store: trouble %v", err)
		}
		// 4 workers, a try every 10 to 30 s.
		if tries := store.Requests(); tries < 4*6*3600/30 || tries > 4*6*3600/10+100 {
			t.Errorf("%d tries in six hours", tries)
		}

		down.Store(false)
		time.Sleep(31 * time.Second)
		r.expectArchived("31 s after the outage")
		if lines := r.log.lines(); len(lines) != 2 || !strings.HasPrefix(lines[1], "INFO archiving works again failed_tries=") {
			t.Errorf("after the outage: logged %q", lines)
		}
		if err := u.Trouble(); err != nil {
			t.Errorf("after the outage: trouble %v", err)
		}

		// The next one is told of again, also if the uploader was stopped in it.
		down.Store(true)
		r.sealed(name(1, 11))
		u.Nudge()
		time.Sleep(time.Minute)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		down.Store(false)
		if err := u.Drain(t.Context()); err != nil {
			t.Error(err)
		}
		if lines := r.log.lines(); len(lines) != 4 {
			t.Errorf("after the second outage: logged %q", lines)
		}
	})
}

// One segment that does not get through keeps the others from passing, and is
// one outage, however often others succeed.
func TestOneSegmentInTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		for n := range uint64(10) {
			r.sealed(name(1, n+1))
		}
		var tries atomic.Int32
		store := storagetest.NewFaulty(r.mem, func(req storagetest.Request) storagetest.Fault {
			if req.Key == r.archive.segmentKey(name(1, 4)) && tries.Add(1) <= 20 {
				return storagetest.Fault{Before: storagetest.ErrInjected}
			}
			return storagetest.Fault{}
		})
		u := r.uploader(r.disk, store, 2)
		if err := u.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.expectArchived("at the end")
		if lines := r.log.lines(); len(lines) != 2 || !strings.Contains(lines[1], "failed_tries=20") {
			t.Errorf("logged %q", lines)
		}
	})
}

// The process ends at every operation on the disk of the spool. Whatever is
// found then: nothing is lost, and the next run archives all the rest.
func TestSweepOverEndsOfTheProcess(t *testing.T) {
	k := 0
	for crashed := true; crashed; k++ {
		r := newRig(t)
		r.twoTimelines()
		r.findings()
		killer := vfs.NewKiller(r.disk, k)
		u := r.uploader(r.watched(killer.FS(), r.store), r.mem, 3)
		err := u.Drain(t.Context())
		var disk *vfs.Mem
		if disk, crashed = killer.Crashed(); !crashed {
			if err != nil {
				t.Fatal(err)
			}
			break
		}
		r.expectSafe(disk, r.mem, "after the crash")

		again := r.uploader(r.watched(disk, r.store), r.mem, 3)
		if err := again.Drain(t.Context()); err != nil {
			t.Fatalf("operation %d: %v", k, err)
		}
		r.expectArchived("after the restart")
		r.expectPartial(name(1, 3), r.files["000000010000000000000003.partial"])
		left := slices.DeleteFunc(r.left(disk), func(s string) bool { return strings.HasSuffix(s, ".tmp") })
		want := []string{
			testGap.FileName(), "000000010000000000000003.partial", "00000002.history", "000000020000000000000004",
			testMark.FileName(testSize), "000000020000000000000005.partial",
		}
		if !slices.Equal(left, want) {
			t.Errorf("operation %d: left %v", k, left)
		}
	}
	if k < 15 {
		t.Errorf("only %d operations", k)
	}
	t.Logf("%d operations", k)
}

// What is removed from the spool survives a power loss of the archive's machine
// at that moment.
func TestRemovedOnlyWhenDurable(t *testing.T) {
	r := newRig(t)
	r.twoTimelines()
	far := vfs.NewMem()
	if err := far.Mkdir("/archive", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := far.SyncDir("/"); err != nil {
		t.Fatal(err)
	}
	removed := 0
	fsys := r.watched(r.disk, func() storage.Store {
		removed++
		return local.New(far.CrashClone(nil), "/archive", local.Private)
	})
	if err := r.uploader(fsys, local.New(far, "/archive", local.Private), 3).Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if removed != 3 {
		t.Errorf("%d segments were removed", removed)
	}
}

// A spool on a full disk is emptied by archiving it.
func TestFullDisk(t *testing.T) {
	r := newRig(t)
	for n := range uint64(6) {
		r.sealed(name(1, n+1))
	}
	r.disk.SetCapacity(r.disk.Used())
	if err := r.uploader(r.disk, r.mem, 4).Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.expectArchived("at the end")
	r.expectLeft(name(1, 6).Format(testSize))
	if lines := r.log.lines(); len(lines) > 0 {
		t.Errorf("logged %q", lines)
	}
}

// A store that says "taken" and then shows nothing is not believed.
func TestObjectThatComesAndGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.sealed(name(1, 1), name(1, 2))
		mustPut(t, r.archive, NewScratch(vfs.NewMem(), "/"), name(1, 1), wal(name(1, 1), 2, 0))
		calls := 0
		store := storagetest.NewFaulty(r.mem, func(req storagetest.Request) storagetest.Fault {
			if req.Op != storagetest.OpOpen {
				return storagetest.Fault{}
			}
			if calls++; calls == 1 {
				return storagetest.Fault{Before: fs.ErrNotExist}
			}
			return storagetest.Fault{}
		})
		if err := r.uploader(r.watched(r.disk, r.store), store, 1).Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if calls != 2 {
			t.Errorf("%d looks", calls)
		}
		r.expectArchived("at the end")
	})
}
