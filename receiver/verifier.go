package receiver

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/walrecv/walrecv/segment"
)

const (
	// verifyQueue pieces, of 128 KiB mostly, may wait to be read as WAL. The reading
	// is faster than most networks and disks; if it falls behind, it slows the stream
	// down, never the answer about what came already.
	verifyQueue = 32

	// verifySmall bytes are read by who brings them, if nothing waits: that takes
	// less time than to wake another goroutine, also where they are the smallest
	// records there are. More would keep a commit waiting that follows.
	verifySmall = 2 << 10

	// maxSummaries are kept for whoever archives the segments. One that comes too
	// late has to read the segment itself.
	maxSummaries = 1024
)

// verifier reads as WAL what is streamed, in a goroutine of its own. It has no
// say in what is acknowledged: what it finds is logged, counted, asked for once
// more and, if it comes the same again, marked.
type verifier struct {
	keeper  Keeper
	log     *slog.Logger
	failed  func()                 // counts
	damaged func(segment.Position) // tells from where on WAL is asked for again
	lenient bool                   // WAL that does not continue what is held is only marked

	work   chan verifyWork
	queued atomic.Int32 // of work, and what is being done of it
	blocks *blocks      // of what is streamed
	done   chan struct{}

	state verifyState // of the goroutine; while nothing is queued, of who feeds it

	mu        sync.Mutex
	pending   map[segment.Name]pendingRead // being read
	blind     bool                         // nothing is being read
	summaries map[segment.Name]segment.Summary
	order     []segment.Name // of summaries, the oldest first
	interrupt func(error)    // ends the stream that there is
	again     segment.Position
	asking    bool      // again means something
	awaiting  time.Time // since when a stream that was ended has not begun again; zero: it has
}

// pendingRead is a segment that was streamed to its end and is still being read.
type pendingRead struct {
	end  segment.LSN
	read chan struct{} // closed when it was
}

// verifyWork is a piece of the stream or the beginning of one.
type verifyWork struct {
	begin *verifyBegin
	at    segment.LSN
	data  []byte
	block *block // that data is in
}

// verifyBegin says what is streamed next.
type verifyBegin struct {
	at      segment.Position
	cluster segment.Cluster
	history segment.History // of at.Timeline
}

// errAskAgain ends a stream of which a part is to be sent again.
var errAskAgain = errors.New("the server is asked again for WAL that came damaged")

func newVerifier(k Keeper, log *slog.Logger, failed func(), lenient bool) *verifier {
	return &verifier{
		keeper: k, log: log, failed: failed, damaged: func(segment.Position) {}, lenient: lenient,
		work: make(chan verifyWork, verifyQueue), blocks: &blocks{}, done: make(chan struct{}),
		pending:   map[segment.Name]pendingRead{},
		summaries: map[segment.Name]segment.Summary{},
		state:     verifyState{skip: true},
	}
}

// start and stop frame everything else; stop waits until all was read.
func (v *verifier) start() { go v.loop() }

func (v *verifier) stop() {
	close(v.work)
	<-v.done
}

// begin says what the next bytes are, and how to end the stream they come from.
func (v *verifier) begin(b verifyBegin, interrupt func(error)) {
	v.mu.Lock()
	v.interrupt = interrupt
	v.asking = v.asking && b.at != v.again
	late := v.asking // it was asked for after this stream had been prepared
	v.mu.Unlock()
	v.queue(verifyWork{begin: &b})
	if late {
		interrupt(errAskAgain)
	}
}

// ended says that the stream cannot be interrupted any more.
func (v *verifier) ended() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.interrupt = nil
}

// feed takes bytes that were written, and that stay in their block until they were
// read.
func (v *verifier) feed(at segment.LSN, p []byte, in *block) {
	w := verifyWork{at: at, data: p, block: in}
	if len(p) <= verifySmall && v.queued.Load() == 0 {
		v.guarded(w)
		return
	}
	in.use()
	v.queue(w)
}

// busy tells whether feed waits: nobody else queues while a stream is read.
func (v *verifier) busy() bool { return len(v.work) == cap(v.work) }

func (v *verifier) queue(w verifyWork) {
	v.queued.Add(1)
	v.work <- w
}

// expect notes the segments that bytes make complete, before they are read.
func (v *verifier) expect(name segment.Name, at segment.LSN, n int, size segment.Size) {
	for end := name.End(size); at+segment.LSN(n) >= end && at < end; end = name.End(size) {
		v.mu.Lock()
		if _, ok := v.pending[name]; !ok && !v.blind {
			v.pending[name] = pendingRead{end, make(chan struct{})}
		}
		v.mu.Unlock()
		n -= int(end - at)
		at, name = end, name.Next()
	}
}

// summary is what was found in a segment that was streamed to its end. It waits
// while that is still being read, or is about to be streamed again: what came
// damaged is not to be archived yet. ok is false for a segment that did not pass,
// or not from its start.
func (v *verifier) summary(ctx context.Context, name segment.Name) (sum segment.Summary, ok bool) {
	v.mu.Lock()
	wait := v.pending[name].read
	sum, ok = v.summaries[name]
	v.mu.Unlock()
	if wait == nil {
		return sum, ok
	}
	select {
	case <-wait:
	case <-v.done:
	case <-ctx.Done():
		return segment.Summary{}, false
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	sum, ok = v.summaries[name]
	return sum, ok
}

// settled notes that a segment was read to its end, with or without a summary.
func (v *verifier) settled(name segment.Name, sum segment.Summary, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if ok {
		if _, again := v.summaries[name]; !again {
			v.order = append(v.order, name)
		}
		v.summaries[name] = sum
	}
	if len(v.order) > maxSummaries {
		delete(v.summaries, v.order[0])
		v.order = v.order[1:]
	}
	if p, ok := v.pending[name]; ok {
		close(p.read)
		delete(v.pending, name)
	}
}

// dropPending is for bytes that will not be read.
func (v *verifier) dropPending() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for name, p := range v.pending {
		close(p.read)
		delete(v.pending, name)
	}
}

// ask makes the stream begin again at a position, and ends the one there is.
func (v *verifier) ask(at segment.Position) {
	v.damaged(at) // before it can come
	v.mu.Lock()
	v.again, v.asking, v.awaiting = at, true, time.Now()
	interrupt := v.interrupt
	v.mu.Unlock()
	if interrupt != nil {
		interrupt(errAskAgain)
	}
}

// begun notes that a stream has begun. What is in front of it will not come any
// more.
func (v *verifier) begun(at segment.Position) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.awaiting, v.blind = time.Time{}, false
	for name, p := range v.pending {
		if name.Timeline < at.Timeline || p.end <= at.LSN {
			close(p.read)
			delete(v.pending, name)
		}
	}
}

// blinded notes that nothing is read before the next stream begins.
func (v *verifier) blinded() {
	v.mu.Lock()
	v.blind = true
	v.mu.Unlock()
	v.dropPending()
}

// connectionFailed lets go whoever waits for a stream to begin again, if that
// takes long.
func (v *verifier) connectionFailed() {
	v.mu.Lock()
	since := v.awaiting
	v.mu.Unlock()
	if !since.IsZero() && time.Since(since) > settled {
		v.dropPending()
	}
}

// end ends the receiver.
func (v *verifier) end(err error) {
	v.mu.Lock()
	interrupt := v.interrupt
	v.mu.Unlock()
	if interrupt != nil {
		interrupt(local(err))
	}
}

// cannotRepeat says that what was asked for is not to be had.
func (v *verifier) cannotRepeat() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.asking = false
}

// repeatFrom is where the next stream has to begin, if it is to repeat something.
func (v *verifier) repeatFrom() (at segment.Position, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.again, v.asking
}
