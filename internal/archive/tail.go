package archive

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/walrecv/walrecv/segment"
)

// tailFlights is how many chunks are in flight. What is committed meanwhile waits for
// the next one, a quarter of the time to the store at most; with more of them, each
// carries less, and all take more time of the processor.
const tailFlights = 4

// Tail archives what a receiver has of segments that are not complete in the
// archive yet, and knows the position below which the archive lacks nothing:
// complete segments, which an [Uploader] tells it of, and tail together.
//
// A receiver tells it what it has with Begin and Synced. These, Archived and Oldest
// may be called from any goroutine, at any time, and never block.
type Tail struct {
	spool    Spool
	scratch  *Scratch
	log      *slog.Logger
	o        TailOptions
	wake     chan struct{}
	encoding chan struct{} // holds a token for everyone who compresses

	mu          sync.Mutex
	front       *frontier // of the stream that there is; nil before the first one
	acknowledge func(segment.LSN)
	told        segment.LSN // what was acknowledged last
	obsolete    obsolete
	doubts      doubts

	// What looks have found: from which segment on, and the chunks.
	known  map[segment.TimelineID]uint64
	before map[segment.Name][]Chunk
}

// TailOptions is what a [Tail] can be told.
type TailOptions struct {
	// Interval is the time between two chunks that nobody waits for.
	Interval time.Duration

	// Acknowledge says that WAL is acknowledged when the archive has it. Otherwise
	// it is as soon as it is synced.
	Acknowledge bool

	// Workers are those of the [Uploader], 0 for DefaultWorkers.
	Workers int

	// OnUpload is told of every try to put a chunk, as [UploaderOptions] says, with
	// the kind "tail". It may be nil.
	OnUpload func(kind string, took time.Duration, err error)
}

// NewTail prepares a Tail for a spool that is to be put in order before the first
// Begin.
func NewTail(spool Spool, o TailOptions, log *slog.Logger) *Tail {
	if o.Workers <= 0 {
		o.Workers = DefaultWorkers
	}
	if o.OnUpload == nil {
		o.OnUpload = func(string, time.Duration, error) {}
	}
	return &Tail{
		spool: spool, scratch: NewScratch(spool.FS(), spool.Dir()), log: log, o: o,
		wake: make(chan struct{}, 1), encoding: make(chan struct{}, 2),
		known: map[segment.TimelineID]uint64{}, before: map[segment.Name][]Chunk{},
		obsolete: obsolete{segments: map[segment.Name]*superseded{}, wake: make(chan struct{}, 1)},
		doubts:   doubts{size: spool.Size(), own: map[segment.Name]map[Chunk]standing{}},
	}
}

// Begin says that a stream begins, at the start of a segment, and that what was
// told of the one before does not count any more. From then on acknowledge is
// called, by any goroutine, with positions up to which the stream may be
// acknowledged; it must not block, nor call the Tail.
func (t *Tail) Begin(at segment.Position, acknowledge func(segment.LSN)) {
	t.mu.Lock()
	t.front = newFrontier(at, t.spool.Size(), pace{interval: t.o.Interval, flights: tailFlights, sealed: t.o.Workers})
	t.front.bad = t.doubts.begin()
	t.acknowledge, t.told = acknowledge, 0
	if !t.o.Acknowledge {
		acknowledge(at.LSN)
	}
	t.mu.Unlock()
	t.nudge()
}

// SetInterval changes the Interval of the options, from now on.
func (t *Tail) SetInterval(d time.Duration) {
	t.mu.Lock()
	t.o.Interval = d
	if t.front != nil {
		t.front.pace.interval = d
	}
	t.mu.Unlock()
	t.nudge()
}

// Synced says that the spool durably holds everything of the stream before a
// position. If somebody waits until that is acknowledged, it is archived at once.
func (t *Tail) Synced(to segment.LSN, awaited bool) {
	t.mu.Lock()
	if t.front == nil || to < t.front.synced {
		t.mu.Unlock()
		return
	}
	t.front.sync(to, time.Now())
	if !t.o.Acknowledge {
		t.acknowledge(to)
	} else if awaited {
		t.front.urgent = to
	}
	t.mu.Unlock()
	t.nudge()
}

// Archived is the end of what the archive holds of the stream that there is, and
// of everything before it. ok is false as long as that is not known.
func (t *Tail) Archived() (at segment.Position, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.front == nil || !t.front.ready {
		return segment.Position{}, false
	}
	return segment.Position{Timeline: t.front.at.Timeline, LSN: t.front.position()}, true
}

// Oldest is a time at which, or after which, the oldest of what the archive does
// not hold of the stream was synced. ok is false if it holds all.
func (t *Tail) Oldest() (at time.Time, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.front == nil || t.front.position() == t.front.synced {
		return time.Time{}, false
	}
	return t.front.lateSince, true
}

// nudge says that there may be something to do. A nil Tail has nothing to do.
func (t *Tail) nudge() {
	if t == nil {
		return
	}
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// settled notes that a complete segment is archived. Its chunks are of no more use.
func (t *Tail) settled(name segment.Name) {
	if t == nil {
		return
	}
	t.mu.Lock()
	if t.front != nil && t.front.at.Timeline == name.Timeline {
		t.front.settled(name.Number)
	}
	t.obsolete.whole(name)
	delete(t.before, name)
	delete(t.doubts.own, name)
	t.mu.Unlock()
	t.nudge()
}

// Run archives until ctx ends, and then returns nil at once. Any other end is an
// error that trying again would not mend: WAL in the archive that is another one
// than what comes, which wraps [segment.ErrBranch], or the disk of the spool. u
// must run beside it, with this Tail in its options. Neither Run nor Drain may be
// called while one of them runs.
func (t *Tail) Run(ctx context.Context, a *Archive, u *Uploader) error {
	if err := t.newRun(a, u).loop(ctx); ctx.Err() == nil {
		return err
	}
	return nil // whatever else happened, the end was asked for
}

// Drain archives all of the spool that there is to archive, with u, and then the
// tail of the last stream, to its end. It fails when ctx ends before, and for the
// reasons that end Run. u must not run.
func (t *Tail) Drain(ctx context.Context, a *Archive, u *Uploader) error {
	if err := u.Drain(ctx); err != nil {
		return err
	}
	t.mu.Lock()
	begun := t.front != nil
	if begun {
		t.front.urgent = t.front.synced
	}
	t.mu.Unlock()
	if !begun {
		return nil
	}
	r := t.newRun(a, u)
	r.drain = true
	err := r.loop(ctx)
	if err == nil || ctx.Err() == nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return fmt.Errorf("the tail behind %s is not archived yet: %w", t.front.position(), ctx.Err())
}
