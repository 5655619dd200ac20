package receiver

import (
	"errors"
	"testing"
	"time"

	"github.com/walrecv/walrecv/segment"
)

// slowSink syncs when it is let to.
type slowSink struct {
	countingSink
	begun, end chan struct{}
}

func (s *slowSink) Sync() (segment.LSN, error) {
	s.begun <- struct{}{}
	<-s.end
	return s.n, nil
}

// TestOneSyncAtATime: while one goroutine syncs, who reads the socket does not wait
// for it, and what came meanwhile is left to the sync that follows.
func TestOneSyncAtATime(t *testing.T) {
	sink := &slowSink{begun: make(chan struct{}, 1), end: make(chan struct{}, 1)}
	s := hotStream(t, sink, nil)
	s.feedback.streams()
	s.feedback.sent = time.Now()
	sink.n = hotStart + 10
	done := make(chan error)
	go func() { done <- s.feedback.wroteAll(hotStart + 10) }()
	<-sink.begun
	if err := s.feedback.wroteAll(hotStart + 20); err != nil || len(s.feedback.dirty) != 1 {
		t.Fatalf("%v, %d", err, len(s.feedback.dirty))
	}
	if due, _ := s.feedback.due(); !due.Equal(s.feedback.since.Add(pausedInterval)) {
		t.Errorf("a status %s after nothing is read any more", due.Sub(s.feedback.since))
	}
	sink.end <- struct{}{}
	if err := <-done; err != nil || s.feedback.told != hotStart+10 {
		t.Fatalf("%v, told %s", err, s.feedback.told)
	}
	sink.n, sink.end = hotStart+20, make(chan struct{}, 2)
	sink.end <- struct{}{}
	if err := s.feedback.syncRest(); err != nil || s.feedback.told != hotStart+20 {
		t.Fatalf("%v, told %s", err, s.feedback.told)
	}
	<-sink.begun
	if err := s.feedback.syncRest(); err != nil || len(sink.begun) != 0 {
		t.Errorf("synced again, %v", err)
	}
}

// TestMuchIsSyncedBeside: reading goes on while much is synced, and always without
// Synchronous.
func TestMuchIsSyncedBeside(t *testing.T) {
	for name, c := range map[string]struct {
		synchronous bool
		n           segment.LSN
		here        bool
	}{
		"little":           {true, littleWAL, true},
		"much":             {true, littleWAL + 1, false},
		"not synchronous":  {false, 1, false},
		"nothing was left": {true, 0, false},
	} {
		sink := &failingSink{}
		s := hotStream(t, sink, nil)
		if !c.synchronous {
			s.feedback.lazy = true
		}
		err := s.feedback.wroteAll(hotStart + c.n)
		if got := errors.Is(err, errNoSync); got != c.here {
			t.Errorf("%s: %v", name, err)
		}
		if beside := len(s.feedback.dirty) == 1; beside != (!c.here && c.n > 0) {
			t.Errorf("%s: left to the other goroutine: %v", name, beside)
		}
	}
}

// TestIdleSleeps: who sends looks after whether a sync takes long, which nobody tells,
// as long as WAL comes; with the first that comes after a rest it is woken.
func TestIdleSleeps(t *testing.T) {
	sink := &slowSink{begun: make(chan struct{}, 1), end: make(chan struct{}, 1)}
	s := hotStream(t, sink, nil)
	f := s.feedback
	f.pace.status.Store(int64(time.Hour))
	looks := func(what string, asleep bool) {
		t.Helper()
		if err := f.report(); err != nil {
			t.Fatal(err)
		}
		wait := f.wait(time.Now())
		if !asleep && wait > pausedInterval || asleep && wait <= pausedInterval {
			t.Errorf("%s: looks again after %s", what, wait)
		}
	}
	looks("at the beginning", false)
	looks("nothing came", true)
	for _, n := range []segment.LSN{10, 20} {
		sink.n = hotStart + n
		done := make(chan error)
		go func() { done <- f.wroteAll(sink.n) }()
		<-sink.begun
		select {
		case <-f.kick:
		default:
			t.Error("not woken")
		}
		looks("in a sync", false)
		sink.end <- struct{}{}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		looks("after it", true)
	}
}

var errNoSync = errors.New("no sync")

type failingSink struct{ countingSink }

func (*failingSink) Sync() (segment.LSN, error) { return 0, errNoSync }
