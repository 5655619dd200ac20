package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/walrecv/walrecv/segment"
)

// DefaultWorkers is how many uploads are in flight if nobody says otherwise.
const DefaultWorkers = 4

// Uploader archives what is sealed in a spool and removes it there. The spool is
// the queue: what is to be done is found by looking, so a crash loses no work.
//
// What is archived goes in order, with several uploads in flight: timeline by
// timeline, of each its history first, alone, then its segments, and in the end
// the partial in which it ended. Trouble with the store is waited out, for ever.
//
// A complete segment is removed once the archive has confirmed it, but never the
// newest one. Final partials and history files stay: they are few, and whoever
// looks for a branch after an accident will look here.
type Uploader struct {
	archive *Archive
	spool   Spool
	scratch *Scratch
	log     *slog.Logger
	workers int
	wake    chan struct{}
	outage  outage

	archived atomic.Pointer[segment.Position]

	// Owned by the one goroutine in Run or Drain.
	done map[itemID]bool       // archived, and still in the spool
	keep map[segment.Name]bool // not to be removed
	told map[string]bool       // files whose removal failed, and was told of
}

// NewUploader prepares an Uploader with a number of uploads in flight, 0 for
// [DefaultWorkers]. The spool must have been put in order, and is locked by the
// caller for as long as the Uploader works.
func NewUploader(a *Archive, spool Spool, workers int, log *slog.Logger) *Uploader {
	if workers <= 0 {
		workers = DefaultWorkers
	}
	return &Uploader{
		archive: a,
		spool:   spool,
		scratch: NewScratch(spool.FS(), spool.Dir()),
		log:     log,
		workers: workers,
		wake:    make(chan struct{}, 1),
		outage:  outage{log: log},
		done:    map[itemID]bool{},
		told:    map[string]bool{},
	}
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

// Run archives until ctx ends, and then returns nil at once: what was in flight
// may be archived or not. Any other end is an error that trying again would not
// mend: a [ConflictError], a [DamagedError] in the way, a segment that is not
// one ([segment.CorruptError]), or the disk of the spool. Neither Run nor Drain
// may be called while one of them runs.
func (u *Uploader) Run(ctx context.Context) error {
	if _, err := u.run(ctx, false); ctx.Err() == nil {
		return err
	}
	return nil // whatever else happened, the end was asked for
}

// Drain archives what is in the spool and returns when nothing is left to do,
// or fails when ctx ends, and for the reasons that end Run.
func (u *Uploader) Drain(ctx context.Context) error {
	left, err := u.run(ctx, true)
	if ctx.Err() != nil && left > 0 {
		return fmt.Errorf("%d files of the spool are not archived yet: %w", left, ctx.Err())
	}
	return err
}

// job is an item in flight.
type job struct {
	item item
	done chan error // gets one value
}

// run returns how many items were left when it ended.
func (u *Uploader) run(ctx context.Context, drain bool) (left int, err error) {
	var workers sync.WaitGroup
	defer workers.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	var flight []job
	queue, err := u.scan(nil)
	if err != nil {
		return 0, err
	}
	for {
		for len(queue) > 0 && u.mayStart(flight, queue[0]) {
			j := job{item: queue[0], done: make(chan error, 1)}
			workers.Go(func() { j.done <- u.upload(ctx, j.item) })
			flight, queue = append(flight, j), queue[1:]
		}
		left = len(flight) + len(queue)
		if drain && left == 0 {
			return 0, nil
		}
		var head chan error
		if len(flight) > 0 {
			head = flight[0].done
		}
		select {
		case err = <-head:
			if err == nil {
				u.settle(flight[0].item)
				flight = flight[1:]
			}
		case <-u.wake:
			queue, err = u.scan(flight)
		case <-ctx.Done():
			err = ctx.Err()
		}
		if err != nil {
			return left, err
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

// scan looks into the spool. It returns what is neither archived nor in flight,
// in order, and removes what can go.
func (u *Uploader) scan(flight []job) ([]item, error) {
	l, err := u.spool.Scan()
	if err != nil {
		return nil, err
	}
	items := plan(l)
	u.keep = keepers(items)
	done := map[itemID]bool{}
	var queue []item
	for _, i := range items {
		switch {
		case u.done[i.id()]:
			done[i.id()] = true
			u.remove(i)
		case !slices.ContainsFunc(flight, func(j job) bool { return j.item.id() == i.id() }):
			queue = append(queue, i)
		}
	}
	u.done = done // so that it does not grow for ever
	return queue, nil
}

// settle takes note that an item is archived, and everything before it.
func (u *Uploader) settle(i item) {
	u.done[i.id()] = true
	if i.kind != itemSealed {
		return
	}
	at := segment.Position{Timeline: i.name.Timeline, LSN: i.name.End(u.archive.id.SegmentSize)}
	if was, ok := u.Archived(); !ok || at.Timeline > was.Timeline || at.Timeline == was.Timeline && at.LSN > was.LSN {
		u.archived.Store(&at)
	}
	u.remove(i)
}

// remove removes the files of an archived segment from the spool, unless they
// have to stay. The removal is not synced: a file that comes back is found to be
// archived.
func (u *Uploader) remove(i item) {
	if i.kind != itemSealed || u.keep[i.name] {
		return
	}
	for _, base := range i.bases {
		err := u.spool.FS().Remove(path.Join(u.spool.Dir(), base))
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			delete(u.told, base)
			continue
		}
		if !u.told[base] {
			u.told[base] = true
			u.log.Error("cannot remove an archived segment from the spool", "file", base, "error", err)
		}
	}
}
