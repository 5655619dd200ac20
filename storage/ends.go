package storage

import (
	"context"
	"io"
)

// EndReader is the optional ability of a Store to read the beginning or the end
// of an object with one request, and no more of it than that. Use [ReadHead] and
// [ReadTail], which work with every Store.
type EndReader interface {
	// ReadHead returns the first n bytes of an object, or all it has.
	ReadHead(ctx context.Context, key string, n int64) ([]byte, Info, error)
	// ReadTail returns the last n bytes of an object, or all it has.
	ReadTail(ctx context.Context, key string, n int64) ([]byte, Info, error)
}

// ReadHead returns the first n bytes of an object, or all it has. n is positive.
// Errors are those of [Store].
func ReadHead(ctx context.Context, s Store, key string, n int64) ([]byte, Info, error) {
	if r, ok := s.(EndReader); ok {
		return r.ReadHead(ctx, key, n)
	}
	body, info, err := s.Open(ctx, key)
	if err != nil {
		return nil, Info{}, err
	}
	defer body.Close()
	head := make([]byte, min(n, info.Size))
	if _, err := io.ReadFull(body, head); err != nil {
		return nil, Info{}, Unknown("read "+key, cutShort(err))
	}
	return head, info, nil
}

// ReadTail returns the last n bytes of an object, or all it has. n is positive.
// Errors are those of [Store].
func ReadTail(ctx context.Context, s Store, key string, n int64) ([]byte, Info, error) {
	if r, ok := s.(EndReader); ok {
		return r.ReadTail(ctx, key, n)
	}
	body, info, err := s.Open(ctx, key)
	if err != nil {
		return nil, Info{}, err
	}
	defer body.Close()
	tail := make([]byte, min(n, info.Size))
	skip := info.Size - int64(len(tail))
	if at, ok := body.(io.ReaderAt); ok {
		var got int
		if got, err = at.ReadAt(tail, skip); got == len(tail) {
			return tail, info, nil
		}
	} else if _, err = io.CopyN(io.Discard, body, skip); err == nil {
		_, err = io.ReadFull(body, tail)
	}
	if err != nil {
		return nil, Info{}, Unknown("read "+key, cutShort(err))
	}
	return tail, info, nil
}

// cutShort is the error of a body that ended before the size it was said to have.
func cutShort(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

type endOf struct {
	data []byte
	info Info
}

func (d deadline) readEnd(ctx context.Context, key string, read func() ([]byte, Info, error)) ([]byte, Info, error) {
	e, err := wait(ctx, "read "+key, func() (endOf, error) {
		data, info, err := read()
		return endOf{data, info}, err
	}, nil)
	return e.data, e.info, err
}

// ReadHead implements [EndReader], whether or not the Store below does.
func (d deadline) ReadHead(ctx context.Context, key string, n int64) ([]byte, Info, error) {
	return d.readEnd(ctx, key, func() ([]byte, Info, error) { return ReadHead(ctx, d.store, key, n) })
}

// ReadTail implements [EndReader], whether or not the Store below does.
func (d deadline) ReadTail(ctx context.Context, key string, n int64) ([]byte, Info, error) {
	return d.readEnd(ctx, key, func() ([]byte, Info, error) { return ReadTail(ctx, d.store, key, n) })
}

// ReadHead implements [EndReader], whether or not the Store below does.
func (m metered) ReadHead(ctx context.Context, key string, n int64) ([]byte, Info, error) {
	data, info, err := ReadHead(ctx, m.store, key, n)
	m.tell(OpOpen, err)
	return data, info, err
}

// ReadTail implements [EndReader], whether or not the Store below does.
func (m metered) ReadTail(ctx context.Context, key string, n int64) ([]byte, Info, error) {
	data, info, err := ReadTail(ctx, m.store, key, n)
	m.tell(OpOpen, err)
	return data, info, err
}
