package push

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/pgdata"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
)

// putSegment archives a file with the name of a complete segment.
func (c *call) putSegment(ctx context.Context) error {
	name, err := c.segmentName()
	if err != nil {
		return err
	}
	p, err := c.archive.PrepareSegment(ctx, c.scratch, name, c.content)
	if err != nil {
		return err
	}
	defer p.Remove()
	c.patience.move()
	if p.Log().Reason != "" {
		p.Remove() // it may be in memory, where there is one place
		return c.putIncomplete(ctx, name, p.Log())
	}
	if p.Fault() != "" {
		if err := c.settled(p.Digest()); err != nil {
			return err
		}
	}
	if err := c.checkTail(ctx, name); err != nil {
		return err
	}
	if err := c.try(ctx, p.Put); err != nil {
		return err
	}
	if p.Fault() != "" {
		c.log.Warn("archived, but there is damage in it, as in the server's own file; look at the server's disk and memory, and take a base backup", "file", c.file.base, "damage", p.Fault())
	}
	return nil
}

// segmentName is the name of the segment that the file is or tells of.
func (c *call) segmentName() (segment.Name, error) {
	return segment.ParseName(c.file.segment, c.archive.Identity().SegmentSize)
}

// content opens the file, which must have the length of a segment.
func (c *call) content() (io.ReadCloser, error) {
	f, length, err := c.open()
	if err != nil {
		return nil, err
	}
	if size := int64(c.archive.Identity().SegmentSize); length != size {
		f.Close() // nothing was written through it
		return nil, c.wrongLength(length)
	}
	return c.reader(f, length), nil
}

func (c *call) wrongLength(length int64) error {
	size := int64(c.archive.Identity().SegmentSize)
	return &segment.CorruptError{
		Segment: c.file.segment,
		Offset:  min(length, size),
		Reason:  fmt.Sprintf("the file has %d bytes, a segment has %d", length, size),
	}
}

// reader reads a file, and up to the end of a segment zeros. What takes time on
// this host is no trouble of the store.
func (c *call) reader(f vfs.File, length int64) io.ReadCloser {
	return &watchedBody{archive.WithZeros(f, f, length, c.archive.Identity().SegmentSize), func(int) { c.patience.move() }}
}

// settled makes sure that what looks like damage was not merely being written: a
// standby can stream a segment into the file that it has just restored.
func (c *call) settled(before archive.Digest) error {
	plain, err := c.content()
	if err != nil {
		return err
	}
	defer plain.Close()
	h := sha256.New()
	if _, err := io.Copy(h, plain); err != nil {
		return err
	}
	if archive.Digest(h.Sum(nil)) != before {
		return fmt.Errorf("%s is being written: not archived now", c.file.base)
	}
	return nil
}

// putIncomplete deals with a file whose WAL ends before the segment does.
func (c *call) putIncomplete(ctx context.Context, name segment.Name, log segment.LogEnd) error {
	has, err := c.isBeginning(ctx, name, int64(log.LSN-name.Start(c.archive.Identity().SegmentSize)))
	if errors.Is(err, archive.ErrEncrypted) {
		// The complete one is there, and nobody here can compare: nothing of this one
		// is lost if it stands beside it.
		return c.putPartial(ctx)
	}
	if err != nil || has {
		return err
	}
	ended, err := c.endedBy(name, log.LSN)
	if err != nil {
		return err
	}
	if ended {
		return c.putPartial(ctx)
	}
	return fmt.Errorf("%s is not complete, and not archived: its WAL ends at %s (%s). If it is the tail of the archive that was restored here, "+
		"this goes away once the archive has the complete segment", c.file.base, log.LSN, log.Reason)
}

// isBeginning tells whether the archive has the complete segment, and the first
// length bytes of the file are its own. A segment that has others is a conflict, and
// one that is encrypted an [archive.ErrEncrypted].
func (c *call) isBeginning(ctx context.Context, name segment.Name, length int64) (has bool, err error) {
	err = c.try(ctx, func(ctx context.Context) error {
		has = false
		theirs, err := c.archive.OpenSegment(ctx, name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if errors.Is(err, archive.ErrEncrypted) {
			return &final{err}
		}
		if err != nil {
			return err
		}
		defer theirs.Close()
		ours, err := c.content()
		if err != nil {
			return &final{err}
		}
		defer ours.Close()
		same, err := sameBytes(io.LimitReader(theirs, length), io.LimitReader(ours, length))
		if err != nil {
			return err
		}
		// It counts only if it is sound, which shows at its end.
		if _, err := io.Copy(io.Discard, theirs); err != nil {
			return err
		}
		if !same {
			return fmt.Errorf("the archive has %s with another content, though the file is not complete: another server writes there: %w",
				c.file.base, segment.ErrBranch)
		}
		has = true
		return nil
	})
	return has, err
}

// sameBytes tells whether two readers yield the same.
func sameBytes(a, b io.Reader) (bool, error) {
	const chunk = 128 << 10
	left, right := make([]byte, chunk), make([]byte, chunk)
	for {
		n, errLeft := io.ReadFull(a, left)
		m, errRight := io.ReadFull(b, right)
		// An error first: what was not read would look like a difference.
		for _, err := range []error{errLeft, errRight} {
			if failed(err) {
				return false, err
			}
		}
		if n != m || !bytes.Equal(left[:n], right[:n]) {
			return false, nil
		}
		if n < len(left) {
			return true, nil
		}
	}
}

// failed tells whether an error of reading is not merely the end.
func failed(err error) bool {
	return err != nil && err != io.EOF && err != io.ErrUnexpectedEOF
}

// endedBy tells whether the timeline was left within the segment, as far as the
// server knows, at a position that the file reaches: then nothing of it is missing.
func (c *call) endedBy(name segment.Name, end segment.LSN) (bool, error) {
	local, err := pgdata.ReadHistories(c.o.FS, filepath.Dir(c.path), name.Timeline)
	if err != nil {
		return false, err
	}
	size := c.archive.Identity().SegmentSize
	for _, h := range local.Sound {
		_, fork, ok := h.Bounds(name.Timeline)
		if ok && name.Start(size) < fork && fork <= end {
			return true, nil
		}
	}
	return false, nil
}

// putPartial archives the last segment of a timeline that has ended, whatever is in
// it: what counts of it is in the next timeline's segment as well. One that cannot
// be a segment is left out, because the server would ask for nothing else any more.
func (c *call) putPartial(ctx context.Context) error {
	name, err := c.segmentName()
	if err != nil {
		return err
	}
	p, err := c.archive.PreparePartial(ctx, c.scratch, name, c.partialContent)
	var corrupt *segment.CorruptError
	if errors.As(err, &corrupt) {
		c.log.Error("not archived: it holds no WAL that belongs there; the server need not keep it", "file", c.file.base, "error", err)
		return nil
	}
	if err != nil {
		return err
	}
	defer p.Remove()
	c.patience.move()
	return c.try(ctx, p.Put)
}

// partialContent opens the file, which may be shorter than a segment.
func (c *call) partialContent() (io.ReadCloser, error) {
	f, length, err := c.open()
	if err != nil {
		return nil, err
	}
	if length > int64(c.archive.Identity().SegmentSize) {
		f.Close() // nothing was written through it
		return nil, c.wrongLength(length)
	}
	return c.reader(f, length), nil
}
