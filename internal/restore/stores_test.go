package restore

import (
	"context"
	"io"
	"time"

	"github.com/walrecv/walrecv/storage"
)

// hooked is a store that calls before every request, and wraps every body.
type hooked struct {
	storage.Store
	before func()
	body   func(io.ReadCloser) io.ReadCloser
}

func (h hooked) Open(ctx context.Context, key string) (io.ReadCloser, storage.Info, error) {
	h.before()
	body, info, err := h.Store.Open(ctx, key)
	if err == nil && h.body != nil {
		body = h.body(body)
	}
	return body, info, err
}

func (h hooked) Stat(ctx context.Context, key string) (storage.Info, error) {
	h.before()
	return h.Store.Stat(ctx, key)
}

func (h hooked) List(ctx context.Context, prefix string, fn func(storage.Info) error) error {
	h.before()
	return h.Store.List(ctx, prefix, fn)
}

func wrap(p Place, before func(), body func(io.ReadCloser) io.ReadCloser) Place {
	open := p.Open
	p.Open = func(ctx context.Context) (storage.Store, error) {
		s, err := open(ctx)
		return hooked{s, before, body}, err
	}
	return p
}

// slowly is a place that takes a time for every request.
func slowly(p Place, d time.Duration) Place {
	return wrap(p, func() { time.Sleep(d) }, nil)
}

// sticking is a place that calls stuck before every request.
func sticking(p Place, stuck func()) Place { return wrap(p, stuck, nil) }

// trickling is a place whose bodies come in small pieces.
func trickling(p Place, d time.Duration) Place {
	return wrap(p, func() {}, func(body io.ReadCloser) io.ReadCloser { return trickle{body, d} })
}

type trickle struct {
	io.ReadCloser
	d time.Duration
}

func (t trickle) Read(p []byte) (int, error) {
	time.Sleep(t.d)
	return t.ReadCloser.Read(p[:min(len(p), 4096)])
}
