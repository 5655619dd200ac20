package archive

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"github.com/walrecv/walrecv/segment"
)

// indexPause is how long the indexer waits after a failure.
const indexPause = time.Minute

// maxListing is how many bytes the listing of a very large archive may have to
// move, for the time that it is given.
const maxListing = 256 << 20

// maxKnown is of how many blocks that are due is kept what is known: an archive
// that takes no index must not fill the memory.
const maxKnown = 4

// indexer writes index objects beside the uploading, one after the other: of the
// blocks that have none when it begins, and of each block once no more of it is
// to come. Nothing depends on it, so its failures are only told of.
//
// It begins when the archive has answered an uploader, or when there is nothing
// to upload.
type indexer struct {
	archive  *Archive
	onUpload func(kind string, took time.Duration, err error)
	log      *slog.Logger
	wake     chan struct{}

	mu     sync.Mutex
	begun  bool
	newest block
	open   map[block]entries // something of them was archived since they were written
	due    map[block]entries // to be written; nil: nothing is known

	// Owned by run.
	surveyed bool // the blocks without an index are due
	failing  bool
}

// entries are what is known of segments without asking the archive.
type entries map[segment.Name]SegmentInfo

func newIndexer(a *Archive, onUpload func(string, time.Duration, error), log *slog.Logger) *indexer {
	return &indexer{
		archive:  a,
		onUpload: onUpload,
		log:      log,
		wake:     make(chan struct{}, 1),
		open:     map[block]entries{},
		due:      map[block]entries{},
	}
}

// archived says that a segment is archived, by an object with a trailer that is
// known, or else nil. Like all the indexer is told, it may be said at any time.
func (x *indexer) archived(name segment.Name, made *trailer) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.begun = true
	b := blockOf(name)
	x.leave(b)
	if x.open[b] == nil {
		x.open[b] = entries{}
	}
	if made != nil {
		if info, err := made.info(name, x.archive.id.SegmentSize); err == nil {
			x.open[b][name] = info
		}
	}
	if name.Number%indexBlock == indexBlock-1 {
		x.close(b)
	}
	x.nudge()
}

// idle says that nothing is to be uploaded at this time.
func (x *indexer) idle() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.begun = true
	x.leave(x.newest)
	x.nudge()
}

// leave closes the blocks that nothing more is to be expected of when b is
// reached: older ones than the newest.
func (x *indexer) leave(b block) {
	if b.after(x.newest) {
		x.newest = b
	}
	for o := range x.open {
		if o != b && x.newest.after(o) {
			x.close(o)
		}
	}
}

func (x *indexer) close(b block) {
	x.due[b] = x.open[b]
	delete(x.open, b)
	if len(x.due) > maxKnown {
		x.due[b] = nil
	}
}

func (x *indexer) nudge() {
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

// run works until ctx ends.
func (x *indexer) run(ctx context.Context) {
	for {
		wake, pause := x.wake, (<-chan time.Time)(nil)
		if err := x.work(ctx); err != nil && ctx.Err() == nil {
			x.failed(err)
			wake, pause = nil, time.After(indexPause)
		}
		select {
		case <-wake:
		case <-pause:
		case <-ctx.Done():
			return
		}
	}
}

func (x *indexer) failed(err error) {
	tell := x.log.Warn
	if x.failing {
		tell = x.log.Debug
	}
	x.failing = true
	tell("cannot write the index of the archive; trying again until it works, nothing else waits for it", "error", err)
}

// work writes all that is due.
func (x *indexer) work(ctx context.Context) error {
	x.mu.Lock()
	begun := x.begun
	x.mu.Unlock()
	if begun && !x.surveyed && !x.archive.Blind() {
		if err := tryOnce(ctx, maxListing, x.survey); err != nil {
			return err
		}
		x.surveyed = true
	}
	for begun {
		b, known, ok := x.next()
		if !ok {
			break
		}
		err := tryOnce(ctx, indexBlock*maxTrailer, func(ctx context.Context) error { return x.write(ctx, b, known) })
		if err != nil {
			x.again(b)
			return err
		}
		x.failing = false
	}
	return nil
}

// next takes the oldest block that is due.
func (x *indexer) next() (b block, known entries, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for o := range x.due {
		if !ok || b.after(o) {
			b, ok = o, true
		}
	}
	known = x.due[b]
	delete(x.due, b)
	return b, known, ok
}

// again makes a block due once more.
func (x *indexer) again(b block) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, ok := x.due[b]; !ok {
		x.due[b] = nil
	}
}

// survey makes those blocks due that nothing more is to come of and that have no
// index object for all that there is of them.
func (x *indexer) survey(ctx context.Context) error {
	l, err := x.archive.Listing(ctx)
	if err != nil {
		return err
	}
	index, err := x.archive.listIndex(ctx)
	if err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	var missing []block
	for names := range l.blocks() {
		b := blockOf(names[0])
		if b.after(x.newest) {
			x.newest = b
		}
		if !x.archive.isIndexed(index[b], names) {
			missing = append(missing, b)
		}
	}
	for _, b := range missing {
		_, known := x.due[b]
		full := l.Has(b.name(indexBlock - 1))
		if !known && x.open[b] == nil && (full || x.newest.after(b)) {
			x.due[b] = nil
		}
	}
	return nil
}

// write writes the index of a block.
func (x *indexer) write(ctx context.Context, b block, known entries) error {
	names, err := x.archive.listBlock(ctx, b)
	if err != nil {
		return err
	}
	var infos []SegmentInfo
	for _, name := range names {
		info, ok := known[name]
		if !ok && x.archive.Blind() {
			continue
		}
		if !ok {
			info, err = x.archive.SegmentInfo(ctx, name)
			var damaged *DamagedError
			if errors.As(err, &damaged) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrEncrypted) {
				continue // whoever asks for it shall hear of it
			}
			if err != nil {
				return err
			}
		}
		infos = append(infos, info)
	}
	if len(infos) == 0 {
		return nil
	}
	began := time.Now()
	err = x.archive.putIndex(ctx, infos)
	x.onUpload("index", time.Since(began), err)
	if err == nil {
		x.log.Debug("wrote an index", "timeline", b.timeline, "segments", len(infos))
	}
	return err
}
