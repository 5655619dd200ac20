package archive

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/walrecv/walrecv/segment"
)

// DefaultWorkers is how many uploads are in flight if nobody says otherwise.
const DefaultWorkers = 4

// Uploader archives what is sealed in a spool and removes it there. The spool is
// the queue: what is to be done is found by looking, so a crash loses no work.
//
// What is archived goes in order, with several uploads in flight: timeline by
// timeline, of each its history first, alone, then gaps and marks, then its
// segments, and in the end the partial in which it ended. They also land in order, but
// for what has fallen behind, of which several are put at a time. Trouble with the store is waited out, for ever.
//
// A complete segment is removed once the archive has confirmed it, but never the
// newest one. Everything else stays: it is little, and whoever looks for a branch
// after an accident will look here.
//
// While Run runs, index objects are written beside it.
type Uploader struct {
	archive   *Archive
	spool     Spool
	scratch   *Scratch
	log       *slog.Logger
	workers   int
	summaries Summaries
	tail      *Tail
	onUpload  func(kind string, took time.Duration, err error)
	wake      chan struct{}
	making    chan struct{} // holds a token for every object that is being made
	outage    outage

	indexer *indexer

	archived atomic.Pointer[segment.Position]
	waiting  waiting
	looks    atomic.Uint64 // at the spool, begun

	// Owned by the one goroutine in Run or Drain.
	done      map[itemID]archived // and still in the spool
	removable int                 // segments archived since the last scan
	scanned   time.Time           // when the last scan ended
	took      time.Duration       // how long it took
	stale     bool                // there may be something new since
	told      map[string]bool     // files whose removal failed, and was told of
}

// Summaries knows what stands in segments that passed by.
type Summaries interface {
	// Summary is what stands in a complete segment; ok is false if that is not
	// known. It may wait for what is about to be known, but not longer than ctx. It
	// is called from any goroutine.
	Summary(ctx context.Context, name segment.Name) (s segment.Summary, ok bool)
}

// UploaderOptions is what an [Uploader] can be told.
type UploaderOptions struct {
	Workers   int       // uploads in flight, 0 for DefaultWorkers
	Summaries Summaries // nil: every segment is read while it is compressed

	// Tail is told what is archived; nil: nobody wants to know.
	Tail *Tail

	// OnUpload is told of every try: "segment", "partial", "history", "gap", "mark"
	// or "index", how long it took, and nil if it worked. It may be nil. It is
	// called from any goroutine and must not block.
	OnUpload func(kind string, took time.Duration, err error)
}

// NewUploader prepares an Uploader. The spool must have been put in order, and is
// locked by the caller for as long as the Uploader works.
func NewUploader(a *Archive, spool Spool, o UploaderOptions, log *slog.Logger) *Uploader {
	if o.Workers <= 0 {
		o.Workers = DefaultWorkers
	}
	if o.OnUpload == nil {
		o.OnUpload = func(string, time.Duration, error) {}
	}
	u := &Uploader{
		archive:   a,
		spool:     spool,
		scratch:   NewScratch(spool.FS(), spool.Dir()),
		log:       log,
		workers:   o.Workers,
		summaries: o.Summaries,
		tail:      o.Tail,
		onUpload:  o.OnUpload,
		wake:      make(chan struct{}, 1),
		making:    make(chan struct{}, runtime.GOMAXPROCS(0)),
		outage:    outage{log: log},
		indexer:   newIndexer(a, o.OnUpload, log),
		waiting:   waiting{since: map[itemID]time.Time{}},
		done:      map[itemID]archived{},
		told:      map[string]bool{},
	}
	u.outage.waiting = u.waiting.count
	return u
}

// Nudge says that there may be something new in the spool. It never blocks and
// may be called from any goroutine.
func (u *Uploader) Nudge() {
	select {
	case u.wake <- struct{}{}:
	default:
	}
}

// Archived is the end of the newest segment that is archived with everything
// that came before it in the spool. ok is false as long as none is. It may be
// called from any goroutine.
func (u *Uploader) Archived() (at segment.Position, ok bool) {
	if p := u.archived.Load(); p != nil {
		return *p, true
	}
	return segment.Position{}, false
}

// Oldest is when the oldest of what is not archived yet was first seen. ok is
// false if there is nothing. It may be called from any goroutine.
func (u *Uploader) Oldest() (at time.Time, ok bool) { return u.waiting.oldest() }

// Trouble is why archiving does not work now, though it is tried again and again; nil
// while it does. It may be called from any goroutine.
func (u *Uploader) Trouble() error { return u.outage.trouble() }

// Run archives until ctx ends, and then returns nil at once: what was in flight
// may be archived or not. Any other end is an error that trying again would not
// mend: a [ConflictError], a [DamagedError] in the way, a segment that is not
// one ([segment.CorruptError]), or the disk of the spool. Neither Run nor Drain
// may be called while one of them runs.
func (u *Uploader) Run(ctx context.Context) error {
	if err := u.run(ctx, false); ctx.Err() == nil {
		return err
	}
	return nil // whatever else happened, the end was asked for
}

// Drain archives what is in the spool and returns when nothing is left to do,
// or fails when ctx ends, and for the reasons that end Run.
func (u *Uploader) Drain(ctx context.Context) error {
	err := u.run(ctx, true)
	if ctx.Err() == nil {
		return err
	}
	if left := u.waiting.count(); left > 0 {
		return fmt.Errorf("%d files of the spool are not archived yet: %w", left, ctx.Err())
	}
	return nil // all is archived, and not yet removed
}

// job is an item in flight.
type job struct {
	item   item
	done   chan outcome  // gets one value
	landed chan struct{} // closed when it is archived
}

// turn is closed when an item may be put, beside those in flight: one after the
// other, so that nothing stands behind a hole in the archive if this machine is lost
// now. Only what has fallen behind is put as it comes. nil: at once.
func (u *Uploader) turn(flight []job, queue []item) <-chan struct{} {
	if len(flight) == 0 || len(flight)+len(queue) > u.workers {
		return nil
	}
	return flight[len(flight)-1].landed
}

func (u *Uploader) run(ctx context.Context, drain bool) error {
	var workers sync.WaitGroup
	defer workers.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	var flight []job
	queue, err := u.scan(nil)
	if err != nil {
		return err
	}
	if !drain {
		workers.Go(func() { u.indexer.run(ctx) })
	}
	for {
		if u.stale && len(queue) == 0 {
			if queue, err = u.scan(flight); err != nil {
				return err
			}
		}
		for len(queue) > 0 && u.mayStart(flight, queue[0]) {
			j := job{item: queue[0], done: make(chan outcome, 1), landed: make(chan struct{})}
			turn := u.turn(flight, queue)
			workers.Go(func() {
				o := u.upload(ctx, j.item, turn)
				if o.err == nil {
					close(j.landed)
				}
				j.done <- o
			})
			flight, queue = append(flight, j), queue[1:]
		}
		if len(flight)+len(queue) == 0 {
			if drain {
				return nil
			}
			u.indexer.idle()
		}
		var head chan outcome
		if len(flight) > 0 {
			head = flight[0].done
		}
		select {
		case o := <-head:
			if err = o.err; err == nil {
				u.settle(flight[0].item, o)
				if flight = flight[1:]; u.due(queue) {
					queue, err = u.scan(flight)
				}
			}
		case <-u.wake:
			if u.stale = u.tooSoon(queue); !u.stale {
				queue, err = u.scan(flight)
			}
		case <-ctx.Done():
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
	}
}

// mayStart says whether an item may be started beside those in flight. A history
// file goes alone: everything before it must be archived, and it must be before
// what comes after it.
func (u *Uploader) mayStart(flight []job, i item) bool {
	if len(flight) == 0 {
		return true
	}
	return len(flight) < u.workers && i.kind != itemHistory && flight[0].item.kind != itemHistory
}
