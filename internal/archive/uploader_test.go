package archive

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/storagetest"
)

func TestNewestSegmentsStay(t *testing.T) {
	r := newRig(t)
	r.sealed(name(1, 1), name(1, 2), name(1, 9)) // an abandoned branch reaches further
	r.file("00000002.history", []byte(history2))
	r.sealed(name(2, 3), name(2, 4))
	u := r.uploader(r.disk, r.mem, 4)
	if err := u.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.expectLeft("000000010000000000000009", "00000002.history", "000000020000000000000004")
	if at, ok := u.Archived(); !ok || at != (segment.Position{Timeline: 2, LSN: testSize.Start(5)}) {
		t.Errorf("archived up to %v, %v", at, ok)
	}

	// They go when there is something newer, and are not archived again.
	r.sealed(name(2, 5))
	store := &putOrder{Mem: r.mem}
	u.archive.store = store
	if err := u.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.expectLeft("000000010000000000000009", "00000002.history", "000000020000000000000005")
	if !slices.Equal(store.keys, []string{"000000020000000000000005.zst"}) {
		t.Errorf("put %v", store.keys)
	}
}

// gate is a store whose Puts wait until the test lets them go.
type gate struct {
	*storagetest.Mem
	mu   sync.Mutex
	open map[string]chan struct{}
}

func (g *gate) door(base string) chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open[base] == nil {
		g.open[base] = make(chan struct{})
	}
	return g.open[base]
}

func (g *gate) Put(ctx context.Context, key string, src storage.Source) error {
	select {
	case <-g.door(path.Base(key)):
		return g.Mem.Put(ctx, key, src)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestResultsAreTakenInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		for n := range uint64(8) {
			r.sealed(name(1, n+1))
		}
		store := &gate{Mem: r.mem, open: map[string]chan struct{}{}}
		u := r.uploader(r.disk, store, 4)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- u.Run(ctx) }()
		open := func(n uint64) { close(store.door(name(1, n).Format(testSize) + ".zst")) }

		for _, n := range []uint64{4, 3, 2, 8, 7, 6} {
			open(n)
		}
		synctest.Wait()
		if got := keys(r.mem); len(got) != 3 {
			t.Errorf("with the first one waiting, %v were archived by 4 workers", got)
		}
		if at, ok := u.Archived(); ok {
			t.Errorf("archived up to %v with the first one missing", at)
		}
		if got := r.left(r.disk); len(slices.DeleteFunc(got, func(s string) bool { return strings.Contains(s, ".") })) != 8 {
			t.Errorf("removed too early, left %v", got)
		}

		open(1)
		synctest.Wait()
		if at, _ := u.Archived(); at.LSN != testSize.Start(5) {
			t.Errorf("archived up to %v", at)
		}
		open(5)
		synctest.Wait()
		if at, _ := u.Archived(); at.LSN != testSize.Start(9) {
			t.Errorf("archived up to %v", at)
		}
		r.expectLeft("000000010000000000000008")
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// As long as all that waits is on its way, nothing lands behind a hole.
func TestLandsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.sealed(name(1, 1), name(1, 2), name(1, 3), name(1, 4))
		store := &gate{Mem: r.mem, open: map[string]chan struct{}{}}
		u := r.uploader(r.disk, store, 4)
		ended := make(chan error, 1)
		go func() { ended <- u.Drain(t.Context()) }()
		for i, n := range []uint64{4, 3, 2, 1} {
			if got := keys(r.mem); len(got) != 0 {
				t.Errorf("the first one and %d others are waited for: %v", 3-i, got)
			}
			close(store.door(name(1, n).Format(testSize) + ".zst"))
			synctest.Wait()
		}
		if err := <-ended; err != nil || len(keys(r.mem)) != 4 {
			t.Errorf("%v: %v", keys(r.mem), err)
		}
	})
}

// A history file is archived after everything older, and before everything on
// its timeline, also with many workers.
func TestHistoryIsABarrier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.twoTimelines()
		store := &gate{Mem: r.mem, open: map[string]chan struct{}{}}
		u := r.uploader(r.disk, store, 8)
		ended := make(chan error, 1)
		go func() { ended <- u.Drain(t.Context()) }()
		steps := []string{"000000010000000000000001.zst", "000000010000000000000002.zst"}
		for _, base := range []string{"00000002.history", "000000020000000000000003.zst", "000000020000000000000004.zst"} {
			close(store.door(base))
		}
		p := r.files["000000010000000000000003.partial"]
		_, end := encoded(t, p)
		close(store.door("000000010000000000000003." + end.Digest.short() + ".partial.zst"))
		for _, base := range steps {
			synctest.Wait()
			if got := keys(r.mem); slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, "00000002") }) {
				t.Errorf("archived before %s: %v", base, got)
			}
			close(store.door(base))
		}
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		r.expectArchived("at the end")
	})
}

func TestNudge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		store := &putOrder{Mem: r.mem}
		u := r.uploader(r.disk, store, 4)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- u.Run(ctx) }()
		synctest.Wait()
		var want []string
		for n := range uint64(20) {
			r.sealed(name(1, n+1))
			want = append(want, name(1, n+1).Format(testSize)+".zst")
			for range 3 {
				u.Nudge()
			}
			synctest.Wait()
		}
		if !slices.Equal(store.keys, want) {
			t.Errorf("put %v", store.keys)
		}
		r.expectLeft("000000010000000000000014")
		if len(u.done) > 2 {
			t.Errorf("%d finished items are remembered for 1 file", len(u.done))
		}
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if len(store.keys) != len(want) || len(r.log.lines()) > 0 {
			t.Errorf("an idle day: %v, %v", store.keys[len(want):], r.log.lines())
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestConflictStopsTheUploader(t *testing.T) {
	r := newRig(t)
	r.sealed(name(1, 1), name(1, 2), name(1, 3))
	foreign := wal(name(1, 2), 2, 99)
	mustPut(t, r.archive, NewScratch(vfs.NewMem(), "/"), name(1, 2), foreign)
	err := r.uploader(r.disk, r.mem, 4).Run(t.Context())
	var conflict *ConflictError
	if !errors.As(err, &conflict) || conflict.Key != r.archive.segmentKey(name(1, 2)) {
		t.Fatal(err)
	}
	if err := isWhole(r.mem, name(1, 2), foreign); err != nil {
		t.Errorf("what was archived first: %v", err)
	}
	r.expectLeft("000000010000000000000002", "000000010000000000000003")
}

func TestHistoryConflictStopsTheUploader(t *testing.T) {
	r := newRig(t)
	r.twoTimelines()
	if err := r.archive.PutHistory(t.Context(), 2, []byte(strings.Replace(history2, "0/3", "0/2", 1))); err != nil {
		t.Fatal(err)
	}
	err := r.uploader(r.disk, r.mem, 4).Run(t.Context())
	var conflict *ConflictError
	if !errors.As(err, &conflict) {
		t.Fatal(err)
	}
	if got := keys(r.mem); slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, "000000020000") }) {
		t.Errorf("archived on the disputed timeline: %v", got)
	}
}

// A segment that is not one is never archived, and nothing after it either.
func TestRubbishStopsTheUploader(t *testing.T) {
	foreign := wal(name(1, 2), 2, 0)
	foreign[25]++
	for what, data := range map[string][]byte{
		"short":              wal(name(1, 2), 2, 0)[:testSize-1],
		"long":               append(wal(name(1, 2), 2, 0), 0),
		"empty":              nil,
		"zeros":              make([]byte, testSize),
		"another segment":    wal(name(1, 3), 2, 0),
		"of another cluster": foreign,
	} {
		t.Run(what, func(t *testing.T) {
			r := newRig(t)
			r.sealed(name(1, 1), name(1, 3))
			r.file("000000010000000000000002", data)
			err := r.uploader(r.disk, r.mem, 1).Run(t.Context())
			var corrupt *segment.CorruptError
			if !errors.As(err, &corrupt) || !strings.HasPrefix(corrupt.Segment, "000000010000000000000002") {
				t.Fatal(err)
			}
			if got := keys(r.mem); !slices.Equal(got, []string{"000000010000000000000001.zst"}) {
				t.Errorf("archived %v", got)
			}
			r.expectLeft("000000010000000000000002", "000000010000000000000003")
		})
	}
}

func TestUnreadableSpoolEndsTheUploader(t *testing.T) {
	for _, kind := range []vfs.OpKind{vfs.OpReadAt, vfs.OpOpenRead, vfs.OpReadDir, vfs.OpCreate, vfs.OpWriteAt} {
		r := newRig(t)
		r.twoTimelines()
		armed := false
		fsys := vfs.NewFault(r.disk, func(op vfs.Op) error {
			if armed && op.Kind == kind {
				return errDisk
			}
			return nil
		})
		u := r.uploader(fsys, r.mem, 4)
		armed = true
		if err := u.Run(t.Context()); !errors.Is(err, errDisk) {
			t.Errorf("%s fails: %v", kind, err)
		}
		if lines := r.log.lines(); len(lines) > 0 {
			t.Errorf("%s fails: tried again? %q", kind, lines)
		}
	}
}

// What cannot be removed is told of once, and is no reason to stop.
func TestRemovalFails(t *testing.T) {
	r := newRig(t)
	r.sealed(name(1, 1), name(1, 2), name(1, 3))
	fsys := vfs.NewFault(r.disk, func(op vfs.Op) error {
		if op.Kind == vfs.OpRemove && path.Base(op.Name) == "000000010000000000000001" {
			return errDisk
		}
		return nil
	})
	u := r.uploader(fsys, r.mem, 4)
	for range 3 {
		if err := u.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	r.expectArchived("at the end")
	r.expectLeft("000000010000000000000001", "000000010000000000000003")
	if lines := r.log.lines(); len(lines) != 1 || !strings.HasPrefix(lines[0], "ERROR cannot remove") {
		t.Errorf("logged %q", lines)
	}
}

func TestDrainReportsWhatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		for n := range uint64(6) {
			r.sealed(name(1, n+1))
		}
		down := storagetest.NewFaulty(r.mem, func(req storagetest.Request) storagetest.Fault {
			if strings.HasSuffix(req.Key, "3.zst") {
				return storagetest.Fault{Hang: true}
			}
			return storagetest.Fault{}
		})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		began := time.Now()
		err := r.uploader(r.disk, down, 2).Drain(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.HasPrefix(err.Error(), "4 files") {
			t.Error(err)
		}
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("took %v", took)
		}
		r.expectSafe(r.disk, r.mem, "at the deadline")
	})
}

func TestRunEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.sealed(name(1, 1), name(1, 2))
		for _, fault := range []storagetest.Fault{{Hang: true}, {Before: storagetest.ErrInjected}, {}} {
			store := storagetest.NewFaulty(r.mem, func(storagetest.Request) storagetest.Fault { return fault })
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			began := time.Now()
			if err := r.uploader(r.disk, store, 4).Run(ctx); err != nil {
				t.Errorf("%+v: %v", fault, err)
			}
			if took := time.Since(began); took != time.Minute {
				t.Errorf("%+v: ended after %v", fault, took)
			}
			cancel()
		}
		r.expectArchived("at the end")
		if got := r.left(r.disk); !slices.Equal(got, []string{"000000010000000000000002"}) {
			t.Errorf("left %v", got)
		}
	})
}

// A shutdown does not wait until a large segment is compressed.
func TestRunEndsWhileItCompresses(t *testing.T) {
	r := newRig(t)
	r.sealed(name(1, 1))
	ctx, cancel := context.WithCancel(t.Context())
	reads := 0
	fsys := vfs.NewFault(r.disk, func(op vfs.Op) error {
		if op.Kind == vfs.OpReadAt && path.Base(op.Name) == "000000010000000000000001" {
			reads++
			cancel()
		}
		return nil
	})
	if err := r.uploader(fsys, r.mem, 1).Run(ctx); err != nil {
		t.Error(err)
	}
	if reads != 1 {
		t.Errorf("%d reads, 1 before the end of the context", reads)
	}
	r.expectLeft("000000010000000000000001")
}

func TestManySegmentsAtOnce(t *testing.T) {
	for _, workers := range []int{0, 1, 2, 7} {
		t.Run(fmt.Sprint(workers), func(t *testing.T) {
			r := newRig(t)
			for n := range uint64(30) {
				r.sealed(name(1, n+1))
			}
			if err := r.uploader(r.disk, r.mem, workers).Drain(t.Context()); err != nil {
				t.Fatal(err)
			}
			r.expectArchived("at the end")
			r.expectLeft(name(1, 30).Format(testSize))
		})
	}
}
