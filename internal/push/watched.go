package push

import (
	"context"
	"io"
	"sync"

	"github.com/walrecv/walrecv/storage"
)

// watched is a Store that tells a patience when it gets on.
type watched struct {
	storage.Store
	p *patience

	mu   sync.Mutex
	most map[string]int64 // bytes that were moved in one try, by what was done
}

func (p *patience) watched(s storage.Store) storage.Store {
	return &watched{Store: s, p: p, most: map[string]int64{}}
}

// moves returns a function to call with the bytes that a try moves.
func (w *watched) moves(what string) func(n int) {
	var done int64
	return func(n int) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if done += int64(n); done > w.most[what] {
			w.most[what] = done
			w.p.move()
		}
	}
}

// Put implements storage.Store.
func (w *watched) Put(ctx context.Context, key string, src storage.Source) error {
	return w.Store.Put(ctx, key, watchedSource{src, func() func(int) { return w.moves("put " + key) }})
}

// Open implements storage.Store.
func (w *watched) Open(ctx context.Context, key string) (io.ReadCloser, storage.Info, error) {
	body, info, err := w.Store.Open(ctx, key)
	if err != nil {
		return nil, info, err
	}
	b := &watchedBody{body, w.moves("open " + key)}
	if at, ok := body.(io.ReaderAt); ok {
		return watchedBodyAt{b, at}, info, nil
	}
	return b, info, nil
}

// List implements storage.Store.
func (w *watched) List(ctx context.Context, prefix string, fn func(storage.Info) error) error {
	return w.Store.List(ctx, prefix, w.listed("list "+prefix, fn))
}

// ListFrom implements [storage.FromLister], whether or not the Store below does.
func (w *watched) ListFrom(ctx context.Context, prefix, from string, fn func(storage.Info) error) error {
	return storage.ListFrom(ctx, w.Store, prefix, from, w.listed("list "+prefix+" "+from, fn))
}

func (w *watched) listed(what string, fn func(storage.Info) error) func(storage.Info) error {
	moved := w.moves(what)
	return func(info storage.Info) error {
		moved(1)
		return fn(info)
	}
}

// watchedSource tells what is read of a Source.
type watchedSource struct {
	storage.Source
	moves func() func(int)
}

func (s watchedSource) Open() (io.ReadSeekCloser, error) {
	r, err := s.Source.Open()
	if err != nil {
		return nil, err
	}
	return &watchedReader{r, s.moves()}, nil
}

type watchedReader struct {
	io.ReadSeekCloser
	moved func(int)
}

func (r *watchedReader) Read(p []byte) (int, error) {
	n, err := r.ReadSeekCloser.Read(p)
	r.moved(n)
	return n, err
}

// watchedBody tells what is read of an object.
type watchedBody struct {
	io.ReadCloser
	moved func(int)
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.moved(n)
	return n, err
}

type watchedBodyAt struct {
	*watchedBody
	io.ReaderAt
}
