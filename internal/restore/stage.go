package restore

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/walrecv/walrecv/internal/codec"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
)

const (
	// pageHeader is the length of the header of a segment's first page.
	pageHeader = 40

	// pageLen is the usual length of a WAL page.
	pageLen = 8 << 10

	chunkLen = 256 << 10
)

// scratchSuffixes end the names of the files that are written beside %p. They are
// always the same, so that what a killed call left is removed by the next one.
// There are two, for the comparison of two partials, and for a segment that is sealed
// while one of them waits.
var scratchSuffixes = [2]string{".walrecv.tmp", ".walrecv-2.tmp"}

// staged is a file that is being made, beside %p or where segments are prefetched, of
// full length from the start: what is not written reads as zeros.
type staged struct {
	fsys  vfs.FS
	name  string
	file  vfs.File
	where string // its source, for messages
	end   int64  // of a partial: where its WAL ends
	exact bool   // end is known to the byte, not only from what there is in front of it
}

// sweep removes what a killed call left. What cannot be removed is in the way of
// stage, and reported then.
func (c *call) sweep() {
	for _, suffix := range scratchSuffixes {
		_ = c.o.FS.Remove(c.target + suffix)
	}
}

// stage makes an empty file of the given length. The blocks are really there, so
// that the server can go on writing into the segment without running out of
// space.
func (c *call) stage(slot int, length int64, where string) (*staged, error) {
	name := c.target + scratchSuffixes[slot]
	file, err := c.o.FS.Create(name, 0o600)
	if err != nil {
		return nil, err
	}
	s := &staged{fsys: c.o.FS, name: name, file: file, where: where}
	if err := file.Preallocate(length); err != nil {
		s.discard()
		return nil, err
	}
	return s, nil
}

// discard removes the file. That is all that can be done about it here: the next
// call removes what stays.
func (s *staged) discard() {
	s.file.Close()
	_ = s.fsys.Remove(s.name)
}

// deliver gives the file its name. Nothing of it is synced, because PostgreSQL
// does not rely on the delivered file after a crash: it asks for it again, or
// syncs it when it moves it to its own name in pg_wal. A sync of every segment
// here would make the recovery several times as long. What a crash leaves under
// this name is not looked at: PostgreSQL removes it before it asks.
func (s *staged) deliver(target string) error {
	if err := s.file.Close(); err != nil {
		s.discard()
		return err
	}
	if err := vfs.Move(s.fsys, nil, s.name, target); err != nil {
		_ = s.fsys.Remove(s.name)
		return err
	}
	return nil
}

// localError is one of the disk that is restored to.
type localError struct{ err error }

func (e *localError) Error() string { return "write the restored file: " + e.err.Error() }
func (e *localError) Unwrap() error { return e.err }

// fill copies a body into the file and returns its length, which is most at most.
// Zeros need not be written.
func (s *staged) fill(body io.Reader, most int64) (int64, error) {
	buf := make([]byte, min(chunkLen, most))
	for total := int64(0); ; {
		n, err := readChunk(body, buf[:min(int64(len(buf)), most-total+1)])
		if total+int64(n) > most {
			return total, problemf(damaged, "%s is longer than %d bytes", s.where, most)
		}
		if n > 0 && !zero(buf[:n]) {
			if _, err := s.file.WriteAt(buf[:n], total); err != nil {
				return total, &localError{err}
			}
		}
		total += int64(n)
		if err != nil {
			return total, err
		}
	}
}

// readChunk fills buf as far as the body goes, and returns io.EOF only at the
// end of the body.
func readChunk(body io.Reader, buf []byte) (int, error) {
	n := 0
	for n < len(buf) {
		m, err := body.Read(buf[n:])
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// takeSealed copies a sealed segment and checks it: its length, what the source
// can prove at its end, the first page, and, where the source can prove nothing,
// the headers of all pages.
func (c *call) takeSealed(st *stream, n segment.Name, slot int) (*staged, error) {
	size := int64(c.size)
	s, err := c.stage(slot, size, st.where)
	if err != nil {
		return nil, &localError{err}
	}
	if err := s.sealed(st, n, segment.Identity{SystemID: c.system, Size: c.size}); err != nil {
		s.discard()
		return nil, err
	}
	return s, nil
}

func (s *staged) sealed(st *stream, n segment.Name, id segment.Identity) error {
	length, err := s.fill(st.body, int64(id.Size))
	if err != io.EOF {
		return fmt.Errorf("%s: %w", st.where, err)
	}
	if length != int64(id.Size) {
		return problemf(damaged, "%s has %d bytes instead of %d", st.where, length, int64(id.Size))
	}
	if !st.digest {
		return s.check(segment.CheckPages(s.file, n, id))
	}
	var page [pageHeader]byte
	if _, err := s.file.ReadAt(page[:], 0); err != nil {
		return &localError{err}
	}
	return s.check(segment.CheckFirstPage(page[:], n, id))
}

// check adds the source to the error of a check, and tells apart what the copy
// cannot be read for.
func (s *staged) check(err error) error {
	var corrupt *segment.CorruptError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &corrupt):
		return fmt.Errorf("%s: %w", s.where, err)
	}
	return &localError{err}
}

// takePartial copies a partial and finds where its WAL ends.
func (c *call) takePartial(st *stream, n segment.Name, slot int) (*staged, error) {
	s, err := c.stage(slot, int64(c.size), st.where)
	if err != nil {
		return nil, &localError{err}
	}
	if err := s.partial(st, n, segment.Identity{SystemID: c.system, Size: c.size}); err != nil {
		s.discard()
		return nil, err
	}
	return s, nil
}

func (s *staged) partial(st *stream, n segment.Name, id segment.Identity) error {
	body, most := io.Reader(st.body), int64(id.Size)
	if st.at != nil {
		// A receiver may be appending: what is below the end is written.
		end, err := segment.ContentEnd(st.at, min(st.length, most))
		if err != nil {
			return fmt.Errorf("%s: %w", st.where, err)
		}
		body, most = io.NewSectionReader(st.at, 0, end), end
	}
	if most == 0 {
		return nil
	}
	_, err := s.fill(body, most)
	if err != io.EOF && !(st.cut && cutShort(err)) {
		return fmt.Errorf("%s: %w", st.where, err)
	}
	s.end, err = walEnd(s.file, n, id)
	return s.check(err)
}

// cutShort tells whether a compressed file is sound but ends too early.
func cutShort(err error) bool {
	var corrupt *codec.CorruptError
	return errors.As(err, &corrupt) && errors.Is(err, io.ErrUnexpectedEOF)
}

var zeros [chunkLen]byte

func zero(p []byte) bool { return bytes.Equal(p, zeros[:len(p)]) }

// blank overwrites the file with zeros from an offset on.
func (s *staged) blank(from, size int64) error {
	for from < size {
		n, err := s.file.WriteAt(zeros[:min(chunkLen, size-from)], from)
		if err != nil {
			return &localError{err}
		}
		from += int64(n)
	}
	return nil
}
