// Package receiver streams the WAL of a PostgreSQL server over physical
// replication and hands it, byte by byte and in order, to a [Sink]. It knows
// the protocol, what may be acknowledged and when, how timelines follow each
// other, and which failures are worth another try. It does not know where the
// WAL goes.
package receiver

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/walrecv/walrecv/segment"
)

// Sink takes the WAL of one connection. Append and Switch are called by one
// goroutine, Sync by another beside Append, never beside Switch or Close.
type Sink interface {
	// Append takes WAL that begins where the last ended. p is valid during the
	// call only.
	Append(at segment.LSN, p []byte) error

	// Sync makes durable what was appended before the call and returns the
	// position up to which it is. Nothing but its result is ever acknowledged.
	Sync() (segment.LSN, error)

	// Switch goes on with the next timeline, at the start of the segment in
	// which it left the old one, after it made that and the next timeline's
	// history file durable.
	Switch(next segment.TimelineID, fork segment.LSN, history []byte) error

	// Close gives up what is open, without syncing.
	Close() error
}

// Keeper is where the WAL of earlier connections is. An error of it ends the
// receiver, unless it has a method Retryable() bool that returns true.
type Keeper interface {
	// Identify compares the cluster with the one that the WAL is from; it is
	// called first on every connection.
	Identify(ctx context.Context, c segment.Cluster) error

	// Held tells what WAL is there already.
	Held(ctx context.Context) (segment.Held, error)

	// PutHistory keeps a history file durably, under the timeline's name.
	PutHistory(t segment.TimelineID, content []byte) error

	// Open returns a Sink that goes on at the start of a segment.
	Open(at segment.Position) (Sink, error)
}

// Options say what to stream and how.
type Options struct {
	Conn       *ConnConfig
	Slot       string // physical replication slot; "" streams without one
	EnsureSlot bool   // create the slot, reserving WAL, where it is missing

	// Synchronous syncs and acknowledges each batch of WAL at once. Otherwise
	// WAL is synced FlushInterval after it came, or earlier when a segment is
	// full or the server asks.
	Synchronous   bool
	FlushInterval time.Duration

	// StatusInterval is the longest time between two status messages; 0 sends
	// them only when something was flushed or the server asks.
	StatusInterval time.Duration

	EndPos       segment.LSN // stop once past this position; 0: never
	NoLoop       bool        // end at the first disconnect
	AcceptBranch bool        // follow a server that segment.CheckBranch refuses
}

const (
	// receiveTimeout ends a connection on which nothing was heard for so long;
	// after half of it the server is asked for a sign of life. It is the
	// default of PostgreSQL's wal_receiver_timeout.
	receiveTimeout = 60 * time.Second

	// finishTimeout bounds the farewell to a server.
	finishTimeout = 5 * time.Second

	minRetryDelay = 200 * time.Millisecond
	maxRetryDelay = 2 * time.Second // a promotion is followed within seconds

	// settled is how long a connection must have lasted for its end to be news.
	settled = 10 * time.Second
)

// Receiver streams until it is stopped.
type Receiver struct {
	o      Options
	keeper Keeper
	log    *slog.Logger

	streamed    bool             // WAL or a keepalive has come, on any connection
	warned      bool             // of the server's settings
	gone        segment.Position // a start that the server has no file for; see explain
	lastFailure string           // logged already
}

// New prepares a Receiver; Run does everything else.
func New(o Options, k Keeper, log *slog.Logger) *Receiver {
	return &Receiver{o: o, keeper: k, log: log}
}

// Run streams until ctx ends or Options.EndPos is reached, and then returns nil
// after everything received was synced and reported. It reconnects for ever,
// except where trying again cannot help. It is to be called once.
func (r *Receiver) Run(ctx context.Context) error {
	delay := backoff.NewExponentialBackOff()
	delay.InitialInterval, delay.MaxInterval = minRetryDelay, maxRetryDelay
	for {
		began := time.Now()
		err := r.session(ctx)
		if err == nil || ctx.Err() != nil && !isFinal(err) {
			return nil
		}
		if r.o.NoLoop || !r.retryable(err) {
			return err
		}
		if time.Since(began) > settled {
			delay.Reset()
			r.lastFailure = ""
		}
		r.logFailure(ctx, err)
		if !sleep(ctx, delay.NextBackOff()) {
			return nil
		}
	}
}

// retryable decides whether a failed session is worth another. What only an
// operator can mend ends the process at its start, where the operator looks on;
// once it has streamed, the same is more likely to pass by itself.
func (r *Receiver) retryable(err error) bool {
	if isFinal(err) {
		return false
	}
	switch Classify(err) {
	case ClassUsage:
		return false
	case ClassFatal:
		return r.streamed
	default:
		return true
	}
}

// logFailure tells of a failure when it begins, not at every try.
func (r *Receiver) logFailure(ctx context.Context, err error) {
	level := slog.LevelWarn
	failure := strings.Map(withoutDigits, err.Error()) // ports and positions change
	if failure == r.lastFailure {
		level = slog.LevelDebug
	}
	r.lastFailure = failure
	r.log.Log(ctx, level, "not streaming, trying again until it works", "error", err)
}

func withoutDigits(r rune) rune {
	if r >= '0' && r <= '9' {
		return -1
	}
	return r
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// GapError reports that the server no longer has WAL that would continue what
// is held.
type GapError struct {
	At  segment.Position // what is missing begins here
	Err error            // what the server said
}

func (e *GapError) Error() string {
	is := "is no longer on the server, so that going on would leave a gap (a new archive and a base backup for it begin anew)"
	if errors.Is(e.Err, ErrSlotMissing) {
		is = "is held back by nothing, and may be gone, so that going on may leave a gap"
	}
	return "the WAL that follows what is held, from " + e.At.String() + ", " + is + ": " + e.Err.Error()
}

func (e *GapError) Unwrap() error { return e.Err }

// localError is a failure on our side: the disk or the archive.
type localError struct{ err error }

func (e *localError) Error() string { return e.err.Error() }
func (e *localError) Unwrap() error { return e.err }

func local(err error) error {
	if err == nil {
		return nil
	}
	return &localError{err}
}

// isFinal says that trying again would do harm or cannot help, whatever went
// before.
func isFinal(err error) bool {
	var gap *GapError
	if errors.As(err, &gap) || errors.Is(err, segment.ErrPoisoned) {
		return true
	}
	var mine *localError
	if !errors.As(err, &mine) || isDiskFull(err) {
		return false
	}
	var again interface{ Retryable() bool }
	return !errors.As(err, &again) || !again.Retryable()
}
