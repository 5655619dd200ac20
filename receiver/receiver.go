// Package receiver streams the WAL of a PostgreSQL server over physical
// replication and hands it, byte by byte and in order, to a [Sink]. It knows
// the protocol, what may be acknowledged and when, how timelines follow each
// other, and which failures are worth another try. It does not know where the
// WAL goes.
package receiver

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/walrecv/walrecv/segment"
)

// Sink takes the WAL of one connection. Room, Append and Switch are called by one
// goroutine, Sync by it or by another beside Append, never beside Switch or Close.
type Sink interface {
	// Room returns nil if WAL may be appended that begins a segment. Else nothing
	// is appended, and nothing read from the server, until the channel that it
	// returns is closed; then it is asked again.
	Room() <-chan struct{}

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

	// PutGap records durably that WAL is missing by consent.
	PutGap(g segment.Gap) error

	// PutMark records durably that WAL is damaged as the server sends it. It may
	// be called beside the other methods.
	PutMark(m segment.Mark) error

	// Before opens the complete segment in front of a position on a history;
	// fs.ErrNotExist if it is not at hand. It may be called beside the other
	// methods.
	Before(at segment.LSN, h segment.History) (segment.Name, io.ReadCloser, error)

	// Open returns a Sink that goes on at the start of a segment.
	Open(at segment.Position) (Sink, error)
}

// Acknowledger is told what the Sinks have made durable, and says how much of it the
// server may be told is flushed.
type Acknowledger interface {
	// Begin says that a stream begins, at the start of a segment; what was told of
	// the one before does not count any more. From then on acknowledge is called with
	// positions up to which this stream may be acknowledged, in any order, by any
	// goroutine, also during Begin. It does not block. Nothing beyond what is synced
	// is acknowledged, whatever it is called with, and nothing before the first call.
	Begin(at segment.Position, acknowledge func(to segment.LSN))

	// Synced says that everything of the stream before a position is durable. awaited
	// says that the server, or somebody behind it, waits until that is acknowledged.
	// It is called by several goroutines, and must not block.
	Synced(to segment.LSN, awaited bool)

	// Damaged says that some of what came from a position on came damaged, and that
	// the server is asked for it again: a stream that begins later may bring other
	// bytes there. It is called by any goroutine, and must not block.
	Damaged(from segment.Position)
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
	// them only when something was flushed or the server asks. While the Sink has
	// no room they are sent more often: then nobody hears the server ask.
	StatusInterval time.Duration

	EndPos       segment.LSN // stop once past this position; 0: never
	NoLoop       bool        // end at the first disconnect
	AcceptBranch bool        // follow a server that segment.CheckBranch refuses
	AcceptGap    bool        // record WAL that is gone as a gap, and go on behind it

	// Acknowledger decides what is acknowledged of what is synced; nil: all of it.
	Acknowledger Acknowledger

	// OnSync is told how long each sync of the Sink took. It is called by the
	// goroutine that syncs, and must not block. nil: nobody wants to know.
	OnSync func(took time.Duration)

	// OnChange is called after it began to stream, when it waits for room or does so
	// no more, and when it does not stream and tries again, which [Receiver.Progress]
	// then says. Before the first call nothing is known; it does not come if the first
	// try ends the receiver. It must not block. nil: nobody wants to know.
	OnChange func()
}

func (o *Options) changed() {
	if o.OnChange != nil {
		o.OnChange()
	}
}

const (
	// receiveTimeout ends a connection on which nothing was heard for so long;
	// after half of it the server is asked for a sign of life. It is the
	// default of PostgreSQL's wal_receiver_timeout.
	receiveTimeout = 60 * time.Second

	// finishTimeout bounds the farewell to a server.
	finishTimeout = 5 * time.Second

	minRetryDelay = 200 * time.Millisecond
	maxRetryDelay = time.Second // a promotion is followed within seconds

	// settled is how long a connection must have lasted for its end to be news.
	settled = 10 * time.Second
)

// Receiver streams until it is stopped.
type Receiver struct {
	o        Options
	keeper   Keeper
	log      *slog.Logger
	verifier *verifier
	progress progress
	pace     *intervals

	streamed   bool             // WAL or a keepalive has come, on any connection
	lastStream time.Time        // when a connection that streamed was lost
	gap        *GapError        // to be measured by the next session, and accepted
	warned     bool             // of the server's settings
	gone       segment.Position // a start that the server has no file for; see explain
	told       map[string]bool  // failures that were logged since it streamed, without digits
	toldStart  segment.Position // logged already: where it begins with nothing held
	slotUser   string           // logged already: who has the slot
	lag        lag              // of the standby that was found behind last
}

// New prepares a Receiver; Run does everything else.
func New(o Options, k Keeper, log *slog.Logger) *Receiver {
	r := &Receiver{o: o, keeper: k, log: log, pace: newIntervals(o), told: map[string]bool{}}
	r.verifier = newVerifier(k, log, r.progress.verifyFailed, o.AcceptBranch)
	if o.Acknowledger != nil {
		r.verifier.damaged = o.Acknowledger.Damaged
	}
	return r
}

// Summary is what was found in a segment that was streamed to its end by this
// Receiver; ok is false for another one. It waits while the segment is still
// being read, and may be called from any goroutine.
func (r *Receiver) Summary(ctx context.Context, name segment.Name) (sum segment.Summary, ok bool) {
	return r.verifier.summary(ctx, name)
}

// Run streams until ctx ends or Options.EndPos is reached, and then returns nil
// after everything received was synced and reported. It reconnects for ever,
// except where trying again cannot help. It is to be called once.
func (r *Receiver) Run(ctx context.Context) error {
	delay := backoff.NewExponentialBackOff()
	delay.InitialInterval, delay.MaxInterval = minRetryDelay, maxRetryDelay
	r.verifier.start()
	defer r.verifier.stop()
	for {
		began := time.Now()
		err := r.session(ctx)
		if errors.Is(err, errSlotFree) {
			continue
		}
		r.progress.stopped(err)
		if err == nil || ctx.Err() != nil && !isFinal(err) {
			return nil
		}
		if errors.Is(err, errAskAgain) || errors.Is(err, errGapAccepted) {
			continue
		}
		r.verifier.connectionFailed()
		if r.o.NoLoop || !r.retryable(err) {
			return err
		}
		r.o.changed()
		if time.Since(began) > settled {
			delay.Reset()
			clear(r.told)
		}
		if r.logFailure(ctx, err) {
			delay.Reset() // something has changed, and may change further
		}
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

// logFailure tells of a failure when it begins, not at every try. It returns
// whether this is another one than before.
func (r *Receiver) logFailure(ctx context.Context, err error) (changed bool) {
	failure := strings.Map(withoutDigits, err.Error()) // ports and positions change
	changed = !r.told[failure]                         // reasons take turns where there are several hosts
	r.told[failure] = true
	level := slog.LevelDebug
	if changed {
		level = slog.LevelWarn
	}
	r.log.Log(ctx, level, "not streaming, trying again until it works: correct what the error says, if it does not pass", "error", err)
	return changed
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
