package storage

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// WithPatience returns a context that ends when nothing has moved for a time: no
// byte of a Source or of a body, of the requests that are made with it. So what
// hangs is given up, and what is slow is not, however long it takes. Its error is
// then [context.DeadlineExceeded]. The function releases it.
//
// Bytes count where they pass [WithDeadline], and wherever else [Moved] is called.
func WithPatience(parent context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	inner, cancel := context.WithCancelCause(parent)
	p := &patience{Context: inner, limit: limit, cancel: cancel}
	p.outer, _ = parent.Value(patienceKey{}).(*patience)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer = time.AfterFunc(limit, p.look)
	return p, func() {
		p.mu.Lock()
		p.timer.Stop()
		p.mu.Unlock()
		cancel(nil)
	}
}

// Moved says that a request has moved bytes of its content.
func Moved(ctx context.Context, n int) {
	p, _ := ctx.Value(patienceKey{}).(*patience)
	for ; p != nil; p = p.outer {
		p.moved.Add(int64(n))
	}
}

type patienceKey struct{}

// patience is a context that knows what has moved.
type patience struct {
	context.Context

	outer  *patience
	limit  time.Duration
	cancel context.CancelCauseFunc
	moved  atomic.Int64

	mu    sync.Mutex
	timer *time.Timer
	seen  int64 // of moved, when the timer ran out last
}

// look ends the context, or goes on if something has moved. So the time without
// anything is up to twice the limit.
func (p *patience) look() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if moved := p.moved.Load(); moved != p.seen {
		p.seen = moved
		p.timer.Reset(p.limit)
		return
	}
	p.cancel(context.DeadlineExceeded)
}

// Err implements [context.Context].
func (p *patience) Err() error {
	err := p.Context.Err()
	if err != nil && context.Cause(p.Context) == context.DeadlineExceeded { //nolint:errorlint // as it was given to cancel
		return context.DeadlineExceeded
	}
	return err
}

// Value implements [context.Context].
func (p *patience) Value(key any) any {
	if key == (patienceKey{}) {
		return p
	}
	return p.Context.Value(key)
}
