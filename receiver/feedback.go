package receiver

import (
	"math"
	"sync"
	"time"

	"github.com/walrecv/walrecv/segment"
)

// replyPatience is how long a reply that the server asked for waits for a slow
// sync beside the reading, so that it can be exact. It is well below wal_sender_timeout.
const replyPatience = 10 * time.Second

// pausedInterval is the longest time between two status messages while nothing is
// read. A server with the shortest wal_sender_timeout that makes sense, one second,
// hears enough of us, and we soon notice one that is not there any more.
const pausedInterval = 250 * time.Millisecond

// littleWAL is how much WAL is synced by who reads the socket, at most: more is worth
// reading on meanwhile.
const littleWAL = 64 << 10

// feedback is the half of a stream that answers. The goroutine that reads the
// socket tells it what was written; one goroutine syncs, and one sends, so that
// neither a slow disk holds up an answer nor a slow network a sync.
//
// Where commits wait for each sync, waking another goroutine costs more than most of
// the rest. There who reads the socket syncs what is little, and who has synced sends
// what is due at once. A slow disk can then hold up the reading, so that the server is
// not heard. It hears of us all the time, as if it had asked: the third goroutine
// still sends. A network that takes nothing holds up reading and syncing there, for
// receiveTimeout at most.
//
// Positions: received and written are the same here, since a message is written
// before the next is read. durable moves only by the result of a sync, and flushed,
// which the server is told, follows it, at once or when the Acknowledger says so.
type feedback struct {
	sink   Sink
	ack    Acknowledger // nil: what is durable is acknowledged
	send   func(write, flush segment.LSN, reply bool) error
	fail   func() // wakes the reader after the first error
	synced func(flushed segment.LSN, took time.Duration)
	lazy   bool // WAL gathers before it is synced

	pace *intervals

	dirty  chan struct{} // there is something to sync
	urgent chan struct{} // and it should be now
	kick   chan struct{} // there may be something to send
	stop   chan struct{}
	broken chan struct{} // closed after the first error
	wg     sync.WaitGroup

	syncing sync.Mutex // held while a sync is done and told
	sending sync.Mutex // held while a status is chosen and sent
	unsent  error      // of a status: part of it may have been sent, so nothing may follow

	mu      sync.Mutex
	written segment.LSN
	durable segment.LSN
	flushed segment.LSN
	told    segment.LSN // the flush position sent last
	alive   bool        // the server streams; no flush position is sent before
	sent    time.Time   // when a status was sent last
	ping    bool        // we want a sign of life
	paused  bool        // the reader does not read: there is no room, or it syncs
	since   time.Time   // when that began
	watched segment.LSN // what was written when the sending goroutine last looked
	asleep  bool        // it does not look before something is due
	sends   bool        // who syncs is about to send
	err     error

	asked      bool        // the server waits for a reply
	askedAt    segment.LSN // and wants this position in it
	askedSince time.Time
}

// startFeedback begins to answer, with a first status at once. It says nothing of
// what is flushed: a server that turns out to have removed the WAL would let that
// revive a slot that it has invalidated, so that the loss could not be seen there.
func startFeedback(s *stream, at segment.LSN) *feedback {
	f := newFeedback(s, at)
	f.wg.Add(2)
	go f.syncLoop()
	go f.sendLoop()
	return f
}

func newFeedback(s *stream, at segment.LSN) *feedback {
	f := &feedback{
		sink: s.sink, ack: s.o.Acknowledger, send: s.sendStatus, fail: s.deadline.expire,
		synced: s.synced, lazy: !s.o.Synchronous && s.o.FlushInterval > 0, pace: s.pace,
		dirty: make(chan struct{}, 1), urgent: make(chan struct{}, 1),
		kick: make(chan struct{}, 1), stop: make(chan struct{}),
		broken:  make(chan struct{}),
		written: at, durable: at, asked: true, askedAt: at,
		ping: true, // an idle server says nothing by itself for half a minute
	}
	if f.ack == nil {
		f.flushed = at
	} else {
		f.ack.Begin(segment.Position{Timeline: s.timeline, LSN: at}, f.acknowledged)
	}
	return f
}

// close ends both goroutines and returns the first error of either.
func (f *feedback) close() error {
	close(f.stop)
	f.wg.Wait()
	return f.failure()
}

func (f *feedback) failure() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

func (f *feedback) failed(err error) {
	f.mu.Lock()
	if f.err == nil {
		f.err = err
		close(f.broken)
	}
	f.mu.Unlock()
	f.fail()
}

// wrote says that everything before pos was written; now asks for a sync
// without delay.
func (f *feedback) wrote(pos segment.LSN, now bool) {
	f.mu.Lock()
	known := pos == f.written
	f.written = pos
	f.mu.Unlock()
	if known {
		return
	}
	notify(f.dirty)
	if now {
		notify(f.urgent)
	}
}

// wroteAll says that everything before pos was written, and that nothing more has come.
func (f *feedback) wroteAll(pos segment.LSN) error {
	f.mu.Lock()
	here := !f.lazy && pos > f.durable && pos-f.durable <= littleWAL && f.syncing.TryLock()
	wake := here && f.asleep
	if here {
		f.written, f.paused, f.since, f.asleep = pos, true, time.Now(), false
	}
	f.mu.Unlock()
	if wake {
		notify(f.kick)
	}
	if !here {
		f.wrote(pos, false)
		return nil
	}
	defer f.syncing.Unlock()
	err := f.sync()
	f.mu.Lock()
	f.paused = false
	f.mu.Unlock()
	return err
}

// replyAsked answers the server as soon as everything written so far is synced.
// An answer before that would be short of what was sent, which a server that is
// shutting down takes as a reason to ask again at once.
func (f *feedback) replyAsked() {
	f.mu.Lock()
	if !f.asked {
		f.asked, f.askedSince = true, time.Now()
	}
	f.askedAt = f.written
	durable, behind := f.durable, f.durable < f.written
	f.mu.Unlock()
	switch {
	case behind:
		notify(f.urgent)
		notify(f.dirty)
	case f.ack != nil:
		f.ack.Synced(durable, true)
	}
	notify(f.kick)
}

// isDurable notes what a sync has made durable.
func (f *feedback) isDurable(to segment.LSN) {
	f.note(to, false)
	notify(f.kick)
}

// note notes what a sync has made durable; sends says that the caller calls report
// next.
func (f *feedback) note(to segment.LSN, sends bool) {
	f.mu.Lock()
	f.durable, f.sends = to, sends
	awaited := !f.lazy || f.asked
	if f.ack == nil {
		f.flushed = to
	}
	f.mu.Unlock()
	if f.ack != nil {
		f.ack.Synced(to, awaited)
	}
}

// acknowledged notes what may be acknowledged of what is durable.
func (f *feedback) acknowledged(to segment.LSN) {
	f.mu.Lock()
	f.flushed = max(f.flushed, min(to, f.durable))
	sends := f.sends
	f.mu.Unlock()
	if !sends {
		notify(f.kick)
	}
}

// farewell is what the server is told at last, after both goroutines have ended and
// everything before a position was synced. It waits a while until all of that may be
// acknowledged.
func (f *feedback) farewell(durable segment.LSN, patience time.Duration) segment.LSN {
	f.mu.Lock()
	f.asked = true
	f.mu.Unlock()
	f.isDurable(durable)
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for late := false; ; {
		f.mu.Lock()
		flushed := f.flushed
		f.mu.Unlock()
		if flushed >= durable || late {
			return flushed
		}
		select {
		case <-f.kick:
		case <-timer.C:
			late = true
		}
	}
}

// streams says that the server has sent something, so that it has the WAL.
func (f *feedback) streams() {
	f.mu.Lock()
	f.alive = true
	f.mu.Unlock()
	notify(f.kick)
}

// pause says whether the reader reads. While it does not, it cannot hear the
// server ask for a reply, so there is one all the time.
func (f *feedback) pause(paused bool) {
	f.mu.Lock()
	f.paused, f.since = paused, time.Now()
	f.mu.Unlock()
	notify(f.kick)
}

// due is when a status has to be sent at the latest, if ever.
func (f *feedback) due() (at time.Time, ok bool) {
	if interval := time.Duration(f.pace.status.Load()); interval > 0 {
		at, ok = f.sent.Add(interval), true
	}
	if !f.paused {
		return at, ok
	}
	paused := f.sent.Add(pausedInterval)
	if f.since.After(f.sent) {
		paused = f.since.Add(pausedInterval)
	}
	if !ok || paused.Before(at) {
		at = paused
	}
	return at, true
}

// askForLife makes the server answer.
func (f *feedback) askForLife() {
	f.mu.Lock()
	f.ping = true
	f.mu.Unlock()
	notify(f.kick)
}

func (f *feedback) syncLoop() {
	defer f.wg.Done()
	for {
		select {
		case <-f.dirty:
		case <-f.stop:
			return
		}
		if !f.linger() {
			return
		}
		if err := f.syncRest(); err != nil {
			f.failed(err)
			return
		}
	}
}

// syncRest syncs unless the reader has.
func (f *feedback) syncRest() error {
	f.syncing.Lock()
	defer f.syncing.Unlock()
	f.mu.Lock()
	done := f.durable >= f.written
	f.mu.Unlock()
	if done {
		return nil
	}
	return f.sync()
}

// sync makes durable what was written, and says so.
func (f *feedback) sync() error {
	began := time.Now()
	flushed, err := f.sink.Sync()
	if err != nil {
		return local(err)
	}
	f.synced(flushed, time.Since(began))
	if f.lazy {
		f.isDurable(flushed)
		return nil
	}
	f.note(flushed, true)
	return f.report()
}

// linger lets more WAL gather before a sync, and returns false to stop.
func (f *feedback) linger() bool {
	if !f.lazy {
		return true
	}
	timer := time.NewTimer(time.Duration(f.pace.flush.Load()))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-f.urgent:
	case <-f.pace.sync:
	case <-f.stop:
		return false
	}
	return true
}

func (f *feedback) sendLoop() {
	defer f.wg.Done()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-f.kick:
		case <-timer.C:
		case <-f.pace.sooner:
		case <-f.stop:
			return
		}
		if err := f.report(); err != nil {
			f.failed(err)
			return
		}
		timer.Reset(f.wait(time.Now()))
	}
}

// report sends a status if one is due.
func (f *feedback) report() error {
	f.sending.Lock()
	defer f.sending.Unlock()
	if f.unsent != nil {
		return f.unsent
	}
	write, flush, ping, ok := f.take(time.Now())
	if !ok {
		return nil
	}
	f.unsent = f.send(write, flush, ping)
	return f.unsent
}

// take decides whether a status is to be sent now, and marks it as sent.
func (f *feedback) take(now time.Time) (write, flush segment.LSN, ping, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sends = false
	reply := f.asked && (f.flushed >= f.askedAt || now.Sub(f.askedSince) >= replyPatience)
	due, periodic := f.due()
	periodic = periodic && !now.Before(due)
	if f.alive {
		flush = f.flushed
	}
	if !reply && !periodic && !f.ping && flush == f.told {
		return 0, 0, false, false
	}
	ping = f.ping
	if reply {
		f.asked = false
	}
	f.ping, f.told, f.sent = false, flush, now
	// A sync may cover WAL that the reader has not told about yet.
	return max(f.written, f.flushed), flush, ping, true
}

// wait is how long nothing has to be sent, unless something happens.
func (f *feedback) wait(now time.Time) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	wait := time.Duration(math.MaxInt64)
	if due, ok := f.due(); ok {
		wait = due.Sub(now)
	}
	// Who reads and syncs does not say so each time: that would wake this goroutine
	// with each commit. It does where this one is asleep, as with an idle server.
	f.asleep = f.lazy || f.written == f.watched
	f.watched = f.written
	if !f.asleep {
		wait = min(wait, pausedInterval)
	}
	if f.asked {
		wait = min(wait, f.askedSince.Add(replyPatience).Sub(now))
	}
	return max(wait, 0)
}

// notify leaves a signal in a channel of capacity one, unless one is there.
func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
