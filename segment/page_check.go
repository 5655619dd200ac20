package segment

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// checkChunkLen is how much of a segment is in memory at a time. It is a
// multiple of every page length, and every segment size a multiple of it.
const checkChunkLen = 128 << 10

// CorruptError says that a segment is not what its name promises. Another read
// of the same bytes gives the same answer.
type CorruptError struct {
	Segment string // file name, without suffix
	Offset  int64  // in bytes from the start of the segment, where it was noticed
	Reason  string
}

// Error names the segment, the offset and the reason.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("WAL segment %s is corrupt at offset %d: %s", e.Segment, e.Offset, e.Reason)
}

// CheckFirstPage checks that p begins with the first page of segment n of the
// given cluster: it finds a segment of another cluster, of another segment size
// or under a wrong name. p may be shorter or longer than a page, but a long
// header, 40 bytes, must be there. The page may be of an ancestor of n's
// timeline, because a fork is copied into the new timeline's segment. A magic
// number that [MajorOfMagic] does not know is no error.
//
// What is found to be wrong is a [*CorruptError]. Any other error says that id
// is no identity.
func CheckFirstPage(p []byte, n Name, id Identity) error {
	w, err := newPageWalk(n, id)
	if err != nil {
		return err
	}
	return w.first(p)
}

// CheckPages reads a segment and checks the header of every page, which finds
// holes, stale pages of a recycled file, pages out of place, pages of a foreign
// timeline and a wrong length. The first page is checked as [CheckFirstPage]
// does. After it
//
//   - every page has the address of its place, the magic number of the first
//     page, and a timeline that is neither before the one of the page in front
//     nor after n's;
//   - a record that takes up the rest of a page goes on in the next one, which
//     says how many of its bytes are left, unless it says that the record was
//     abandoned;
//   - pages of nothing but zeros are the end: what a switch to the next segment
//     leaves unused. In the middle they are a hole.
//
// The records themselves are not looked at. So it goes unnoticed when bytes
// between the headers have changed, and when a segment lost its end and was
// filled up with zeros, unless the headers show that a record goes on there.
//
// It is for complete segments, and for partials of which the rest is zero. What
// a server archives as .partial after its promotion can be a recycled file and
// go on with stale pages after the fork, which are corruption here.
//
// What is found to be wrong is a [*CorruptError]. Other errors are those of r,
// or say that id is no identity. The segment is read once, from front to back,
// through a buffer of 128 KiB.
func CheckPages(r io.ReaderAt, n Name, id Identity) error {
	w, err := newPageWalk(n, id)
	if err != nil {
		return err
	}
	buf := make([]byte, checkChunkLen)
	for offset := int64(0); offset < int64(id.Size); offset += checkChunkLen {
		if err := w.read(r, buf, offset); err != nil {
			return err
		}
		if err := w.chunk(buf, offset); err != nil {
			return err
		}
	}
	return w.end(r, buf[:1])
}

// pageWalk goes over the pages of one segment in order.
type pageWalk struct {
	name  Name
	size  Size
	rules pageRules

	owed int64 // bytes that the next page must say are left of a record
	hole int64 // offset of the first page of zeros, 0 if there was none
}

func newPageWalk(n Name, id Identity) (pageWalk, error) {
	if err := id.Size.Valid(); err != nil {
		return pageWalk{}, err
	}
	return pageWalk{name: n, size: id.Size, rules: pageRules{id: id, last: n.Timeline}}, nil
}

// read fills buf. A file that ends too early is corrupt, whatever else its
// reader may fail with is not the segment's fault.
func (w *pageWalk) read(r io.ReaderAt, buf []byte, offset int64) error {
	got, err := r.ReadAt(buf, offset)
	switch {
	case got == len(buf):
		return nil
	case errors.Is(err, io.EOF):
		return w.corrupt(offset+int64(got), "the file ends here, a segment has %d bytes", int64(w.size))
	default:
		return fmt.Errorf("read WAL segment %s at offset %d: %w", w.name.Format(w.size), offset, err)
	}
}

// end checks that nothing follows the segment.
func (w *pageWalk) end(r io.ReaderAt, buf []byte) error {
	size := int64(w.size)
	got, err := r.ReadAt(buf, size)
	switch {
	case got > 0:
		return w.corrupt(size, "the file goes on, a segment has %d bytes", size)
	case err == nil || errors.Is(err, io.EOF):
		return nil
	default:
		return fmt.Errorf("read WAL segment %s at offset %d: %w", w.name.Format(w.size), size, err)
	}
}

// chunk checks the pages in p, which begins at offset.
func (w *pageWalk) chunk(p []byte, offset int64) error {
	if offset == 0 {
		if err := w.first(p); err != nil {
			return err
		}
		p, offset = p[w.rules.block:], w.rules.block
	}
	for ; len(p) > 0; p, offset = p[w.rules.block:], offset+w.rules.block {
		if err := w.page(p[:w.rules.block], offset); err != nil {
			return err
		}
	}
	return nil
}

// first checks the first page.
func (w *pageWalk) first(p []byte) error {
	if len(p) < longHeaderLen {
		return w.corrupt(int64(len(p)), "the page header ends here")
	}
	if bytes.Equal(p[:longHeaderLen], emptyPage[:longHeaderLen]) {
		return w.corrupt(0, "the first page is empty")
	}
	return w.header(p, 0)
}

// page checks any page but the first.
func (w *pageWalk) page(p []byte, offset int64) error {
	if bytes.Equal(p, emptyPage[:len(p)]) {
		return w.zeroPage(offset)
	}
	if w.hole > 0 {
		return w.corrupt(w.hole, "empty page, but the one at offset %d is in use", offset)
	}
	return w.header(p, offset)
}

// header checks the header that p begins with.
func (w *pageWalk) header(p []byte, offset int64) error {
	h, reason := w.rules.check(p, w.name.Start(w.size)+LSN(offset))
	if reason != "" {
		return w.corrupt(offset, "%s", reason)
	}
	abandoned := h.Info&infoOverwriteContRecord != 0
	if w.owed > 0 && int64(h.RemLen) != w.owed && !abandoned {
		return w.corrupt(offset, "%d bytes instead of %d are left of a record", h.RemLen, w.owed)
	}
	w.rules.accept(h)
	w.owed = max(0, int64(h.RemLen)-(w.rules.block-h.headerLen()))
	return nil
}

// zeroPage notes a page that is not in use.
func (w *pageWalk) zeroPage(offset int64) error {
	if w.owed > 0 {
		return w.corrupt(offset, "empty page, but %d bytes are left of a record", w.owed)
	}
	if w.hole == 0 {
		w.hole = offset
	}
	return nil
}

func (w *pageWalk) corrupt(offset int64, format string, args ...any) error {
	return &CorruptError{
		Segment: w.name.Format(w.size),
		Offset:  offset,
		Reason:  fmt.Sprintf(format, args...),
	}
}
