package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/walrecv/walrecv/segment"
)

// SealTail makes a complete segment of chunks that hold all of it, for a spool that
// has lost it: the server may have removed it, since it was acknowledged. Errors are
// those of reading the chunks, also [ErrEncrypted], where all of them are at least as
// they were written, those of PutSegment, and, where chunks differ, one that wraps
// [segment.ErrBranch].
func (a *Archive) SealTail(ctx context.Context, scratch *Scratch, name segment.Name, chunks []Chunk) error {
	needed, end := Cover(chunks, 0)
	if end != int64(a.id.SegmentSize) {
		return fmt.Errorf("the tail ends at %d of %s", end, name.Format(a.id.SegmentSize))
	}
	if len(a.keys.Identities) == 0 && slices.ContainsFunc(needed, func(c Chunk) bool { return c.Encrypted }) {
		return a.checkEncrypted(ctx, needed)
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

// checkEncrypted checks chunks of which some are encrypted, as far as that goes
// without an identity. It ends with an [ErrEncrypted] at best.
func (a *Archive) checkEncrypted(ctx context.Context, chunks []Chunk) error {
	for _, c := range chunks {
		if c.Encrypted {
			if err := a.CheckClear(ctx, a.chunkObject(c), c.To-c.From); err != nil {
				return err
			}
			continue
		}
		plain, err := a.OpenChunk(ctx, c)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, plain)
		plain.Close() // it was only read
		if err != nil {
			return err
		}
	}
	return fmt.Errorf("the tail: %w", ErrEncrypted)
}

// tailReader reads a segment from its chunks.
type tailReader struct {
	ctx     context.Context
	archive *Archive
	chunks  []Chunk // those that are left
	last    Chunk   // that was read last
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

// next opens the next chunk, behind what is read already, which it must repeat.
func (r *tailReader) next() error {
	c := r.chunks[0]
	r.chunks = r.chunks[1:]
	open, err := r.archive.OpenChunk(r.ctx, c)
	if err != nil {
		return err
	}
	r.open = open
	last := r.last
	r.last = c
	if c.From == r.at {
		return nil
	}
	before, err := r.archive.OpenChunk(r.ctx, last)
	if err != nil {
		return err
	}
	defer before.Close() // it was only read
	if _, err := io.CopyN(io.Discard, before, c.From-last.From); err != nil {
		return err
	}
	same, err := sameBytes(open, before, r.at-c.From)
	if err == nil && !same {
		return otherTail(c)
	}
	return err
}

// sameBytes tells whether the next n bytes of two readers are the same.
func sameBytes(a, b io.Reader, n int64) (bool, error) {
	one, other := make([]byte, copyBuffer), make([]byte, copyBuffer)
	for ; n > 0; n -= min(n, copyBuffer) {
		if _, err := io.ReadFull(a, one[:min(n, copyBuffer)]); err != nil {
			return false, err
		}
		if _, err := io.ReadFull(b, other[:min(n, copyBuffer)]); err != nil {
			return false, err
		}
		if !bytes.Equal(one[:min(n, copyBuffer)], other[:min(n, copyBuffer)]) {
			return false, nil
		}
	}
	return true, nil
}

func (r *tailReader) Close() error {
	if r.open == nil {
		return nil
	}
	return r.open.Close()
}
