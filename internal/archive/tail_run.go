package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/walrecv/walrecv/segment"
)

// tailRun is one Run or Drain of a [Tail]. All but its workers is one goroutine.
type tailRun struct {
	*Tail
	archive  *Archive
	uploader *Uploader
	drain    bool

	ctx     context.Context // of the run
	workers sync.WaitGroup
	results chan *tailJob
	flying  map[*tailJob]struct{}

	stream *frontier // that is worked on
	cancel context.CancelFunc
	inner  context.Context // of the work on the stream

	pause   backoff.ExponentialBackOff
	failing bool // the last try failed
	retryAt time.Time
}

// tailJob is a piece of work: a step, or, without one, a look at what there was when
// the stream began.
type tailJob struct {
	stream *frontier
	step   tailStep
	began  time.Time

	doubted bool // what stands under the chunk's key may differ

	// What its worker leaves here.
	found found
	since uint64 // the uploader's looks at the spool until then
	err   error
}

func (t *Tail) newRun(a *Archive, u *Uploader) *tailRun {
	return &tailRun{
		Tail: t, archive: a, uploader: u,
		results: make(chan *tailJob), flying: map[*tailJob]struct{}{},
		pause: backoff.ExponentialBackOff{
			InitialInterval: firstPause, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: lastPause,
		},
	}
}

// loop works until ctx ends, until another try would not help, or until a Drain has
// nothing left to do.
func (r *tailRun) loop(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	r.ctx = ctx
	defer r.end()
	defer r.workers.Wait()
	defer cancel()
	if !r.drain {
		r.workers.Go(func() { r.tidy(ctx) })
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		wait, done := r.start()
		if done {
			return nil
		}
		if wait > 0 {
			timer.Reset(wait)
		}
		var err error
		select {
		case <-r.wake:
		case <-timer.C:
		case job := <-r.results:
			err = r.settle(job)
		case <-ctx.Done():
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
	}
}

// end forgets what was in flight, so that another run begins it again.
func (r *tailRun) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for job := range r.flying {
		r.gaveUp(job)
	}
	if r.failing {
		r.uploader.outage.abandoned(true)
	}
}

// start begins what can be begun, and says when to look again if nothing happens
// before; 0: never. done: a Drain has nothing left to do.
func (r *tailRun) start() (wait time.Duration, done bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.front
	if f == nil {
		return 0, false
	}
	if f != r.stream {
		r.follow(f)
	}
	if wait := time.Until(r.retryAt); r.failing && wait > 0 {
		return wait, false
	}
	if !f.adopted {
		if len(r.flying) == 0 { // what flies could get there after the look
			r.begin(&tailJob{stream: f}, r.look)
		}
		return 0, false
	}
	if !f.ready && r.uploader.waiting.clear(f.since, f.at, f.size) {
		f.ready = true
	}
	for !r.failing || len(r.flying) == 0 {
		step, until, ok := f.next(time.Now())
		if !ok {
			wait = until
			break
		}
		work := r.put
		switch {
		case step.complete != nil:
			work = r.compareComplete
		case step.ahead != nil:
			work = r.compareAhead
		case step.found:
			work = r.compareFound
			r.obsolete.begun(step.chunk)
		default:
			r.doubts.puts(step.chunk)
			r.obsolete.begun(step.chunk)
		}
		r.begin(&tailJob{stream: f, step: step, doubted: r.doubts.of(step.chunk) != asCame}, work)
	}
	at := f.position()
	if r.o.Acknowledge && f.ready && at > r.told {
		r.told = at
		r.acknowledge(at)
	}
	return wait, r.drain && f.ready && at == f.synced && len(r.flying) == 0
}

// follow turns to a new stream. What is on its way for an older one is given up.
func (r *tailRun) follow(f *frontier) {
	if r.cancel != nil {
		r.cancel()
	}
	r.stream = f
	r.inner, r.cancel = context.WithCancel(r.ctx)
}

// begin has a worker do something.
func (r *tailRun) begin(job *tailJob, work func(context.Context, *tailJob) error) {
	job.began = time.Now()
	r.flying[job] = struct{}{}
	ctx := r.inner
	r.workers.Go(func() {
		job.err = work(ctx, job)
		select {
		case r.results <- job:
		case <-r.ctx.Done():
		}
	})
}

// settle takes note of the end of a piece of work.
func (r *tailRun) settle(job *tailJob) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.flying, job)
	var damaged *DamagedError
	var conflict *ConflictError
	var local *LocalError
	switch {
	case job.err == nil:
		r.succeeded(job)
	case job.stream != r.front || r.inner.Err() != nil || r.overtaken(job):
		r.gaveUp(job)
	case job.step.ahead != nil && !errors.As(job.err, &local) &&
		(errors.Is(job.err, fs.ErrNotExist) || errors.Is(job.err, ErrEncrypted) || errors.As(job.err, &damaged)):
		job.stream.notAhead(job.step.chunk)
	case job.step.found && errors.Is(job.err, fs.ErrNotExist) && !errors.As(job.err, &local):
		r.obsolete.ended(job.step.chunk)
		job.stream.gone(job.step.chunk)
	case job.step.complete == nil && (errors.As(job.err, &damaged) || errors.As(job.err, &conflict) && conflict.OtherKey):
		r.log.Error("something in the archive's tail is damaged, or cannot be compared, and does not count; run walrecv verify", "error", job.err)
		r.obsolete.ended(job.step.chunk)
		job.stream.unsound(job.step.chunk)
	case errors.As(job.err, &conflict) && (job.doubted || r.doubts.of(job.step.chunk) != asCame):
		r.distrusted(job.step.chunk)
		r.obsolete.ended(job.step.chunk)
		job.stream.unsound(job.step.chunk)
		r.superseded(job.stream, job.step.chunk.Name)
	case errors.As(job.err, &conflict):
		return fmt.Errorf("the archive holds other WAL than the server sends: was the server restored from a snapshot? %w: %w", segment.ErrBranch, job.err)
	case isFinal(job.err):
		return job.err
	default:
		r.gaveUp(job)
		r.uploader.outage.failed(r.what(job), job.err, !r.failing)
		r.failing, r.retryAt = true, time.Now().Add(r.pause.NextBackOff())
	}
	return nil
}

// succeeded takes note of work that is done.
func (r *tailRun) succeeded(job *tailJob) {
	r.uploader.outage.succeeded(r.failing)
	r.failing = false
	r.pause.Reset()
	f, c := job.stream, job.step.chunk
	switch {
	case job.step.complete != nil:
		f.compared(job.step.complete.Number, true)
	case job.step.ahead != nil:
		f.landed(c, job.began)
	case c.To > 0:
		f.landed(c, job.began)
		r.obsolete.ended(c)
		r.obsolete.replacedBy(c)
		if f == r.front {
			r.doubts.set(c, asCame)
			r.superseded(f, c.Name)
		}
	default:
		for _, c := range job.found.chunks {
			if r.doubts.of(c) != asCame {
				job.found.doubted = append(job.found.doubted, c.Name.Number)
			}
		}
		f.adopt(job.found)
		f.since = job.since
		r.looked(job)
		for _, c := range job.found.chunks {
			r.obsolete.found(c)
		}
	}
}

// gaveUp takes note of work whose result is not known.
func (r *tailRun) gaveUp(job *tailJob) {
	switch c := job.step.chunk; {
	case job.step.complete != nil:
		job.stream.compared(job.step.complete.Number, false)
	case c.To > 0:
		job.stream.failed(c)
		r.obsolete.ended(c)
	}
}

// overtaken tells whether a segment was archived, and removed from the spool, before
// a piece of it could be read.
func (r *tailRun) overtaken(job *tailJob) bool {
	if !errors.Is(job.err, fs.ErrNotExist) || job.step.chunk.To == 0 {
		return false
	}
	s := job.stream.segments[job.step.chunk.Name.Number]
	return s == nil || s.whole
}

// what names a piece of work for people.
func (r *tailRun) what(job *tailJob) string {
	n := segment.Name{Timeline: job.stream.at.Timeline, Number: job.stream.base}
	switch {
	case job.step.complete != nil:
		n = *job.step.complete
	case job.step.chunk.To > 0:
		n = job.step.chunk.Name
	}
	return "tail of " + n.Format(job.stream.size)
}
