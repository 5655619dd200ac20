package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sync/errgroup"

	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
)

// smallReaders is how many small objects are read at a time.
const smallReaders = 16

// Histories reads the history files of a listing, and says of those that are
// damaged, or cannot be read, what is wrong with them: as [NewChain] wants to have
// them. Only the end of ctx is an error.
func (a *Archive) Histories(ctx context.Context, l *Listing) (histories map[segment.TimelineID]segment.History, damaged map[segment.TimelineID]error, err error) {
	timelines := l.Histories()
	found := make([]segment.History, len(timelines))
	damage := make([]error, len(timelines))
	var readers errgroup.Group
	readers.SetLimit(smallReaders)
	for i, t := range timelines {
		readers.Go(func() error {
			data, err := a.History(ctx, t)
			if err == nil {
				found[i], err = segment.ParseHistory(t, data)
			}
			damage[i] = err
			return ctx.Err()
		})
	}
	if err := readers.Wait(); err != nil {
		return nil, nil, err
	}
	histories, damaged = map[segment.TimelineID]segment.History{}, map[segment.TimelineID]error{}
	for i, t := range timelines {
		switch {
		case errors.Is(damage[i], fs.ErrNotExist): // deleted since it was listed
		case damage[i] != nil:
			damaged[t] = damage[i]
		default:
			histories[t] = found[i]
		}
	}
	return histories, damaged, nil
}

// splitDamage tells what is wrong with an object from what kept it from being
// read. That it is gone is neither.
func splitDamage(err error) (damage, trouble error) {
	var damaged *DamagedError
	switch {
	case errors.As(err, &damaged):
		return err, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	}
	return nil, err
}

// Gaps reads what is recorded as missing, by timeline and position. Those that
// can be read are returned also with an error, which then wraps a [DamagedError]
// for each of the others.
func (a *Archive) Gaps(ctx context.Context) ([]segment.Gap, error) {
	return readFindings(ctx, a, KindGap, a.parseGap)
}

// parseGap reads the content of an object, and says under which name it belongs.
func (a *Archive) parseGap(content []byte) (g segment.Gap, file string, err error) {
	g, err = segment.ParseGap(content, a.id.SegmentSize)
	return g, g.FileName(), err
}

// Marks reads what is recorded as damaged, by segment and position; errors are as
// with Gaps.
func (a *Archive) Marks(ctx context.Context) ([]segment.Mark, error) {
	return readFindings(ctx, a, KindMark, a.parseMark)
}

// parseMark is parseGap for marks.
func (a *Archive) parseMark(content []byte) (m segment.Mark, file string, err error) {
	if m, err = segment.ParseMark(content, a.id.SegmentSize); err != nil {
		return m, "", err
	}
	return m, m.FileName(a.id.SegmentSize), nil
}

// checkFinding says what keeps the content of a file from being the gap or the
// mark that its name says it is.
func (a *Archive) checkFinding(kind Kind, file string, content []byte) error {
	var belongs string
	var err error
	if kind == KindGap {
		_, belongs, err = a.parseGap(content)
	} else {
		_, belongs, err = a.parseMark(content)
	}
	if err == nil && belongs != file {
		err = fmt.Errorf("its content is that of %s", belongs)
	}
	return err
}

// putFinding archives a gap or a mark. That one of the same name is there is
// success: it says the same, found at another time.
func (a *Archive) putFinding(ctx context.Context, kind Kind, file string, content []byte) error {
	key := Object{System: a.id.SystemID, Kind: kind, File: file}.Key()
	err := a.store.Put(ctx, key, storage.BytesSource(content))
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// readFindings reads all objects of a kind. parse also says which file name the
// content belongs to.
func readFindings[T any](ctx context.Context, a *Archive, kind Kind, parse func(content []byte) (T, string, error)) ([]T, error) {
	var objects []Object
	prefix := systemDir(a.id.SystemID) + findingDirs[kind] + "/"
	err := a.store.List(ctx, prefix, func(info storage.Info) error {
		if o, err := ParseKey(info.Key); err == nil {
			objects = append(objects, o)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	found := make([]*T, len(objects))
	damage := make([]error, len(objects))
	readers, ctx := errgroup.WithContext(ctx)
	readers.SetLimit(smallReaders)
	for i, o := range objects {
		readers.Go(func() (err error) {
			found[i], err = readFinding(ctx, a, o, parse)
			damage[i], err = splitDamage(err)
			return err
		})
	}
	if err := readers.Wait(); err != nil {
		return nil, err
	}
	var all []T
	for _, f := range found {
		if f != nil {
			all = append(all, *f)
		}
	}
	return all, errors.Join(damage...)
}

// readFinding reads one object; nil with an error.
func readFinding[T any](ctx context.Context, a *Archive, o Object, parse func(content []byte) (T, string, error)) (*T, error) {
	content, err := readSmall(ctx, a.store, o.Key())
	if err != nil {
		return nil, err
	}
	finding, file, err := parse(content)
	switch {
	case err != nil:
		return nil, &DamagedError{Key: o.Key(), Reason: err.Error()}
	case file != o.File:
		return nil, &DamagedError{Key: o.Key(), Reason: "its content is that of " + file}
	}
	return &finding, nil
}
