package receiver_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/fakepg"
	"github.com/walrecv/walrecv/segment"
)

// elsewhere is an Acknowledger whose answers a test gives.
type elsewhere struct {
	mu      sync.Mutex
	begun   []segment.Position
	synced  segment.LSN
	awaited segment.LSN // the highest position that somebody waited for
	damaged []segment.Position
	answer  func(segment.LSN)
}

func (e *elsewhere) Begin(at segment.Position, acknowledge func(segment.LSN)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.begun = append(e.begun, at)
	e.synced, e.awaited, e.answer = at.LSN, 0, acknowledge
}

func (e *elsewhere) Synced(to segment.LSN, awaited bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.synced = max(e.synced, to)
	if awaited {
		e.awaited = max(e.awaited, to)
	}
}

func (e *elsewhere) Damaged(from segment.Position) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.damaged = append(e.damaged, from)
}

// state is what was told of the stream that there is.
func (e *elsewhere) state() (streams int, synced, awaited segment.LSN) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.begun), e.synced, e.awaited
}

func (e *elsewhere) acknowledge(to segment.LSN) {
	e.mu.Lock()
	answer := e.answer
	e.mu.Unlock()
	answer(to)
}

func newAcknowledged(t *testing.T, c fakepg.Config) (*rig, *elsewhere) {
	t.Helper()
	r, e := newRig(t, c), &elsewhere{}
	r.o.Acknowledger = e
	return r, e
}

func (e *elsewhere) waitSynced(t *testing.T, to segment.LSN) {
	t.Helper()
	eventually(t, func() bool { _, synced, _ := e.state(); return synced >= to })
}

// lastFlush is the flush position that the server was told last.
func (r *rig) lastFlush() segment.LSN {
	all := r.server.Statuses()
	return segment.LSN(all[len(all)-1].Flush)
}

// What is synced is acknowledged when somebody else says so, and not before; and
// never more than what came, whatever is said.
func TestAcknowledgedElsewhere(t *testing.T) {
	r, e := newAcknowledged(t, fakepg.Config{End: 2*mib + 1000})
	r.o.StatusInterval = 10 * time.Millisecond
	r.start()
	e.waitSynced(t, 2*mib+1000)
	before := len(r.server.Statuses())
	eventually(t, func() bool { return len(r.server.Statuses()) > before+3 })
	for _, s := range r.server.Statuses() {
		if s.Flush != 0 {
			t.Fatalf("%+v: nothing may be acknowledged", s)
		}
	}
	e.acknowledge(mib)
	r.flushed(1, mib)
	e.acknowledge(2*mib + 5)
	r.flushed(1, 2*mib+5)
	e.acknowledge(100 * mib)
	r.flushed(1, 2*mib+1000)
	e.acknowledge(mib) // late, and nothing new
	end := r.server.Append(500)
	e.waitSynced(t, segment.LSN(end))
	before = len(r.server.Statuses())
	eventually(t, func() bool { return len(r.server.Statuses()) > before+3 })
	if got := r.lastFlush(); got != 2*mib+1000 {
		t.Errorf("acknowledged %s", got)
	}

	// On the next connection nothing counts that was said on this one.
	r.server.CutAll()
	eventually(t, func() bool { streams, _, _ := e.state(); return streams == 2 })
	e.waitSynced(t, segment.LSN(end))
	if want := (segment.Position{Timeline: 1, LSN: 2 * mib}); e.begun[1] != want {
		t.Errorf("begins at %s, want %s", e.begun[1], want)
	}
	before = len(r.server.Statuses())
	eventually(t, func() bool { return len(r.server.Statuses()) > before+3 })
	if got := r.lastFlush(); got != 0 {
		t.Errorf("acknowledged %s", got)
	}
	e.acknowledge(segment.LSN(end))
	r.flushed(1, end)
	r.halt()
	r.sound()
}

// Who asks for a reply gets an exact one, as soon as all is acknowledged, and the
// Acknowledger is told that somebody waits: also when all was synced before.
func TestReplyWaitsForTheAcknowledger(t *testing.T) {
	r, e := newAcknowledged(t, fakepg.Config{End: 2*mib + 1000})
	r.o.FlushInterval, r.o.StatusInterval = time.Hour, 0
	r.start()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	must(t, r.server.WaitStreaming(ctx, 1, 2*mib+1000))
	for _, more := range []int{0, 0, 77} {
		end := r.server.Append(more)
		must(t, r.server.WaitStreaming(ctx, 1, end))
		e.mu.Lock()
		e.awaited = 0
		e.mu.Unlock()
		eventually(t, func() bool {
			r.server.Keepalive(true)
			_, _, awaited := e.state()
			return awaited == segment.LSN(end)
		})
		e.acknowledge(segment.LSN(end))
		r.flushed(1, end)
	}
	// A shutdown ends once it was told the exact position.
	end := r.server.Append(4321)
	done := make(chan error, 1)
	go func() { done <- r.server.Shutdown(ctx) }()
	eventually(t, func() bool { _, _, awaited := e.state(); return awaited == segment.LSN(end) })
	select {
	case err := <-done:
		t.Errorf("the server has stopped before all was acknowledged: %v", err)
	default:
	}
	e.acknowledge(segment.LSN(end))
	must(t, <-done)
	r.server.Restart()
	r.halt()
	r.sound()
}

// With Synchronous, somebody waits for every byte.
func TestSynchronousIsAwaited(t *testing.T) {
	r, e := newAcknowledged(t, fakepg.Config{End: 2*mib + 1000})
	r.o.Synchronous = true
	r.start()
	eventually(t, func() bool { _, _, awaited := e.state(); return awaited == 2*mib+1000 })
	e.acknowledge(2*mib + 1000)
	r.halt()
	r.sound()
}

// A stop waits a while until all is acknowledged, so that the server hears of it.
func TestStopWaitsForTheAcknowledger(t *testing.T) {
	r, e := newAcknowledged(t, fakepg.Config{End: 2*mib + 1000})
	r.start()
	e.waitSynced(t, 2*mib+1000)
	r.flushed(1, 0)
	r.stop()
	eventually(t, func() bool { _, _, awaited := e.state(); return awaited == 2*mib+1000 })
	e.acknowledge(2*mib + 1000)
	must(t, r.wait())
	if got := r.lastFlush(); got != 2*mib+1000 {
		t.Errorf("the last status: %s", got)
	}
	r.sound()
}
