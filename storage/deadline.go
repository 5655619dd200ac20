package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
)

// WithDeadline returns a Store on s whose calls return once their context has
// ended, also where s does not: a read from a network file system whose server
// is gone cannot be interrupted. The error then wraps the one of the context,
// and what s does with the call is unknown. The context of an Open also ends
// the waiting of every call to the body that it returned.
//
// A call that was given up goes on in a goroutine of its own until s lets it
// go, and no longer uses anything that the caller passed in. Put waits for a
// call to its Source that is under way, and then closes the readers it has:
// the time that the Source itself takes is not bounded.
//
// The returned Store is a Deleter if s is one, and its bodies implement
// [io.ReaderAt] if those of s do.
func WithDeadline(s Store) Store {
	d := deadline{s}
	if deleter, ok := s.(Deleter); ok {
		return deadlineDeleter{d, deleter}
	}
	return d
}

type deadline struct{ store Store }

type deadlineDeleter struct {
	deadline
	deleter Deleter
}

func (d deadline) Put(ctx context.Context, key string, src Source) error {
	// Closed also after a Put that was not given up: the content is the
	// caller's again as soon as this returns.
	g := &gate{ctx: ctx, src: src, size: src.Size(), readers: map[*gateReader]struct{}{}}
	defer g.shut()
	_, err := wait(ctx, "put "+key, func() (struct{}, error) {
		return struct{}{}, d.store.Put(ctx, key, g)
	}, nil)
	return err
}

func (d deadline) Open(ctx context.Context, key string) (io.ReadCloser, Info, error) {
	type opened struct {
		body io.ReadCloser
		info Info
	}
	o, err := wait(ctx, "open "+key, func() (opened, error) {
		body, info, err := d.store.Open(ctx, key)
		return opened{body, info}, err
	}, func(o opened) {
		if o.body != nil {
			o.body.Close() // nobody is there to hear of an error
		}
	})
	if err != nil {
		return nil, Info{}, err
	}
	return newBody(ctx, key, o.body), o.info, nil
}

func (d deadline) Stat(ctx context.Context, key string) (Info, error) {
	return wait(ctx, "stat "+key, func() (Info, error) {
		return d.store.Stat(ctx, key)
	}, nil)
}

func (d deadlineDeleter) Delete(ctx context.Context, key string) error {
	_, err := wait(ctx, "delete "+key, func() (struct{}, error) {
		return struct{}{}, d.deleter.Delete(ctx, key)
	}, nil)
	return err
}

// List has the store list in another goroutine, but calls fn in the caller's,
// so that fn is never running, or called again, once List has returned.
func (d deadline) List(ctx context.Context, prefix string, fn func(Info) error) error {
	return d.list(ctx, "list "+prefix, fn, func(fn func(Info) error) error { return d.store.List(ctx, prefix, fn) })
}

func (d deadline) list(ctx context.Context, what string, fn func(Info) error, list func(func(Info) error) error) error {
	if ctx.Err() != nil {
		return gaveUp(ctx, what)
	}
	infos, stop, done := make(chan Info, 64), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- list(func(info Info) error {
			select {
			case infos <- info:
				return nil
			case <-stop:
				return errStopped
			}
		})
		close(infos)
	}()
	err := consume(ctx, what, infos, stop, fn)
	if err != nil && ctx.Err() != nil {
		return err
	}
	select {
	case listErr := <-done:
		if err == nil {
			err = listErr
		}
	case <-ctx.Done():
		if err == nil {
			err = gaveUp(ctx, what)
		}
	}
	return err
}

// errStopped ends a listing that nobody wants any more; it is never returned.
var errStopped = errors.New("listing stopped")

// consume calls fn for each of infos until there are no more, and closes stop
// when it wants no more.
func consume(ctx context.Context, what string, infos <-chan Info, stop chan<- struct{}, fn func(Info) error) error {
	defer close(stop) // also when fn panics
	for {
		select {
		case info, ok := <-infos:
			if !ok {
				return nil
			}
			if ctx.Err() != nil {
				return gaveUp(ctx, what)
			}
			if err := fn(info); err != nil {
				return err
			}
		case <-ctx.Done():
			return gaveUp(ctx, what)
		}
	}
}

// wait runs call in its own goroutine and returns what it returned, or an error
// as soon as ctx has ended. late, if not nil, gets the result of a call that
// was given up and succeeded after all.
func wait[T any](ctx context.Context, what string, call func() (T, error), late func(T)) (T, error) {
	type result struct {
		value T
		err   error
	}
	var none T
	if ctx.Err() != nil {
		return none, gaveUp(ctx, what)
	}
	done := make(chan result, 1)
	go func() {
		value, err := call()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
	}
	if late != nil {
		go func() {
			if r := <-done; r.err == nil {
				late(r.value)
			}
		}()
	}
	return none, gaveUp(ctx, what)
}

func gaveUp(ctx context.Context, what string) error {
	return fmt.Errorf("%s: gave up waiting for the store: %w", what, ctx.Err())
}

// gate is a Source that can be shut while a Store still reads it. Its lock is
// held during every call to the real one.
type gate struct {
	ctx  context.Context // of the Put
	size int64

	mu      sync.Mutex
	src     Source
	closed  bool
	readers map[*gateReader]struct{} // open ones
}

// errGateShut is seen by nobody but a call that was given up.
var errGateShut = errors.New("source is used after the put ended")

func (g *gate) Size() int64 { return g.size }

func (g *gate) Open() (io.ReadSeekCloser, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, errGateShut
	}
	r, err := g.src.Open()
	if err != nil {
		return nil, err
	}
	reader := &gateReader{gate: g, r: r}
	g.readers[reader] = struct{}{}
	return reader, nil
}

// shut waits for the call to the real source that is under way, if any, makes
// every later one fail, and closes what is open.
func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for reader := range g.readers {
		reader.r.Close() // read only, and the put is over
	}
	clear(g.readers)
}

type gateReader struct {
	gate *gate
	r    io.ReadSeekCloser
}

func (r *gateReader) Read(p []byte) (int, error) {
	r.gate.mu.Lock()
	defer r.gate.mu.Unlock()
	if r.gate.closed {
		return 0, errGateShut
	}
	n, err := r.r.Read(p)
	Moved(r.gate.ctx, n)
	return n, err
}

func (r *gateReader) Seek(offset int64, whence int) (int64, error) {
	r.gate.mu.Lock()
	defer r.gate.mu.Unlock()
	if r.gate.closed {
		return 0, errGateShut
	}
	return r.r.Seek(offset, whence)
}

func (r *gateReader) Close() error {
	r.gate.mu.Lock()
	defer r.gate.mu.Unlock()
	if r.gate.closed {
		return nil // by shut
	}
	delete(r.gate.readers, r)
	return r.r.Close()
}
