package archive

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/walrecv/walrecv/segment"
)

// SealTail makes a complete segment of chunks that hold all of it, for a spool that
// has lost it: the server may have removed it, since it was acknowledged. Errors are
// those of reading the chunks, also [ErrEncrypted], and those of PutSegment.
func (a *Archive) SealTail(ctx context.Context, scratch *Scratch, name segment.Name, chunks []Chunk) error {
	needed, end := Cover(chunks, 0)
	if end != int64(a.id.SegmentSize) {
		return fmt.Errorf("the tail ends at %d of %s", end, name.Format(a.id.SegmentSize))
	}
	for _, c := range needed {
		if c.Encrypted && len(a.keys.Identities) == 0 {
			return fmt.Errorf("%s: %w", c, ErrEncrypted)
		}
	}
	var failed error // of the store: to the Scratch it looks like one of its own
	err := a.PutSegment(ctx, scratch, name, func() (io.ReadCloser, error) {
		return &tailReader{ctx: ctx, archive: a, chunks: needed, failed: &failed}, nil
	})
	if failed != nil {
		return failed
	}
	return err
}

// tailReader reads a segment from its chunks.
type tailReader struct {
	ctx     context.Context
	archive *Archive
	chunks  []Chunk // those that are left
	at      int64
	open    io.ReadCloser
	failed  *error
}

func (r *tailReader) Read(p []byte) (int, error) {
	for {
		if r.open == nil {
			if len(r.chunks) == 0 {
				return 0, io.EOF
			}
			if err := r.next(); err != nil {
				*r.failed = err
				return 0, err
			}
		}
		n, err := r.open.Read(p)
		r.at += int64(n)
		if errors.Is(err, io.EOF) {
			err = r.open.Close()
			r.open = nil
		}
		if err != nil {
			*r.failed = err
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// next opens the next chunk, behind what is read already.
func (r *tailReader) next() error {
	c := r.chunks[0]
	r.chunks = r.chunks[1:]
	open, err := r.archive.OpenChunk(r.ctx, c)
	if err != nil {
		return err
	}
	r.open = open
	_, err = io.CopyN(io.Discard, open, r.at-c.From)
	return err
}

func (r *tailReader) Close() error {
	if r.open == nil {
		return nil
	}
	return r.open.Close()
}
