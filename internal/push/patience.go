package push

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
)

const (
	// stopPatience is how long a store may be in trouble while the server shuts
	// down: it waits for three calls that fail before it gives up archiving.
	stopPatience = 2 * time.Second

	watchEvery = 250 * time.Millisecond

	// Between two tries, before jitter of half of it in both directions.
	firstPause = 250 * time.Millisecond
	lastPause  = 5 * time.Second
)

// patience ends a call in which nothing gets on any more. Bytes of the file that
// move for the first time are what gets on: not a try that begins anew, and not
// that a store answers. So a large file may take its time, and an outage may not.
type patience struct {
	limit    time.Duration
	stopping func() bool // the server was asked to shut down

	mu    sync.Mutex
	moved time.Time // when it last got on
}

func newPatience(limit time.Duration, stopping func() bool) *patience {
	return &patience{limit: limit, stopping: stopping, moved: time.Now()}
}

// move says that the work gets on.
func (p *patience) move() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.moved = time.Now()
}

func (p *patience) idle() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Since(p.moved)
}

// watch returns a context that ends when the patience does. The caller calls the
// returned function in the end.
func (p *patience) watch(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		for pause(ctx, watchEvery) {
			switch idle := p.idle(); {
			case idle >= p.limit:
				cancel(fmt.Errorf("given up after %s without getting on", p.limit))
			case idle >= stopPatience && p.stopping():
				cancel(errors.New("given up because the server shuts down"))
			}
		}
	}()
	return ctx, func() {
		cancel(nil)
		<-watching
	}
}

// pause waits for a while; false says that ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// try tries until it works, another try could not help, or ctx ends. The error is
// then that of the last try that was not cut short.
func (c *call) try(ctx context.Context, once func(context.Context) error) error {
	pauses := backoff.ExponentialBackOff{
		InitialInterval: firstPause, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: lastPause,
	}
	var last error
	for {
		err := once(ctx)
		if err == nil || isFinal(err) {
			return err
		}
		if last == nil || ctx.Err() == nil {
			last = err
		}
		if !pause(ctx, pauses.NextBackOff()) {
			return fmt.Errorf("%w: %w", context.Cause(ctx), last)
		}
	}
}

// final is an error that another try gives again.
type final struct{ err error }

func (e *final) Error() string { return e.err.Error() }
func (e *final) Unwrap() error { return e.err }

// isFinal tells whether another try gives the same.
func isFinal(err error) bool {
	var (
		known    *final
		conflict *archive.ConflictError
		damaged  *archive.DamagedError
		format   *archive.FormatError
		local    *archive.LocalError
	)
	return errors.As(err, &known) || errors.As(err, &conflict) || errors.As(err, &damaged) || errors.As(err, &format) ||
		errors.As(err, &local) || errors.Is(err, segment.ErrWrongCluster) || errors.Is(err, segment.ErrBranch) ||
		errors.Is(err, archive.ErrEncrypted) || errors.Is(err, storage.ErrNoRoot) || errors.Is(err, storage.ErrSetup) ||
		errors.Is(err, storage.ErrUnsafe) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)
}
