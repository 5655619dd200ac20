// Package verify proves what an archive holds: that no segment is missing along
// the timelines, that every object is what was put, that every segment is the one
// that its name says, and, on request, that every page and every record in them is
// sound.
//
// It only reads. Nothing that it finds is changed.
package verify

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
)

// Options say what is verified.
type Options struct {
	// Deep reads every page and every record. Without it the first page of each
	// segment is read, and the rest compared with its digest.
	Deep bool
	// Since leaves out the segments that lie before the one with this position, and
	// SinceTime those before the one that lies before the segment with the first
	// commit at that time or after it. Zero leaves out nothing.
	Since     segment.LSN
	SinceTime time.Time
	// Workers is how many objects are read at once; 0 is one for each processor.
	Workers int
	// Now is the time by which a base backup counts as abandoned; zero is the present.
	Now time.Time
	// Pause waits between two looks at an archive that lacks something. nil is
	// [archive.Pause].
	Pause func(context.Context) error
}

// Verifier verifies one archive, once. Progress may be called at any time, from
// any goroutine.
type Verifier struct {
	archive *archive.Archive
	store   storage.Store
	id      archive.Identity
	options Options

	total, done atomic.Int64 // plain bytes to be read, and read
	failing     atomic.Int64 // objects in a row that the store did not yield
	skipped     atomic.Int64 // objects that it was not asked for any more

	mu       sync.Mutex
	report   Report          // while it is being made
	locked   map[string]bool // keys of encrypted objects that nobody can look into here
	read     map[segment.TimelineID]bool
	prefixes map[branching]copies
	missed   []object // that were listed, and were not there to be read
}

// New makes a Verifier of an archive in a store. Every call to the store must end
// with its context: see [storage.WithDeadline].
func New(a *archive.Archive, store storage.Store, o Options) *Verifier {
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.Pause == nil {
		o.Pause = archive.Pause
	}
	return &Verifier{archive: a, store: store, id: a.Identity(), options: o, read: map[segment.TimelineID]bool{}, prefixes: map[branching]copies{}, locked: map[string]bool{}}
}

// Progress is how many bytes of segments were read, of how many. total is 0 until
// that is known.
func (v *Verifier) Progress() (done, total int64) { return v.done.Load(), v.total.Load() }

// Run verifies. An error says that nothing can be said of the archive as a whole:
// it could not be listed, or ctx has ended. What could not be read of it is in the
// Report.
func (v *Verifier) Run(ctx context.Context) (*Report, error) {
	s, err := v.survey(ctx)
	if err != nil {
		return nil, err
	}
	if v.missized(ctx, s) {
		v.summarize(s)
		return &v.report, nil
	}
	v.continuity(s)
	v.backups(s)
	todo, stored := v.plan(s), v.planBackups(s)
	if len(todo) == 0 && s.since != 0 && v.report.Sound() {
		return nil, fmt.Errorf("the archive holds nothing from %s on", s.since)
	}
	if len(todo) == 0 && s.since == 0 {
		v.empty()
	}
	for _, t := range todo {
		v.total.Add(t.bytes(v.id.SegmentSize))
	}
	for _, o := range stored {
		v.total.Add(o.PlainSize)
	}
	v.readAll(ctx, s, todo)
	v.readBackups(ctx, stored)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	v.gone(ctx)
	v.compareCopies()
	v.summarize(s)
	return &v.report, nil
}

// readAll has the workers read all stretches.
func (v *Verifier) readAll(ctx context.Context, s *survey, todo []stretch) {
	var next atomic.Int64
	var workers sync.WaitGroup
	for range v.options.Workers {
		workers.Go(func() {
			w := worker{Verifier: v, survey: s, buf: make([]byte, chunkLen)}
			for i := next.Add(1) - 1; i < int64(len(todo)) && ctx.Err() == nil; i = next.Add(1) - 1 {
				w.stretch(ctx, todo[i])
			}
		})
	}
	workers.Wait()
}

// found adds a finding: the archive is not sound.
func (v *Verifier) found(f Finding) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.report.Findings = append(v.report.Findings, f)
}

// notice adds what is worth to be known and is no fault.
func (v *Verifier) notice(f Finding) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.report.Notices = append(v.report.Notices, f)
}

// unread adds what could not be checked.
func (v *Verifier) unread(f Finding) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.report.Unread = append(v.report.Unread, f)
}

// counted counts an object that was read, by one of the numbers of the report.
func (v *Verifier) counted(number *int, n segment.Name) {
	v.mu.Lock()
	defer v.mu.Unlock()
	*number++
	v.report.Bytes += int64(v.id.SegmentSize)
	v.read[n.Timeline] = true
}

// count changes the numbers of the report.
func (v *Verifier) count(change func(*Report)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	change(&v.report)
}

// summarize completes the report.
func (v *Verifier) summarize(s *survey) {
	r := &v.report
	if n := v.skipped.Load(); n > 0 {
		r.Unread = append(r.Unread, Finding{
			Kind: KindUnreadable, Message: fmt.Sprintf("%d more objects were not asked for: %v", n, errStore), Advice: adviceStore,
		})
	}
	v.unseen()
	r.SystemID, r.SegmentSize, r.Major = v.id.SystemID, v.id.SegmentSize, v.id.Major
	r.Deep, r.Since = v.options.Deep, s.since
	r.Timelines = s.timelines(v.id.SegmentSize)
	for i := range r.Timelines {
		r.Timelines[i].Read = v.read[r.Timelines[i].ID]
	}
	for _, list := range [][]Finding{r.Findings, r.Notices, r.Unread} {
		slices.SortStableFunc(list, compareFindings)
	}
}
