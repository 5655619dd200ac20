package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
)

const (
	// deleters is how many chunks are deleted at a time.
	deleters = 4

	// deletePause follows a deletion that failed.
	deletePause = 10 * time.Second

	// deleteProbe is a name below the tail that no object has.
	deleteProbe = "delete-probe"
)

// tidy deletes the chunks that are not needed any more, until ctx ends or the store
// refuses: first those that earlier runs left. Nothing depends on it.
func (r *tailRun) tidy(ctx context.Context) {
	err := r.patiently(ctx, func(ctx context.Context) error {
		return r.archive.Delete(ctx, systemDir(r.archive.id.SystemID)+tailDir+"/"+deleteProbe)
	})
	if err == nil {
		err = r.patiently(ctx, r.deleteLeft)
	}
	for err == nil {
		r.mu.Lock()
		chunks := r.obsolete.next(deleters)
		r.mu.Unlock()
		if len(chunks) == 0 {
			select {
			case <-r.obsolete.wake:
			case <-ctx.Done():
				return
			}
			continue
		}
		err = r.patiently(ctx, func(ctx context.Context) error { return r.deleteAll(ctx, chunks) })
	}
	if ctx.Err() != nil {
		return
	}
	r.log.Warn("objects in the archive cannot be deleted: what the tail leaves there stays until somebody removes it", "error", err)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.obsolete.refused, r.obsolete.queue = true, nil
	clear(r.obsolete.segments)
}

// patiently tries until it works, or the store refuses, or ctx ends.
func (r *tailRun) patiently(ctx context.Context, try func(context.Context) error) error {
	for {
		err := tryOnce(ctx, maxTailListing, try)
		if err == nil || ctx.Err() != nil || errors.Is(err, fs.ErrPermission) || errors.Is(err, ErrCannotDelete) {
			return err
		}
		r.log.Debug("could not tidy the tail up", "error", err)
		timer := time.NewTimer(deletePause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

// deleteAll deletes chunks, all at a time.
func (r *tailRun) deleteAll(ctx context.Context, chunks []Chunk) error {
	errs := make([]error, len(chunks))
	var group sync.WaitGroup
	for i, c := range chunks {
		group.Go(func() { errs[i] = r.archive.Delete(ctx, r.archive.chunkKey(c)) })
	}
	group.Wait()
	return errors.Join(errs...)
}

// tidyPage is how many chunks are listed before some of them are deleted: where
// nothing can be deleted, there may be millions.
const tidyPage = 500

// deleteLeft deletes the chunks of complete segments that earlier runs left.
func (r *tailRun) deleteLeft(ctx context.Context) error {
	prefix := systemDir(r.archive.id.SystemID) + tailDir + "/"
	for from := prefix; from != ""; {
		var chunks []Chunk
		next := ""
		err := storage.ListFrom(ctx, r.archive.store, prefix, from, func(info storage.Info) error {
			if len(chunks) == tidyPage {
				next = info.Key
				return errFound
			}
			if o, n, ok := r.archive.parse(info.Key); ok {
				chunks = append(chunks, Chunk{Name: n, From: o.From, To: o.To, Encrypted: o.Encrypted})
			}
			return nil
		})
		if err != nil && !errors.Is(err, errFound) {
			return err
		}
		if chunks, err = r.ofComplete(ctx, chunks); err != nil {
			return err
		}
		for some := range slices.Chunk(chunks, deleters) {
			if err := r.deleteAll(ctx, some); err != nil {
				return err
			}
		}
		from = next
	}
	return nil
}

// ofComplete are those of some chunks whose segments are complete in the archive.
func (r *tailRun) ofComplete(ctx context.Context, chunks []Chunk) ([]Chunk, error) {
	complete := map[segment.Name]bool{}
	for _, c := range chunks {
		if _, known := complete[c.Name]; known {
			continue
		}
		err := r.archive.either(r.archive.walObject(KindSegment, c.Name), func(o Object) error {
			if _, err := r.archive.store.Stat(ctx, o.Key()); err != nil {
				return err
			}
			return storage.Confirm(ctx, r.archive.store, o.Key())
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("look for the segment of a chunk: %w", err)
		}
		complete[c.Name] = err == nil
	}
	return slices.DeleteFunc(chunks, func(c Chunk) bool { return !complete[c.Name] }), nil
}
