package backup

import (
	"context"
	"errors"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/walrecv/walrecv/internal/archive"
)

// deleters is how many objects are deleted at a time.
const deleters = 8

// Delete deletes a backup: first what says that it is good, so that nobody takes the
// rest for it, and last what says that it began, so that the rest can be found. What an
// earlier call has left is deleted by another one. A backup of a later version is left
// alone: its error is a [archive.FormatError]. Whether it may be deleted is for the
// caller to know.
func Delete(ctx context.Context, a *archive.Archive, e Entry) error {
	var later *archive.FormatError
	if errors.As(e.Damage, &later) {
		return later
	}
	listed, err := listObjects(ctx, a, e.ID)
	if err != nil {
		return err
	}
	for _, o := range listed {
		if err := o.delete(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

func (o *objects) delete(ctx context.Context, a *archive.Archive) error {
	if o.has(archive.BackupEnd) {
		if err := a.Delete(ctx, a.BackupKey(o.id, archive.BackupEnd)); err != nil {
			return err
		}
	}
	work, workCtx := errgroup.WithContext(ctx)
	work.SetLimit(deleters)
	for file := range o.sizes {
		if !slices.Contains([]string{archive.BackupStart, archive.BackupEnd}, file) {
			work.Go(func() error { return a.Delete(workCtx, a.BackupKey(o.id, file)) })
		}
	}
	if err := work.Wait(); err != nil {
		return err
	}
	if !o.has(archive.BackupStart) {
		return nil
	}
	return a.Delete(ctx, a.BackupKey(o.id, archive.BackupStart))
}
