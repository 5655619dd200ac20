package restore

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"runtime"
	"runtime/debug"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/walrecv/walrecv/internal/pgdata"
	"github.com/walrecv/walrecv/internal/prefetch"
	"github.com/walrecv/walrecv/segment"
)

// fetcher fetches segments into a staging directory, several at a time.
type fetcher struct {
	o       Options
	data    pgdata.Dir
	staging *prefetch.Dir
	places  []*openPlace // with their sources
	cluster segment.Identity

	memory   *memory
	unsynced bool // what is staged is not to outlive the machine
}

// first stages the first of some segments that is there: the same number on several
// timelines. None is fs.ErrNotExist. It does not panic: whatever happens to it is no
// answer to PostgreSQL.
func (f *fetcher) first(ctx context.Context, names []segment.Name) (name segment.Name, err error) {
	defer recovered(&err)
	for _, n := range names {
		there, err := f.fetch(ctx, n)
		if there || err != nil {
			return n, err
		}
	}
	return segment.Name{}, fs.ErrNotExist
}

// recovered makes a panic an error. It is to be deferred.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("internal error: %v\n%s", p, debug.Stack())
	}
}

// fetch stages a segment, if it is there, complete. It is checked as one that is
// delivered at once. The file is there from the beginning, so that a call that needs
// the segment finds it on its way.
func (f *fetcher) fetch(ctx context.Context, n segment.Name) (there bool, err error) {
	file := n.Format(f.cluster.Size)
	scratch, err := f.staging.Begin(file)
	if err != nil {
		return false, err
	}
	// A call of its own, for what it remembers; the places are only read.
	c := &call{o: f.o, dir: f.data, places: f.places, system: f.cluster.SystemID, size: f.cluster.Size, log: slog.New(slog.DiscardHandler)}
	a := &attempt{base: ctx, ctx: ctx, stall: stallRecovery}
	var t troubles
	used := false
	there = c.sealed(a, n, &t, func(st *stream) error {
		if used {
			// What one place has sent is not to be mixed with what another one sends.
			another, err := f.staging.Begin(file)
			if err != nil {
				return &localError{err}
			}
			scratch.Abandon()
			scratch = another
		}
		used = true
		held, err := f.memory.take(ctx, st)
		if err != nil {
			return err
		}
		defer func() {
			st.body.Close() // so it is free
			f.memory.give(held)
		}()
		if err := scratch.Preallocate(int64(f.cluster.Size)); err != nil {
			return &localError{err}
		}
		st.body = &showing{ReadCloser: st.body, scratch: scratch, shown: time.Now()}
		s := &staged{fsys: f.o.FS, file: scratch, where: st.where}
		return s.sealed(st, n, f.cluster)
	})
	if !there {
		scratch.Abandon()
		return false, t.worst.err
	}
	stage := scratch.Stage
	if f.unsynced {
		stage = scratch.StageUnsynced
	}
	if err := stage(); err != nil {
		return false, &localError{err}
	}
	return true, nil
}

// memory is what transfers that go on at once may use together. What needs more than
// all of it has it for itself.
type memory struct {
	shared *semaphore.Weighted
	most   int64 // bytes
}

func newMemory(most int64) *memory { return &memory{semaphore.NewWeighted(most), most} }

func (m *memory) needs(st *stream) int64 {
	if st.memory == nil {
		return 0
	}
	return min(st.memory(), m.most)
}

// take waits for what it takes to read a stream.
func (m *memory) take(ctx context.Context, st *stream) (held int64, err error) {
	held = m.needs(st)
	return held, m.shared.Acquire(ctx, held)
}

// grab takes it if it is there.
func (m *memory) grab(st *stream) (held int64) {
	if held = m.needs(st); !m.shared.TryAcquire(held) {
		return 0
	}
	return held
}

// give gives back what a stream has held, which is closed. A large window is not to wait
// for its collection while the next one is made.
func (m *memory) give(held int64) {
	if held >= m.most/4 {
		runtime.GC()
	}
	m.shared.Release(held)
}

// showing makes what is read show in the staging directory.
type showing struct {
	io.ReadCloser
	scratch *prefetch.Scratch
	shown   time.Time
}

func (b *showing) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 && time.Since(b.shown) >= lifeSign {
		b.shown = time.Now()
		if err := b.scratch.Came(); err != nil {
			return 0, &localError{err}
		}
	}
	return n, err
}
