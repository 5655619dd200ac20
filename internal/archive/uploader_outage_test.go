package archive

import (
	"context"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/storagetest"
)

// run runs an uploader until the end of the test.
func (r *rig) run(u *Uploader) {
	ctx, cancel := context.WithCancel(r.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- u.Run(ctx) }()
	r.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			r.t.Error(err)
		}
	})
}

// When the first upload works again, all that wait for their next try go on at
// once, and the log tells how much there is to do.
func TestUploadsCatchUpTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		for n := range uint64(20) {
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
		r.run(r.uploader(r.disk, store, 8))
		time.Sleep(time.Hour)
		down.Store(false)
		for began := time.Now(); len(keys(r.mem)) == 0; synctest.Wait() {
			time.Sleep(time.Millisecond)
			if time.Since(began) > 31*time.Second {
				t.Fatal("no try within 31 s")
			}
		}
		if n := len(keys(r.mem)); n != 20 {
			t.Errorf("%d of 20 segments are archived at once", n)
		}
		lines := r.log.lines()
		if len(lines) != 2 || !strings.Contains(lines[1], "files_waiting=") || !strings.Contains(lines[1], "after=1h0m") {
			t.Errorf("logged %q", lines)
		}
	})
}

// crawling is a Store that takes ten minutes for each piece of an object.
type crawling struct {
	*storagetest.Mem
	pause time.Duration
	puts  atomic.Int32
}

func (c *crawling) Put(ctx context.Context, key string, src storage.Source) error {
	c.puts.Add(1)
	r, err := src.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	for buf := make([]byte, 100_000); err == nil; _, err = io.ReadFull(r, buf) {
		select {
		case <-time.After(c.pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return c.Mem.Put(ctx, key, src)
}

// A store that is slow gets what it needs in one try; one that hangs is tried
// again.
func TestSlowStoreIsNotGivenUp(t *testing.T) {
	for pause, tries := range map[time.Duration]int32{100 * time.Second: 1, 10 * time.Minute: 0} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			r.sealed(name(1, 1))
			slow := &crawling{Mem: r.mem, pause: pause}
			r.run(r.uploader(r.disk, storage.WithDeadline(slow), 1))
			time.Sleep(time.Hour)
			got := slow.puts.Load()
			if tries > 0 && (got != tries || len(keys(r.mem)) != 1 || len(r.log.lines()) != 0) {
				t.Errorf("a store that is slow: %d tries, archived %v, logged %q", got, keys(r.mem), r.log.lines())
			}
			if tries == 0 && (got < 10 || len(r.log.lines()) != 1) {
				t.Errorf("a store that hangs: %d tries, logged %q", got, r.log.lines())
			}
		})
	}
}

// A large spool takes long to list: that is not done for every new segment as long
// as there is enough to do.
func TestLargeSpoolIsNotListedAllTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.sealed(name(1, 1), name(1, 2))
		var lists atomic.Int32
		fsys := vfs.NewFault(r.disk, func(op vfs.Op) error {
			if op.Kind == vfs.OpReadDir {
				lists.Add(1)
				time.Sleep(time.Second)
			}
			return nil
		})
		store := &gate{Mem: r.mem, open: map[string]chan struct{}{}}
		u := r.uploader(fsys, store, 1)
		r.run(u)
		time.Sleep(time.Minute)
		lists.Store(0)
		next := uint64(3)
		for ; next < 53; next++ {
			r.sealed(name(1, next))
			u.Nudge()
			time.Sleep(2 * time.Second)
		}
		if n := lists.Load(); n < 1 || n > 4 {
			t.Errorf("listed %d times in 100 s", n)
		}
		for n := uint64(1); n < next; n++ {
			close(store.door(name(1, n).Format(testSize) + ".zst"))
			time.Sleep(2 * time.Second)
		}
		time.Sleep(time.Minute)
		r.expectArchived("at the end")
	})
}
