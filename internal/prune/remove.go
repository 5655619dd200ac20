package prune

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/backup"
)

const (
	// removers is how many objects are deleted at a time.
	removers = 16

	// maxFailures is how many objects in a row the store may fail to delete before it
	// is asked no more.
	maxFailures = 16
)

// Result is what was removed.
type Result struct {
	Sums []Sum
}

// Remove does what was planned. It looks at the base backups again before anything goes,
// before WAL goes, and once it has said so: one that began since is left what it needs,
// and the plan then says so. progress is told how many bytes are gone, from any
// goroutine; nil tells nobody.
//
// With an error, and whenever it is interrupted, the archive is good for all that the
// plan keeps, and the next prune goes on. What was removed until then is in the result.
func (p *Pruner) Remove(ctx context.Context, plan *Plan, progress func(bytes int64)) (*Result, error) {
	r := &remover{Pruner: p, plan: plan, sums: sums{}, progress: progress}
	if progress == nil {
		r.progress = func(int64) {}
	}
	var err error
	for _, step := range []func(context.Context) error{r.narrow, r.backups, r.narrow, r.wal} {
		if err = step(ctx); err != nil {
			break
		}
	}
	if err == nil && r.failed == 0 {
		err = r.outdated(ctx)
	}
	return r.result(), errors.Join(err, r.failure())
}

// remover removes what a plan says.
type remover struct {
	*Pruner
	plan     *Plan
	progress func(bytes int64)
	said     bool // what is removed was said

	row atomic.Int64 // failures in a row

	mu     sync.Mutex
	sums   sums
	failed int64
	first  error
}

// narrow takes back what base backups forbid that have come.
func (r *remover) narrow(ctx context.Context) error {
	entries, err := backup.List(ctx, r.archive, r.now)
	if err != nil {
		return err
	}
	return r.plan.narrow(entries, r.id.SegmentSize)
}

// backups deletes base backups, the oldest first. If one of them stays, so does the WAL.
func (r *remover) backups(ctx context.Context) error {
	for _, v := range r.plan.Backups {
		if v.Keep {
			continue
		}
		if err := backup.Delete(ctx, r.archive, v.Entry); err != nil {
			return fmt.Errorf("delete the base backup %s: %w", v.ID, err)
		}
		r.gone(sumBackups, v.Stored)
	}
	return nil
}

// wal deletes the WAL, and what only tells of it.
func (r *remover) wal(ctx context.Context) error {
	return r.archive.EachCovered(ctx, r.plan.pruned(), func(page []archive.Covered) error {
		if err := r.say(ctx); err != nil {
			return err
		}
		r.page(ctx, page)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case r.hopeless():
			return errors.New("the rest was not tried")
		}
		return nil
	})
}

// say says in the archive what is removed, once, before anything is. Then it looks at the
// base backups: one that is not seen now has begun later, and is not good without the WAL
// of which this was said. For one that is seen it is taken back.
func (r *remover) say(ctx context.Context) error {
	new, ok := r.plan.says()
	if !ok || r.said {
		return nil
	}
	if err := r.archive.PutPruned(ctx, new, r.now); err != nil {
		return fmt.Errorf("say in the archive what is removed: %w", err)
	}
	err := r.narrow(ctx)
	if err == nil && r.plan.Start < new.Before {
		err = errors.New("a base backup has come that needs WAL that was to go, and no WAL was removed: run it again")
	}
	if err != nil {
		return errors.Join(err, r.archive.Delete(ctx, r.archive.PrunedKey(new)))
	}
	r.said = true
	return nil
}

// page deletes some objects, several at a time.
func (r *remover) page(ctx context.Context, page []archive.Covered) {
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(removers, len(page)) {
		workers.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(page)) && ctx.Err() == nil && !r.hopeless(); i = next.Add(1) - 1 {
				r.delete(ctx, page[i])
			}
		})
	}
	workers.Wait()
}

func (r *remover) delete(ctx context.Context, o archive.Covered) {
	err := r.archive.Delete(ctx, o.Key())
	if err == nil {
		r.row.Store(0)
		r.gone(sumOf[o.Kind], o.Size)
		return
	}
	r.row.Add(1)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, archive.ErrCannotDelete) {
		r.row.Store(maxFailures)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed++; r.first == nil {
		r.first = err
	}
}

// hopeless tells whether the store deletes nothing any more.
func (r *remover) hopeless() bool { return r.row.Load() >= maxFailures }

// gone counts what was removed.
func (r *remover) gone(what string, bytes int64) {
	r.progress(bytes)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sums.add(what, bytes)
}

// outdated deletes what was said of earlier removals and follows from what is said now.
func (r *remover) outdated(ctx context.Context) error {
	all := slices.Clone(r.plan.said)
	if new, _ := r.plan.says(); r.said {
		all = append(all, new)
	}
	for _, old := range r.plan.said {
		follows := slices.ContainsFunc(all, func(q archive.Pruned) bool { return q != old && q.Implies(old) })
		if !follows {
			continue
		}
		if err := r.archive.Delete(ctx, r.archive.PrunedKey(old)); err != nil {
			return err
		}
	}
	return nil
}

func (r *remover) failure() error {
	if r.failed == 0 {
		return nil
	}
	return fmt.Errorf("%d could not be deleted, first: %w; run it again", r.failed, r.first)
}

func (r *remover) result() *Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	return &Result{Sums: r.sums.list()}
}
