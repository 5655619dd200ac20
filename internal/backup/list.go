package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/storage"
)

// readers is how many documents are read at a time.
const readers = 16

// List lists the base backups of an archive, oldest first, with a request for each
// and one listing. now tells abandoned backups from running ones. A damaged backup
// is a part of the list; an error means that the archive could not be read.
func List(ctx context.Context, a *archive.Archive, now time.Time) ([]Entry, error) {
	listed, err := listObjects(ctx, a, "")
	if err != nil {
		return nil, fmt.Errorf("list the base backups: %w", err)
	}
	entries := make([]Entry, len(listed))
	gone := make([]bool, len(listed))
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(readers)
	for i, l := range listed {
		work.Go(func() (err error) {
			entries[i], err = l.read(ctx, a, now)
			if errors.Is(err, fs.ErrNotExist) {
				gone[i], err = true, nil
			}
			return err
		})
	}
	if err := work.Wait(); err != nil {
		return nil, err
	}
	var there []Entry
	for i, e := range entries {
		if !gone[i] {
			there = append(there, e)
		}
	}
	slices.SortFunc(there, func(x, y Entry) int {
		return cmp.Or(x.Started.Compare(y.Started), strings.Compare(x.ID, y.ID))
	})
	return there, nil
}

// objects is what a listing shows of a base backup.
type objects struct {
	id        string
	sizes     map[string]int64 // by the last part of the key
	lastAdded time.Time
	stored    int64
}

// listObjects lists the objects of all base backups, or of one if id is not "".
func listObjects(ctx context.Context, a *archive.Archive, id string) (all []*objects, err error) {
	var last *objects
	err = a.EachBackupObject(ctx, id, func(id, file string, info storage.Info) error {
		if last == nil || last.id != id {
			last = &objects{id: id, sizes: map[string]int64{}}
			all = append(all, last)
		}
		last.sizes[file] = info.Size
		last.stored += info.Size
		if info.Modified.After(last.lastAdded) {
			last.lastAdded = info.Modified
		}
		return nil
	})
	return all, err
}

// read says what a backup is. fs.ErrNotExist says that it has been deleted since.
func (o *objects) read(ctx context.Context, a *archive.Archive, now time.Time) (Entry, error) {
	e := Entry{Start: Start{ID: o.id}, LastAdded: o.lastAdded, Stored: o.stored}
	b, err := load(ctx, a, o, archive.BackupEnd, decodeBackup)
	if err == nil {
		e.Start, e.Backup, e.State = b.Start, b, Good
		e.Lacks = o.lacks(a, b)
		return e, nil
	}
	completed := !errors.Is(err, fs.ErrNotExist)
	if completed && !isDamage(err) {
		return e, err
	}
	s, startErr := load(ctx, a, o, archive.BackupStart, decodeStart)
	if startErr == nil {
		e.Start = s
	}
	switch {
	case completed:
		e.State, e.Damage = Damaged, err
	case startErr == nil:
		e.State = e.unfinished(now)
	case isDamage(startErr):
		e.State, e.Damage = Damaged, startErr
	case !o.has(archive.BackupStart):
		e.State, e.Damage = Damaged, fmt.Errorf("%s is missing", a.BackupKey(o.id, archive.BackupStart))
	default:
		return e, startErr
	}
	return e, nil
}

// unfinished is the state of a backup that was not completed.
func (e *Entry) unfinished(now time.Time) State {
	if now.Sub(cmp.Or(e.LastAdded, e.Started)) >= Patience {
		return Abandoned
	}
	return Running
}

func (o *objects) has(file string) bool {
	_, there := o.sizes[file]
	return there
}

// load reads a document, unless the listing shows that it is not there.
func load[T any](ctx context.Context, a *archive.Archive, o *objects, document string, decode func(id string, data []byte) (T, error)) (T, error) {
	var none T
	if !o.has(document) {
		return none, fs.ErrNotExist
	}
	data, err := a.BackupDocument(ctx, o.id, document)
	if err != nil {
		return none, err
	}
	t, err := decode(o.id, data)
	var format *archive.FormatError
	switch {
	case errors.As(err, &format):
		format.Key = a.BackupKey(o.id, document)
		return none, err
	case err != nil:
		return none, &archive.DamagedError{Key: a.BackupKey(o.id, document), Reason: err.Error()}
	}
	return t, nil
}

// isDamage tells whether a document is there that says nothing.
func isDamage(err error) bool {
	var damaged *archive.DamagedError
	var format *archive.FormatError
	return errors.As(err, &damaged) || errors.As(err, &format)
}
