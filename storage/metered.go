package storage

import (
	"context"
	"io"
	"sync"
)

// Op names a kind of request to a Store.
type Op string

// The requests there are. Listing directories is a list, too.
const (
	OpPut    Op = "put"
	OpOpen   Op = "open"
	OpStat   Op = "stat"
	OpList   Op = "list"
	OpDelete Op = "delete"
)

// WithMeter returns a Store on s that calls tell at the end of every request,
// with the error that the store had. It changes nothing else. An Open that
// succeeds has ended when its body is closed: the error told is then the first
// one of its reads. An error that the caller's own function ends a listing with
// is not the store's. tell may be called from any goroutine and must not block.
//
// The returned Store is a Deleter if s is one, and its bodies implement
// [io.ReaderAt] if those of s do.
func WithMeter(s Store, tell func(op Op, err error)) Store {
	m := metered{s, tell}
	if deleter, ok := s.(Deleter); ok {
		return meteredDeleter{m, deleter}
	}
	return m
}

type metered struct {
	store Store
	tell  func(Op, error)
}

type meteredDeleter struct {
	metered
	deleter Deleter
}

func (m metered) Put(ctx context.Context, key string, src Source) error {
	err := m.store.Put(ctx, key, src)
	m.tell(OpPut, err)
	return err
}

func (m metered) Open(ctx context.Context, key string) (io.ReadCloser, Info, error) {
	inner, info, err := m.store.Open(ctx, key)
	if err != nil {
		m.tell(OpOpen, err)
		return nil, info, err
	}
	body := &meteredBody{inner: inner, tell: m.tell}
	if at, ok := inner.(io.ReaderAt); ok {
		return meteredBodyAt{body, at}, info, nil
	}
	return body, info, nil
}

func (m metered) Stat(ctx context.Context, key string) (Info, error) {
	info, err := m.store.Stat(ctx, key)
	m.tell(OpStat, err)
	return info, err
}

func (m metered) List(ctx context.Context, prefix string, fn func(Info) error) error {
	return meterList(m.tell, fn, func(fn func(Info) error) error { return m.store.List(ctx, prefix, fn) })
}

// ListDirs implements [DirLister], whether or not the Store below does.
func (m metered) ListDirs(ctx context.Context, prefix string, fn func(name string) error) error {
	return meterList(m.tell, fn, func(fn func(string) error) error { return ListDirs(ctx, m.store, prefix, fn) })
}

func (m meteredDeleter) Delete(ctx context.Context, key string) error {
	err := m.deleter.Delete(ctx, key)
	m.tell(OpDelete, err)
	return err
}

// meterList tells of a listing, which also counts when fn ends it by a panic.
func meterList[T any](tell func(Op, error), fn func(T) error, list func(func(T) error) error) (err error) {
	var own error
	defer func() {
		if own != nil {
			tell(OpList, nil)
			return
		}
		tell(OpList, err)
	}()
	return list(func(item T) error {
		own = fn(item)
		return own
	})
}

// meteredBody tells of its Open when it is closed.
type meteredBody struct {
	inner io.ReadCloser

	mu   sync.Mutex
	tell func(Op, error) // nil once it was told
	err  error           // the first one
}

// meteredBodyAt is a body of a store whose bodies can be read anywhere.
type meteredBodyAt struct {
	*meteredBody
	innerAt io.ReaderAt
}

func (b *meteredBody) Read(p []byte) (int, error) {
	n, err := b.inner.Read(p)
	b.note(err)
	return n, err
}

func (b meteredBodyAt) ReadAt(p []byte, off int64) (int, error) {
	n, err := b.innerAt.ReadAt(p, off)
	b.note(err)
	return n, err
}

func (b *meteredBody) note(err error) {
	if err == nil || err == io.EOF {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = err
	}
}

func (b *meteredBody) Close() error {
	err := b.inner.Close()
	b.note(err)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tell != nil {
		b.tell(OpOpen, b.err)
		b.tell = nil
	}
	return err
}
