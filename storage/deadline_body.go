package storage

import (
	"context"
	"io"
	"sync"
)

// bodyBuffer is the most that one read of a body asks the store for, in bytes.
const bodyBuffer = 256 << 10

var bodyBuffers = sync.Pool{New: func() any { return new([bodyBuffer]byte) }}

// body bounds the waiting for the body of an object by the context of its Open.
// The store never sees the caller's memory: it fills buffers of ours, and one
// that it was given up with is never used again.
type body struct {
	ctx   context.Context
	key   string
	inner io.ReadCloser

	// calls is held for reading during every read of inner, given up or not,
	// and for writing to close it: no reader has to bear a Close meanwhile.
	calls sync.RWMutex
}

// bodyAt is a body of a store whose bodies can be read anywhere.
type bodyAt struct {
	*body
	innerAt io.ReaderAt
}

func newBody(ctx context.Context, key string, inner io.ReadCloser) io.ReadCloser {
	b := &body{ctx: ctx, key: key, inner: inner}
	if at, ok := inner.(io.ReaderAt); ok {
		return bodyAt{b, at}
	}
	return b
}

func (b *body) Read(p []byte) (int, error) {
	return b.fill(p, b.inner.Read)
}

// ReadAt reads in several steps where p is large.
func (b bodyAt) ReadAt(p []byte, off int64) (int, error) {
	total := 0
	for {
		at := off + int64(total) // not total itself: a read given up may still look
		n, err := b.fill(p[total:], func(buf []byte) (int, error) {
			return b.innerAt.ReadAt(buf, at)
		})
		total += n
		if err != nil || total == len(p) {
			return total, err
		}
	}
}

// fill has read fill a private buffer of at most len(p) bytes, and copies what
// it got to p.
func (b *body) fill(p []byte, read func([]byte) (int, error)) (int, error) {
	type result struct {
		n   int
		err error // of the read; may come with bytes
	}
	buf := bodyBuffers.Get().(*[bodyBuffer]byte)
	want := min(len(p), len(buf))
	r, err := wait(b.ctx, "read "+b.key, func() (result, error) {
		b.calls.RLock()
		defer b.calls.RUnlock()
		n, err := read(buf[:want])
		return result{n, err}, nil
	}, nil)
	if err != nil {
		return 0, err // buf stays with the read that was given up
	}
	Moved(b.ctx, r.n)
	copy(p, buf[:r.n])
	bodyBuffers.Put(buf)
	return r.n, r.err
}

// Close returns when inner is closed or the context has ended. A body whose
// read was given up is closed when that read comes back.
func (b *body) Close() error {
	done := make(chan error, 1)
	go func() {
		b.calls.Lock()
		defer b.calls.Unlock()
		done <- b.inner.Close()
	}()
	select {
	case err := <-done:
		return err
	case <-b.ctx.Done():
		return gaveUp(b.ctx, "close "+b.key)
	}
}
