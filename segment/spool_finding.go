package segment

import (
	"errors"
	"io"
	"io/fs"

	"github.com/walrecv/walrecv/internal/vfs"
)

// PutGap records a gap durably, before anything behind it is streamed: without
// the record the WAL behind it would not count as held.
func (s *Spool) PutGap(g Gap) error {
	if err := g.valid(s.cluster.Size); err != nil {
		return err
	}
	content, err := g.Encode()
	if err != nil {
		return err
	}
	return s.putFinding(g.FileName(), content)
}

// PutMark records durably that a segment holds something wrong.
func (s *Spool) PutMark(m Mark) error {
	content, err := m.Encode(s.cluster.Size)
	if err != nil {
		return err
	}
	return s.putFinding(m.FileName(s.cluster.Size), content)
}

// putFinding keeps the file that is there already: it says the same.
func (s *Spool) putFinding(base string, content []byte) error {
	there, err := vfs.Exists(s.fsys, s.path(base))
	if err != nil || there {
		return err
	}
	if err := vfs.WriteFile(s.fsys, s.path(base), s.cluster.FileMode, content); err != nil {
		return err
	}
	s.onSeal() // it is to be archived
	return nil
}

// gaps reads the gaps that a listing names.
func (s *Spool) gaps(l Listing) ([]Gap, error) {
	var gaps []Gap
	for _, base := range l.Gaps {
		content, err := vfs.ReadFile(s.fsys, s.path(base))
		if err != nil {
			return nil, err
		}
		g, err := ParseGap(content, s.cluster.Size)
		if err != nil {
			// Without it WAL counts as missing, which ends the receiver at worst.
			s.log.Error("a recorded gap cannot be read and does not count; move it away, and look at the disk", "file", base, "error", err)
			continue
		}
		gaps = append(gaps, g)
	}
	return gaps, nil
}

// Before opens the complete segment in front of a position, of the newest
// timeline of a history that has one; fs.ErrNotExist if none is here, or only a
// compressed one.
func (s *Spool) Before(at LSN, h History) (Name, io.ReadCloser, error) {
	size := s.cluster.Size
	if at == 0 {
		return Name{}, nil, fs.ErrNotExist
	}
	number := size.Number(at - 1)
	timelines := h.Segment(number, size)
	for i := len(timelines) - 1; i >= 0; i-- {
		name := Name{Timeline: timelines[i], Number: number}
		if !completeOn(h, size, name) {
			continue // it goes on as another branch
		}
		file, err := s.fsys.OpenRead(s.path(name.Format(size)))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return Name{}, nil, err
		}
		return name, struct {
			io.Reader
			io.Closer
		}{io.NewSectionReader(file, 0, int64(size)), file}, nil
	}
	return Name{}, nil, fs.ErrNotExist
}

// Sealed is the end of the segment that was sealed last, or where a [Writer] began behind
// that; ok is false before there is one. It may be called from any goroutine.
func (s *Spool) Sealed() (at Position, ok bool) {
	if p := s.sealed.Load(); p != nil {
		return *p, true
	}
	return Position{}, false
}
