package archive

import (
	"context"
	"errors"
	"io"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/storagetest"
)

// scratched is a disk that asks before it makes the scratch file of a segment.
func (r *rig) scratched(may func(base string) error) vfs.FS {
	return vfs.NewFault(r.disk, func(op vfs.Op) error {
		base, ok := strings.CutSuffix(path.Base(op.Name), scratchSuffix)
		if !ok || op.Kind != vfs.OpCreate {
			return nil
		}
		return may(base)
	})
}

// fullDisk is a disk without room for anything that is compressed.
func (r *rig) fullDisk() vfs.FS {
	return r.scratched(func(string) error { return syscall.ENOSPC })
}

// An object is not made in memory before its turn: what is before it may need that
// place, here because it finds the disk full a little later.
func TestFullDiskAndSmallBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		names := []segment.Name{name(1, 1), name(1, 2), name(1, 3)}
		r.sealed(names...)
		first := make(chan struct{})
		disk := r.scratched(func(base string) error {
			if base == names[0].Format(testSize) {
				<-first
			}
			return syscall.ENOSPC
		})
		store := &putOrder{Mem: r.mem}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		ended := make(chan error, 1)
		u := r.uploader(disk, store, 4)
		go func() { ended <- u.Drain(ctx) }()
		synctest.Wait()
		close(first)
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		r.expectArchived("at the end")
		if !slices.IsSorted(store.keys) || len(r.log.lines()) != 0 {
			t.Errorf("put %v, logged %q", store.keys, r.log.lines())
		}
	})
}

// What cannot be made in memory needs the disk, where an object that is made before its
// turn would take the room of the one that it waits for.
func TestLargeObjectsAreNotMadeAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		var made atomic.Bool
		u := r.uploader(r.scratched(func(string) error { made.Store(true); return nil }), r.mem, 4)
		u.archive.id.SegmentSize = 2 * maxInMemory
		open := func() (content, error) {
			return content{ReadCloser: io.NopCloser(io.LimitReader(zeros{}, 2*maxInMemory))}, nil
		}
		turn, ended := make(chan struct{}), make(chan error, 1)
		i := item{kind: itemSealed, name: name(1, 2), bases: []string{"000000010000000000000002"}}
		go func() { ended <- u.uploadPrepared(t.Context(), i, open, KindSegment, turn).err }()
		synctest.Wait()
		if made.Load() {
			t.Error("it takes room on disk before its turn")
		}
		close(turn)
		if err := <-ended; err != nil || !made.Load() {
			t.Errorf("in its turn: %v", err)
		}
	})
}

// Trouble with making an object before its turn does not let it pass the others.
func TestTurnIsWaitedForAfterTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.sealed(name(1, 1), name(1, 2))
		var failed atomic.Bool
		disk := r.scratched(func(base string) error {
			if strings.HasSuffix(base, "2") && !failed.Swap(true) {
				return errDisk
			}
			return nil
		})
		store := &gate{Mem: r.mem, open: map[string]chan struct{}{}}
		close(store.door("000000010000000000000002.zst"))
		ended := make(chan error, 1)
		u := r.uploader(disk, store, 4)
		go func() { ended <- u.Drain(t.Context()) }()
		synctest.Wait()
		if got := keys(r.mem); len(got) != 0 || !failed.Load() {
			t.Errorf("with the first one waiting, %v were archived", got)
		}
		close(store.door("000000010000000000000001.zst"))
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		r.expectArchived("at the end")
	})
}

// To wait for a place is no try: objects that take a minute each to make, and a store
// that is slow while the disk is full, are no outage.
func TestWaitingForPlacesIsNoOutage(t *testing.T) {
	workers := 4 * runtime.GOMAXPROCS(0)
	for what, slow := range map[string]func(r *rig) *Uploader{
		"disk": func(r *rig) *Uploader {
			return r.uploader(r.scratched(func(string) error { time.Sleep(time.Minute); return nil }), r.mem, workers)
		},
		"store": func(r *rig) *Uploader {
			store := storage.WithDeadline(&crawling{Mem: r.mem, pause: 100 * time.Second})
			return r.uploader(r.fullDisk(), store, workers)
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			for i := range uint64(2 * workers) {
				r.sealed(name(1, i+1))
			}
			var failed atomic.Int32
			u := slow(r)
			u.onUpload = func(_ string, _ time.Duration, err error) {
				if err != nil {
					failed.Add(1)
				}
			}
			if err := u.Drain(t.Context()); err != nil {
				t.Fatal(err)
			}
			r.expectArchived(what)
			if n := failed.Load(); n > 0 || len(r.log.lines()) > 0 {
				t.Errorf("a slow %s: %d tries failed, logged %q", what, n, r.log.lines())
			}
		})
	}
}

// However an upload ends or is given up, it keeps no place.
func TestNoPlaceIsKept(t *testing.T) {
	stuck := func(fault storagetest.Fault) func(r *rig) storage.Store {
		return func(r *rig) storage.Store {
			return storagetest.NewFaulty(r.mem, func(storagetest.Request) storagetest.Fault { return fault })
		}
	}
	conflict := func(r *rig) storage.Store {
		mustPut(r.t, r.archive, NewScratch(vfs.NewMem(), "/"), name(1, 1), wal(name(1, 1), 2, 1))
		return r.mem
	}
	for what, store := range map[string]func(r *rig) storage.Store{
		"hangs":         stuck(storagetest.Fault{Hang: true}),
		"fails":         stuck(storagetest.Fault{Before: storagetest.ErrInjected}),
		"no conditions": stuck(storagetest.Fault{Before: storage.ErrUnsafe}),
		"conflict":      conflict,
	} {
		for _, waiting := range []uint64{3, 12} { // in turn, and at once
			for _, after := range []time.Duration{0, time.Second, time.Hour} {
				synctest.Test(t, func(t *testing.T) {
					r := newRig(t)
					for i := range waiting {
						r.sealed(name(1, i+1))
					}
					u := r.uploader(r.fullDisk(), store(r), 4)
					ctx, cancel := context.WithCancel(t.Context())
					ended := make(chan error, 1)
					go func() { ended <- u.Run(ctx) }()
					time.Sleep(after)
					synctest.Wait()
					cancel()
					var taken *ConflictError
					if err := <-ended; what == "conflict" != errors.As(err, &taken) {
						t.Errorf("%s: %v", what, err)
					}
					if len(u.making) > 0 || len(u.scratch.memory) > 0 {
						t.Errorf("%s, given up after %v with %d waiting: %d places to make one and %d in memory are kept",
							what, after, waiting, len(u.making), len(u.scratch.memory))
					}
				})
			}
		}
	}
}
