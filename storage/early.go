package storage

import (
	"context"
	"io"
	"sync"
)

// Early is a Store whose answers can be on their way before they are asked for. Who
// knows the next few requests, and that they need not wait for each other, begins all of
// them, and then makes one after the other as ever. A request that was not begun is made
// when it is asked for.
//
// It is safe for concurrent use. It can do what the Store below can, but Delete.
type Early struct {
	Store
	work sync.WaitGroup

	mu    sync.Mutex
	begun map[Request]*early
}

// Request is a call to a [Store] that changes nothing.
type Request struct {
	op   Op
	key  string // or the prefix of a listing
	from string // where a listing begins
}

// OpenRequest is an Open.
func OpenRequest(key string) Request { return Request{op: OpOpen, key: key} }

// StatRequest is a Stat.
func StatRequest(key string) Request { return Request{op: OpStat, key: key} }

// ListRequest is a List.
func ListRequest(prefix string) Request { return Request{op: OpList, key: prefix} }

// ListFromRequest is a [ListFrom].
func ListFromRequest(prefix, from string) Request {
	return Request{op: OpList, key: prefix, from: from}
}

// early is a request that was begun.
type early struct {
	ctx    context.Context // also of the body
	cancel context.CancelFunc
	next   *early // begun behind it

	infos chan Info     // of a listing
	over  chan struct{} // closed when the rest is known
	body  io.ReadCloser
	info  Info
	err   error
}

// earlyInfos is how many objects a listing is ahead of its user at most.
const earlyInfos = 64

// NewEarly returns an Early on s, whose calls must return when their contexts end.
func NewEarly(s Store) *Early { return &Early{Store: s, begun: map[Request]*early{}} }

// Begin begins a request, and each of the others when the one before has come to its end;
// they are to be asked for in that order. What was begun of the same before and was not
// asked for is forgotten: an answer is never older than the last Begin of its request.
func (e *Early) Begin(ctx context.Context, requests ...Request) {
	list := make([]*early, len(requests))
	for i, r := range requests {
		list[i] = newEarly(ctx)
		if i > 0 {
			list[i-1].next = list[i]
		}
		e.forget(r)
		e.put(r, list[i])
	}
	e.work.Go(func() {
		for i, r := range requests {
			list[i].make(e.Store, r)
		}
	})
}

func newEarly(ctx context.Context) *early {
	one := &early{infos: make(chan Info, earlyInfos), over: make(chan struct{})}
	one.ctx, one.cancel = context.WithCancel(ctx)
	return one
}

// make makes the request.
func (one *early) make(s Store, r Request) {
	defer close(one.over)
	switch r.op {
	case OpOpen:
		one.body, one.info, one.err = s.Open(one.ctx, r.key)
	case OpStat:
		one.info, one.err = s.Stat(one.ctx, r.key)
	default:
		defer close(one.infos)
		one.err = r.list(one.ctx, s, func(info Info) error {
			select {
			case one.infos <- info:
				return nil
			case <-one.ctx.Done():
				return one.ctx.Err()
			}
		})
	}
}

func (r Request) list(ctx context.Context, s Store, fn func(Info) error) error {
	if r.from == "" {
		return s.List(ctx, r.key, fn)
	}
	return ListFrom(ctx, s, r.key, r.from, fn)
}

// End forgets what was begun and not asked for.
func (e *Early) End() {
	e.forgetIf(func(*early) bool { return true })
	e.work.Wait()
}

func (e *Early) put(r Request, one *early) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.begun[r] = one
}

// take is nil if the request was not begun.
func (e *Early) take(r Request) *early {
	e.mu.Lock()
	defer e.mu.Unlock()
	one := e.begun[r]
	delete(e.begun, r)
	return one
}

func (e *Early) forget(r Request) {
	if one := e.take(r); one != nil {
		e.drop(one)
	}
}

func (e *Early) forgetIf(which func(*early) bool) {
	e.mu.Lock()
	var some []Request
	for r, one := range e.begun {
		if which(one) {
			some = append(some, r)
		}
	}
	e.mu.Unlock()
	for _, r := range some {
		e.forget(r)
	}
}

// drop ends a request that was taken, and forgets what was begun behind it.
func (e *Early) drop(one *early) {
	one.cancel()
	e.work.Go(func() {
		<-one.over
		if one.body != nil {
			one.body.Close() // nothing was read
		}
	})
	if one.next != nil {
		e.forgetIf(func(other *early) bool { return other == one.next })
	}
}

// wait waits for the end of a request that was taken.
func (e *Early) wait(ctx context.Context, one *early, what string) error {
	select {
	case <-one.over:
		// Whoever reads the body has a context of its own.
		context.AfterFunc(ctx, one.cancel)
		return one.err
	case <-ctx.Done():
		e.drop(one)
		return gaveUp(ctx, what)
	}
}

// Open implements [Store].
func (e *Early) Open(ctx context.Context, key string) (io.ReadCloser, Info, error) {
	one := e.take(OpenRequest(key))
	if one == nil {
		return e.Store.Open(ctx, key)
	}
	if err := e.wait(ctx, one, "open "+key); err != nil {
		return nil, Info{}, err
	}
	return one.body, one.info, nil
}

// Stat implements [Store].
func (e *Early) Stat(ctx context.Context, key string) (Info, error) {
	one := e.take(StatRequest(key))
	if one == nil {
		return e.Store.Stat(ctx, key)
	}
	if err := e.wait(ctx, one, "stat "+key); err != nil {
		return Info{}, err
	}
	return one.info, nil
}

// List implements [Store].
func (e *Early) List(ctx context.Context, prefix string, fn func(Info) error) error {
	return e.list(ctx, ListRequest(prefix), fn)
}

// ListFrom implements [FromLister], whether or not the Store below does.
func (e *Early) ListFrom(ctx context.Context, prefix, from string, fn func(Info) error) error {
	return e.list(ctx, ListFromRequest(prefix, from), fn)
}

func (e *Early) list(ctx context.Context, r Request, fn func(Info) error) error {
	one := e.take(r)
	if one == nil {
		return r.list(ctx, e.Store, fn)
	}
	complete := false
	defer func() {
		if !complete {
			e.drop(one) // also when fn panics
		}
	}()
	for {
		select {
		case info, ok := <-one.infos:
			if !ok {
				complete = true
				return e.wait(ctx, one, "list "+r.key)
			}
			if err := fn(info); err != nil {
				return err
			}
		case <-ctx.Done():
			return gaveUp(ctx, "list "+r.key)
		}
	}
}

// Create implements [Creator], if the Store below does.
func (e *Early) Create(ctx context.Context, key string) (Upload, error) {
	return Create(ctx, e.Store, key)
}

// ListDirs implements [DirLister], whether or not the Store below does.
func (e *Early) ListDirs(ctx context.Context, prefix string, fn func(name string) error) error {
	return ListDirs(ctx, e.Store, prefix, fn)
}

// ReadHead implements [EndReader], whether or not the Store below does.
func (e *Early) ReadHead(ctx context.Context, key string, n int64) ([]byte, Info, error) {
	return ReadHead(ctx, e.Store, key, n)
}

// ReadTail implements [EndReader], whether or not the Store below does.
func (e *Early) ReadTail(ctx context.Context, key string, n int64) ([]byte, Info, error) {
	return ReadTail(ctx, e.Store, key, n)
}
