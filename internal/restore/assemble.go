package restore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/segment"
)

// tailSource is a source that also holds segments in chunks, while they are not
// complete.
type tailSource interface {
	// chunks lists the chunks of a segment.
	chunks(ctx context.Context, n segment.Name) ([]archive.Chunk, error)

	// chunk opens a chunk.
	chunk(ctx context.Context, c archive.Chunk) (*stream, error)
}

// maxCovers is how often chunks are listed anew because one that was listed is not
// there any more. A writer replaces some at every upload.
const maxCovers = 8

// piece is a chunk that was read whole.
type piece struct {
	from, to int64
	digest   archive.Digest // of its plain bytes
}

// assembly puts a segment together from chunks.
type assembly struct {
	call *call
	src  tailSource
	name segment.Name
	want int64 // bytes from the start on; more need not be read
	s    *staged

	pieces []piece // those that the bytes are from, in order
	end    int64   // bytes before it are in s, and proven
	dirty  int64   // what is behind end, and before this, can be anything
	there  []archive.Chunk
	bad    map[archive.Chunk]error // damaged ones

	keeper *keeper
	kept   int64 // bytes before it are from the keeper
}

// assemble puts together what the chunks of a segment hold from its start on without
// a hole, want bytes at most. The error is fs.ErrNotExist if there is nothing.
func (c *call) assemble(a *attempt, src tailSource, where string, n segment.Name, want int64, slot int) (*staged, error) {
	m := assembly{call: c, src: src, name: n, want: want, bad: map[archive.Chunk]error{}, keeper: c.keeper(where)}
	if err := m.list(a); err != nil {
		return nil, err
	}
	if _, end := archive.Cover(m.there, 0); end < pageHeader {
		return nil, fs.ErrNotExist // nothing of it, or nothing that could be checked
	}
	var err error
	if m.s, err = c.stage(slot, int64(c.size), where+", tail"); err != nil {
		return nil, &localError{err}
	}
	m.s.exact = true
	m.recall()
	if err = m.fill(a); err == nil {
		err = m.compareOthers(a)
	}
	if err == nil {
		err = m.check()
	}
	if err != nil {
		m.s.discard()
		return nil, err
	}
	m.remember()
	return m.s, nil
}

func (m *assembly) list(a *attempt) (err error) {
	m.there, err = within(a, func(ctx context.Context) ([]archive.Chunk, error) { return m.src.chunks(ctx, m.name) })
	return err
}

// fill reads chunks until all is there that they have. One that is damaged is done
// without, if others have its bytes; one that is gone was replaced by another one, or
// by the complete segment.
func (m *assembly) fill(a *attempt) error {
	for covers := 1; m.end < m.want; {
		usable := slices.DeleteFunc(slices.Clone(m.there), func(c archive.Chunk) bool { return m.bad[c] != nil })
		needed, _ := archive.Cover(usable, m.end)
		if len(needed) == 0 {
			break
		}
		err := m.read(a, needed[0])
		switch {
		case err == nil:
		case isAbsent(err):
			if covers++; covers > maxCovers {
				return errVanished
			}
			if err := m.list(a); err != nil {
				return err
			}
		case errors.Is(err, errDiffer) && m.kept > 0:
			m.forget() // who knows what was kept
		case judge(err).verdict == damaged && !errors.Is(err, errDiffer):
			m.bad[needed[0]] = err
		default:
			return err
		}
	}
	needed, end := archive.Cover(m.there, m.end)
	switch {
	case m.end >= m.want || len(needed) == 0 && m.end > 0:
		m.s.end = m.end
		return nil
	case end > m.end:
		return m.bad[needed[0]]
	}
	return errVanished
}

// maxOthers is how many chunks are read only to be compared. Where superseded ones
// are deleted there are hardly any; where they cannot be, there are thousands.
const maxOthers = 8

// compareOthers compares chunks that are not needed: if one of them differs, nobody
// knows which is right. Not on a standby, which asks again and again.
func (m *assembly) compareOthers(a *attempt) error {
	var others []archive.Chunk
	for _, c := range m.there {
		read := slices.ContainsFunc(m.pieces, func(p piece) bool { return p.from == c.From && p.to == c.To })
		if !read && m.bad[c] == nil && c.To <= min(m.end, m.want) {
			others = append(others, c)
		}
	}
	if len(others) > maxOthers || m.keeper != nil {
		return nil
	}
	for _, c := range others {
		err := m.call.transfer(a, func(ctx context.Context) (*stream, error) { return m.src.chunk(ctx, c) }, func(st *stream) error {
			_, err := m.take(st, c)
			return err
		})
		if err != nil && !isAbsent(err) && (judge(err).verdict != damaged || errors.Is(err, errDiffer)) {
			return err
		}
	}
	return nil
}

// errVanished says that there were chunks a moment ago, and are none any more.
var errVanished = fmt.Errorf("its chunks were listed, and are gone: %w", fs.ErrNotExist)

// errDiffer says that two chunks do not have the same bytes where they overlap.
var errDiffer = errors.New("two servers have written the same timeline")

// read reads a chunk that begins at end or before.
func (m *assembly) read(a *attempt, c archive.Chunk) error {
	var p piece
	err := m.call.transfer(a, func(ctx context.Context) (*stream, error) { return m.src.chunk(ctx, c) }, func(st *stream) (err error) {
		p, err = m.take(st, c)
		return err
	})
	if err != nil {
		return err
	}
	m.pieces, m.end = append(m.pieces, p), c.To
	return nil
}

// take copies a chunk to where it belongs, and compares what is there already.
func (m *assembly) take(st *stream, c archive.Chunk) (piece, error) {
	sum := sha256.New()
	buf := make([]byte, min(chunkLen, c.To-c.From+1))
	differs := int64(-1)
	for at := c.From; ; {
		n, err := readChunk(st.body, buf)
		if at+int64(n) > c.To {
			return piece{}, problemf(damaged, "%s is longer than %d bytes", st.where, c.To-c.From)
		}
		sum.Write(buf[:n])
		old, putErr := m.put(buf[:n], at)
		if putErr != nil {
			return piece{}, &localError{putErr}
		}
		if old >= 0 && differs < 0 {
			differs = old
		}
		at += int64(n)
		switch {
		case err == nil:
			continue
		case err != io.EOF:
			return piece{}, fmt.Errorf("%s: %w", st.where, err)
		case at != c.To:
			return piece{}, problemf(damaged, "%s has %d bytes instead of %d", st.where, at-c.From, c.To-c.From)
		case differs >= 0:
			return piece{}, problemf(damaged, "%s and the chunks before it differ at offset %d: %w", st.where, differs, errDiffer)
		}
		return piece{c.From, c.To, archive.Digest(sum.Sum(nil))}, nil
	}
}

// put writes bytes that come behind those that are proven, and compares the others:
// differs is the first offset that is not the same, -1 if there is none.
func (m *assembly) put(p []byte, at int64) (differs int64, err error) {
	differs = -1
	if known := min(m.end-at, int64(len(p))); known > 0 {
		have := make([]byte, known)
		if _, err := m.s.file.ReadAt(have, at); err != nil {
			return -1, err
		}
		if !bytes.Equal(have, p[:known]) {
			differs = at + firstDifference(have, p[:known])
		}
		p, at = p[known:], at+known
	}
	if len(p) == 0 {
		return differs, nil
	}
	m.dirty = max(m.dirty, at+int64(len(p)))
	_, err = m.s.file.WriteAt(p, at)
	return differs, err
}

// check checks that the pages are those of the segment, as far as they go.
func (m *assembly) check() error {
	if err := m.s.blank(m.end, m.dirty); err != nil {
		return err
	}
	err := segment.CheckPages(m.s.file, m.name, segment.Identity{SystemID: m.call.system, Size: m.call.size})
	var corrupt *segment.CorruptError
	if errors.As(err, &corrupt) && corrupt.Offset+pageHeader > m.end && m.end >= pageHeader {
		err = nil // the page was begun, or a record goes on in it
	}
	return m.s.check(err)
}
