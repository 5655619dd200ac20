package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/walrecv/walrecv/segment"
)

// otherTail says that a chunk holds other WAL than what came.
func otherTail(c Chunk) error {
	return fmt.Errorf("the archive has %s with another content: was the server restored from a snapshot, or does another one write there? %w", c, segment.ErrBranch)
}

// beginsWith compares a chunk, as far as a segment goes up to an offset, with the
// segment's bytes. The chunk is read to its end.
func (a *Archive) beginsWith(ctx context.Context, c Chunk, plain io.ReaderAt, to int64) error {
	r, err := a.OpenChunk(ctx, c)
	if err != nil {
		return err
	}
	defer r.Close()
	n := min(c.To, to) - c.From
	same, err := sameBytes(r, &localReader{io.NewSectionReader(plain, c.From, n)}, n)
	if err == nil && !same {
		err = otherTail(c)
	}
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, r)
	return err
}

// localReader makes what it fails with a [LocalError].
type localReader struct{ r io.Reader }

func (r *localReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err != nil && err != io.EOF {
		err = &LocalError{err}
	}
	return n, err
}

// CheckTail compares a complete segment with chunks of it, before it takes their
// place: they may have been acknowledged, by whoever put them. Other WAL in one of
// them is an error that wraps [segment.ErrBranch]; one that cannot be read, or is
// gone, says nothing. open opens the segment's bytes.
func (a *Archive) CheckTail(ctx context.Context, chunks []Chunk, open Opener) error {
	for _, c := range worthComparing(chunks) {
		same, err := a.sameAs(ctx, c, open)
		var damaged *DamagedError
		var local *LocalError
		switch {
		case errors.As(err, &local):
			return err
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, ErrEncrypted), errors.As(err, &damaged):
		case err != nil:
			return err
		case !same:
			return otherTail(c)
		}
	}
	return nil
}

// sameAs tells whether a chunk has the bytes that a segment has in its place.
func (a *Archive) sameAs(ctx context.Context, c Chunk, open Opener) (bool, error) {
	plain, err := open()
	if err != nil {
		return false, &LocalError{err}
	}
	defer plain.Close() // it was only read
	if _, err := io.CopyN(io.Discard, plain, c.From); err != nil {
		return false, &LocalError{err}
	}
	return a.SameChunk(ctx, c, io.LimitReader(plain, c.To-c.From))
}

// looked keeps what a look has found, for the complete segments that will take its
// place.
func (t *Tail) looked(job *tailJob) {
	at := job.stream.at
	first := t.spool.Size().Number(at.LSN)
	if from, ok := t.known[at.Timeline]; !ok || first < from {
		t.known[at.Timeline] = first
	}
	for _, c := range job.found.chunks {
		t.before[c.Name] = append(t.before[c.Name], c)
	}
}

// chunksBefore are the chunks of a segment that the archive may have had before it
// was streamed here. ok is false if nobody has looked.
func (t *Tail) chunksBefore(name segment.Name) (chunks []Chunk, ok bool) {
	if t == nil {
		return nil, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	from, ok := t.known[name.Timeline]
	if f := t.front; f != nil && !f.adopted && f.at.Timeline == name.Timeline && f.size.Number(f.at.LSN) <= name.Number {
		return nil, false
	}
	return t.before[name], ok && from <= name.Number
}

// checkTail compares a complete segment of the spool with what the archive has of it
// in chunks.
func (u *Uploader) checkTail(ctx context.Context, i item) error {
	chunks, ok := u.tail.chunksBefore(i.name)
	if ok && len(chunks) == 0 {
		return nil
	}
	return u.outage.retry(ctx, i.bases[0], patiently(int64(u.archive.id.SegmentSize), func(ctx context.Context) (err error) {
		if !ok {
			if chunks, err = u.archive.Chunks(ctx, i.name); err != nil {
				return err
			}
		}
		return u.archive.CheckTail(ctx, u.tail.undoubted(chunks), u.sealed(ctx, i))
	}))
}
