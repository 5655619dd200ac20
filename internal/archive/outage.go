package archive

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
)

// Back-off between two tries of one upload, before jitter of half of it in both
// directions: at most 30 s, so that a store that is back is soon noticed.
const (
	firstPause = 250 * time.Millisecond
	lastPause  = 20 * time.Second
)

// Time that may pass in one try without a byte being moved: for anything at all,
// and per byte of its content, some of which can be on its way unseen. A connection
// that hangs is given up then, a slow one is not.
const (
	tryTimeout  = 2 * time.Minute
	slowestRate = 64 << 10 // bytes per second
)

// outage keeps account of trouble with the store over all uploads, so that it
// is told of twice, when it begins and when it is over, and not with every try.
type outage struct {
	log     *slog.Logger
	waiting func() int // how many files are to be archived

	mu      sync.Mutex
	on      bool
	failing int // uploads whose last try failed
	tries   int // that failed since it began
	since   time.Time
	why     error         // the last try failed
	over    chan struct{} // closed when an upload works that has failed before
}

// failed records a failed try; first says that the upload had no failed one yet.
// What it returns is closed when it is worth another try before its time.
func (o *outage) failed(what string, err error, first bool) <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tries++
	o.why = err
	if first {
		o.failing++
	}
	if o.over == nil {
		o.over = make(chan struct{})
	}
	if o.on {
		return o.over
	}
	o.on, o.since = true, time.Now()
	o.log.Warn("cannot archive; trying again until it works; WAL waits in the spool: correct what the error says", "file", what, "error", err)
	return o.over
}

// trouble is why the last try failed; nil while archiving works.
func (o *outage) trouble() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.on {
		return nil
	}
	return o.why
}

// succeeded records the success of an upload.
func (o *outage) succeeded(afterFailures bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if afterFailures {
		o.failing--
		// The others need not wait until their own time has come. One that fails for
		// a reason of its own is not tried more often by those that never failed.
		if o.over != nil {
			close(o.over)
			o.over = nil
		}
	}
	if !o.on || o.failing > 0 {
		return
	}
	o.log.Info("archiving works again", "failed_tries", o.tries, "after", time.Since(o.since).Round(time.Millisecond).String(), "files_waiting", o.waiting())
	o.on, o.tries = false, 0
}

// abandoned records that an upload ended without success.
func (o *outage) abandoned(afterFailures bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if afterFailures {
		o.failing--
	}
}

// retry tries until it works, ctx ends, or another try could not help.
func (o *outage) retry(ctx context.Context, what string, try func(context.Context) error) error {
	pause := backoff.ExponentialBackOff{
		InitialInterval:     firstPause,
		RandomizationFactor: 0.5,
		Multiplier:          2,
		MaxInterval:         lastPause,
	}
	for failures := 0; ; failures++ {
		err := try(ctx)
		if err == nil {
			o.succeeded(failures > 0)
			return nil
		}
		if ctx.Err() != nil || isFinal(err) {
			o.abandoned(failures > 0)
			return err
		}
		over := o.failed(what, err, failures == 0)
		timer := time.NewTimer(pause.NextBackOff())
		select {
		case <-timer.C:
		case <-over:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			o.abandoned(true)
			return ctx.Err()
		}
	}
}

// patiently makes a try that is given up when the store hangs. size is how many bytes
// it may have to move.
func patiently(size int64, try func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error { return tryOnce(ctx, size, try) }
}

func tryOnce(ctx context.Context, size int64, try func(context.Context) error) error {
	ctx, cancel := storage.WithPatience(ctx, tryTimeout+time.Duration(size/slowestRate)*time.Second)
	defer cancel()
	return try(ctx)
}

// isFinal tells whether an error is a finding that another try cannot change.
func isFinal(err error) bool {
	var (
		conflict *ConflictError
		damaged  *DamagedError
		format   *FormatError
		cluster  *WrongClusterError
		local    *LocalError
	)
	if errors.As(err, &local) {
		return !noRoom(err) // there may be room later
	}
	return errors.Is(err, segment.ErrBranch) || errors.As(err, &conflict) || errors.As(err, &damaged) || errors.As(err, &format) || errors.As(err, &cluster)
}
