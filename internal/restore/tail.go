package restore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/walrecv/walrecv/segment"
)

// walEnd is where the WAL in a file of full length ends, as far as that can be
// told from its bytes and page headers: behind the last byte that is not zero, of
// those in front of the first page that was never written, or that is from an
// earlier use of the file, as the server leaves them. A page that is neither is a
// segment.CorruptError. It is 0 for a file of zeros.
func walEnd(r io.ReaderAt, n segment.Name, id segment.Identity) (int64, error) {
	end, err := segment.ContentEnd(r, int64(id.Size))
	if err != nil || end == 0 {
		return 0, err
	}
	err = segment.CheckPages(r, n, id)
	var corrupt *segment.CorruptError
	if err == nil || !errors.As(err, &corrupt) {
		return end, err
	}
	if corrupt.Offset >= end {
		return end, nil // a record goes on where nothing was written yet
	}
	if corrupt.Offset == 0 {
		return 0, err
	}
	unused, readErr := unusedPage(r, corrupt.Offset, n.Start(id.Size), id.Size)
	if readErr != nil {
		return 0, readErr
	}
	if !unused {
		return 0, err
	}
	// The page in front may be used in part only, with zeros behind.
	return segment.ContentEnd(r, corrupt.Offset)
}

// unusedPage tells whether the page at an offset holds nothing of this segment:
// zeros, or the header of the same page of an earlier segment.
func unusedPage(r io.ReaderAt, offset int64, start segment.LSN, size segment.Size) (bool, error) {
	var page [pageHeader]byte
	if _, err := r.ReadAt(page[:], offset); err != nil {
		return false, err
	}
	if page == [pageHeader]byte{} {
		return true, nil
	}
	h, err := segment.ParsePageHeader(page[:])
	if err != nil {
		return false, nil //nolint:nilerr // no page at all
	}
	return h.Addr < start && size.Offset(h.Addr) == offset, nil
}

// covers tells whether WAL that ends at end reaches up to an offset. The page
// with the last byte before it must have been begun: how much of a page is used
// cannot be told, because records may end with zeros.
func covers(end, until int64) bool {
	return until <= 0 || end > (until-1)/pageLen*pageLen
}

// covers tells whether the WAL of a partial reaches up to an offset.
func (s *staged) covers(until int64) bool {
	if s.exact {
		return s.end >= until
	}
	return covers(s.end, until)
}

// difference is the first offset below n at which two files differ, or n. A file
// that ends earlier differs there.
func difference(a, b io.ReaderAt, n int64) (int64, error) {
	p, q := make([]byte, min(chunkLen, n)), make([]byte, min(chunkLen, n))
	for at := int64(0); at < n; at += chunkLen {
		most := min(chunkLen, n-at)
		x, err := readUpTo(a, p[:most], at)
		if err != nil {
			return 0, err
		}
		y, err := readUpTo(b, q[:most], at)
		if err != nil {
			return 0, err
		}
		if !bytes.Equal(x, y) {
			return at + firstDifference(x, y), nil
		}
		if int64(len(x)) < most {
			return at + int64(len(x)), nil
		}
	}
	return n, nil
}

func readUpTo(r io.ReaderAt, p []byte, at int64) ([]byte, error) {
	n, err := r.ReadAt(p, at)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return p[:n], err
}

func firstDifference(x, y []byte) int64 {
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return int64(i)
		}
	}
	return int64(min(len(x), len(y)))
}

// better chooses between two partials of one segment: the one whose WAL goes
// further. They must be equal as far as both go, but for what comes behind the
// fork at which a later timeline left this one: there servers leave all sorts of
// bytes. fork is its offset, or the segment's size without one.
func better(a, b *staged, fork int64) (*staged, error) {
	both := min(a.end, b.end, fork)
	at, err := difference(a.file, b.file, both)
	if err != nil {
		return nil, &localError{err}
	}
	if at < both {
		return nil, problemf(damaged, "%s and %s differ at offset %d: two servers have written the same timeline", a.where, b.where, at)
	}
	if b.end > a.end {
		return b, nil
	}
	return a, nil
}

// serverHas tells whether the server's own copy of a segment begins with the
// same WAL up to an offset. PostgreSQL would replace it by what is delivered, and
// what it holds beyond would be lost.
func (c *call) serverHas(r io.ReaderAt, until int64) (bool, error) {
	f, err := c.dir.FS.OpenRead(c.dir.WAL(c.req.file))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at the server's own copy: %w", err)
	}
	defer f.Close()
	at, err := difference(f, r, until)
	if err != nil {
		return false, fmt.Errorf("compare with the server's own copy: %w", err)
	}
	return at == until, nil
}
