package recovery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/segment"
)

// readLen is how much of a segment is read at a time.
const readLen = 128 << 10

// errEnough ends a scan early.
var errEnough = errors.New("enough was read")

// scan reads a run and calls see for the records that begin at from or later and end
// at to or before, in order, until it returns false or the WAL ends. Memory does not
// depend on how much is read. Segments are proven only by their records' checksums,
// as PostgreSQL proves what it replays.
func (s *Survey) scan(ctx context.Context, r run, from, to segment.LSN, see func(*segment.Record) bool) error {
	return s.read(ctx, r, &seer{from: from, to: min(to, r.end), see: see})
}

// read is scan for a seer, which can also be told of what is wrong.
func (s *Survey) read(ctx context.Context, r run, v *seer) error {
	if v.from >= v.to {
		return nil
	}
	reader, err := s.reader(r.line.history, v)
	if err != nil {
		return err
	}
	first := s.size.Number(v.from)
	if first > r.from {
		first-- // a record may begin there that ends behind from
	}
	for number := first; s.size.Start(number) < v.to; number++ {
		err := s.scanSegment(ctx, r, number, func(at segment.LSN, p []byte) error {
			reader.Feed(at, p)
			if v.done {
				return errEnough
			}
			return nil
		})
		if errors.Is(err, errEnough) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Survey) reader(h segment.History, v segment.Visitor) (*segment.Reader, error) {
	id := s.archive.Identity()
	return segment.NewReader(segment.ReaderOptions{Identity: id.Segment(), Major: id.Major, History: h}, v)
}

// scanSegment feeds what a run has of a segment.
func (s *Survey) scanSegment(ctx context.Context, r run, number uint64, feed func(segment.LSN, []byte) error) error {
	start := s.size.Start(number)
	name, ok := r.line.name(number)
	switch {
	case ok && s.listing.Has(name):
		return s.feed(ctx, name, func() (io.ReadCloser, error) { return s.archive.OpenSegment(ctx, name) }, start, start+segment.LSN(s.size), feed)
	case ok: // all of it is in the tail
		chunks, _ := archive.Cover(s.listing.Chunks(name), 0)
		return s.feedChunks(ctx, name, chunks, start+segment.LSN(s.size), feed)
	case r.edge == nil || r.edge.name.Number != number:
		return nil
	}
	e := r.edge
	switch {
	case e.whole:
		return s.feed(ctx, e.name, func() (io.ReadCloser, error) { return s.archive.OpenSegment(ctx, e.name) }, start, e.end, feed)
	case len(e.chunks) > 0:
		return s.feedChunks(ctx, e.name, e.chunks, e.end, feed)
	}
	p, _, err := s.longest(ctx, r.line, e)
	if err != nil {
		return err
	}
	return s.feed(ctx, e.name, func() (io.ReadCloser, error) { return s.archive.OpenPartial(ctx, p) }, start, e.end, feed)
}

// feedChunks feeds the bytes of the chunks of a segment, which overlap, up to end.
func (s *Survey) feedChunks(ctx context.Context, name segment.Name, chunks []archive.Chunk, end segment.LSN, feed func(segment.LSN, []byte) error) error {
	fed := name.Start(s.size)
	for _, c := range chunks {
		at := name.Start(s.size) + segment.LSN(c.From)
		err := s.feed(ctx, name, func() (io.ReadCloser, error) { return s.archive.OpenChunk(ctx, c) }, at, end, func(at segment.LSN, p []byte) error {
			if skip := min(uint64(len(p)), uint64(fed-min(fed, at))); skip > 0 {
				at, p = at+segment.LSN(skip), p[skip:]
			}
			fed = max(fed, at+segment.LSN(len(p)))
			return feed(at, p)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// feed feeds the plain bytes of an object, which begin at a position, up to end. A
// piece of the tail may be gone since it was listed: its segment is complete then.
func (s *Survey) feed(ctx context.Context, name segment.Name, open func() (io.ReadCloser, error), at, end segment.LSN, feed func(segment.LSN, []byte) error) error {
	src, err := open()
	if errors.Is(err, fs.ErrNotExist) {
		skip := int64(at - name.Start(s.size))
		if src, err = s.archive.OpenSegment(ctx, name); err == nil {
			_, err = io.CopyN(io.Discard, src, skip)
		}
	}
	if err != nil {
		if src != nil {
			src.Close() // it was only read
		}
		return fmt.Errorf("read segment %s: %w", name.Format(s.size), err)
	}
	defer src.Close()
	buf := make([]byte, readLen)
	for at < end {
		n, err := src.Read(buf[:min(readLen, uint64(end-at))])
		if n > 0 {
			if err := feed(at, buf[:n]); err != nil {
				return err
			}
			at += segment.LSN(n)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read segment %s: %w", name.Format(s.size), err)
		}
	}
	return nil
}

// seer is the Visitor of a scan.
type seer struct {
	from, to segment.LSN
	see      func(*segment.Record) bool
	fault    func(segment.Fault) // nil: nobody wants to know
	done     bool
}

// Segment implements [segment.Visitor].
func (v *seer) Segment(segment.LSN) {}

// Record implements [segment.Visitor].
func (v *seer) Record(r *segment.Record) {
	if !v.done && r.LSN >= v.from && (r.End > v.to || !v.see(r)) {
		v.done = true
	}
}

// Fault implements [segment.Visitor]: it is where PostgreSQL stops, too.
func (v *seer) Fault(f segment.Fault) {
	if v.fault != nil && f.LSN < v.from {
		return // who asks has been through there
	}
	if v.fault != nil && !v.done {
		v.fault(f)
	}
	v.done = true
}

// Unchecked implements [segment.Visitor].
func (v *seer) Unchecked(_, _ segment.LSN) {}

// longest is the partial of a segment whose WAL goes furthest, which is the one that
// restore_command gets, and where that is.
func (s *Survey) longest(ctx context.Context, l *line, e *edge) (best archive.Partial, last segment.LSN, err error) {
	id := s.archive.Identity()
	for _, p := range e.parts {
		src, err := s.archive.OpenPartial(ctx, p)
		if err != nil {
			return best, 0, err
		}
		end, err := segment.FindEnd(src, e.name, segment.ReaderOptions{Identity: id.Segment(), Major: id.Major, History: l.history})
		src.Close() // it was only read
		if err != nil {
			return best, 0, fmt.Errorf("read the partial of segment %s: %w", e.name.Format(s.size), err)
		}
		if end.LSN > last {
			best, last = p, end.LSN
		}
	}
	return best, last, nil
}
