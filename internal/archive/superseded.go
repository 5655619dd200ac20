package archive

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"path"

	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
)

// alignment is what the end of a record is rounded up to, with zeros.
const alignment = 8

// superseded tells whether the partial of an ended timeline holds nothing that the
// archive does not: this receiver was away when the timeline ended, and the other
// one of a pair has archived the segment complete, or a partial that goes further.
// Beside that one it would look as if WAL had been lost at the fork.
//
// A partial that reaches the fork is always archived, also beside those of servers.
func (u *Uploader) superseded(ctx context.Context, i item, end int64) (bool, error) {
	if reaches, err := u.reachesFork(i, end); reaches || err != nil {
		return false, err
	}
	found := false
	err := u.outage.retry(ctx, i.bases[0], patiently(int64(u.archive.id.SegmentSize), func(ctx context.Context) (err error) {
		found, err = u.holdsAll(ctx, i, end)
		return err
	}))
	return found, err
}

// reachesFork tells whether a partial whose content ends at an offset goes as far
// as its timeline does, or it cannot be told.
func (u *Uploader) reachesFork(i item, end int64) (bool, error) {
	var newest segment.TimelineID
	err := u.spool.View(func(l segment.Listing) {
		for _, t := range l.Histories {
			newest = max(newest, t)
		}
	})
	if err != nil || newest <= i.name.Timeline {
		return true, err
	}
	content, err := vfs.ReadFile(u.spool.FS(), path.Join(u.spool.Dir(), segment.HistoryName(newest)))
	if err != nil {
		return false, &LocalError{err}
	}
	history, err := segment.ParseHistory(newest, content)
	if err != nil {
		return false, &LocalError{err}
	}
	size := u.archive.id.SegmentSize
	_, fork, ok := history.Bounds(i.name.Timeline)
	return !ok || end > int64(size) || size.Number(fork) == i.name.Number && end+alignment > size.Offset(fork), nil
}

// holdsAll looks for an object that begins with all that a partial holds. What
// cannot be read for good, damaged or encrypted, is none.
func (u *Uploader) holdsAll(ctx context.Context, i item, end int64) (bool, error) {
	partials, err := u.archive.Partials(ctx, i.name)
	if err != nil {
		return false, err
	}
	opens := []func() (io.ReadCloser, error){
		func() (io.ReadCloser, error) { return u.archive.OpenSegment(ctx, i.name) },
	}
	for _, p := range partials {
		opens = append(opens, func() (io.ReadCloser, error) { return u.archive.OpenPartial(ctx, p) })
	}
	for _, open := range opens {
		same, err := u.beginsWith(open, i, end)
		var damaged *DamagedError
		switch {
		case same:
			return true, nil
		case err == nil, errors.As(err, &damaged), errors.Is(err, ErrEncrypted), errors.Is(err, fs.ErrNotExist):
		default:
			return false, err
		}
	}
	return false, nil
}

// beginsWith compares an object with the content of a file of the spool, and reads
// it to its end, where its digest is checked.
func (u *Uploader) beginsWith(open func() (io.ReadCloser, error), i item, end int64) (same bool, err error) {
	theirs, err := open()
	if err != nil {
		return false, err
	}
	defer theirs.Close()
	ours, err := u.openPartial(i)
	if err != nil {
		return false, &LocalError{err}
	}
	defer ours.Close() // nothing was written through it
	const piece = 64 << 10
	a, b := make([]byte, piece), make([]byte, piece)
	for left := end; left > 0; {
		n := min(left, piece)
		if _, err := io.ReadFull(ours, a[:n]); err != nil {
			return false, &LocalError{err}
		}
		if _, err := io.ReadFull(theirs, b[:n]); err != nil {
			return false, err
		}
		if !bytes.Equal(a[:n], b[:n]) {
			return false, nil
		}
		left -= n
	}
	_, err = io.Copy(io.Discard, theirs)
	return err == nil, err
}
