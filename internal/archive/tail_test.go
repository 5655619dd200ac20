package archive

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/walrecv/walrecv/segment"
)

const testStart = segment.LSN(testSize)

// What is flushed is in the archive one interval later, and nothing is put when
// nothing was flushed.
func TestTailFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTailRig(t)
		r.o.Acknowledge = false
		r.start()
		r.connect()
		at := testStart
		for range 20 {
			at += 1000
			r.send(at, false)
			if r.ackedTo() != at {
				t.Errorf("acknowledged %s, %s is synced", r.ackedTo(), at)
			}
			time.Sleep(300 * time.Millisecond)
		}
		time.Sleep(time.Second)
		r.expectArchived(testStart, at)
		if got, ok := r.tail.Archived(); !ok || got != (segment.Position{Timeline: 1, LSN: at}) {
			t.Errorf("archived: %v, %t", got, ok)
		}
		if _, late := r.tail.Oldest(); late {
			t.Error("something is late")
		}
		r.end(true)
	})
}

// An interval that changes counts at once, for what waits already and for the streams
// that come.
func TestTailIntervalChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTailRig(t)
		r.o.Acknowledge, r.o.Interval = false, time.Hour
		r.start()
		r.connect()
		r.send(testStart+1000, false)
		time.Sleep(time.Minute) // the first one goes at once
		r.expectArchived(testStart, testStart+1000)
		r.send(testStart+2000, false)
		time.Sleep(time.Minute)
		r.expectArchived(testStart, testStart+1000)
		r.tail.SetInterval(10 * time.Second)
		time.Sleep(time.Second)
		r.expectArchived(testStart, testStart+2000)
		r.connect()
		for at := testStart + 3000; at < testStart+6000; at += 1000 {
			r.send(at, false)
			time.Sleep(11 * time.Second)
			r.expectArchived(testStart, at)
		}
		r.end(true)
	})
}

// An acknowledgement that somebody waits for comes without delay, to the byte.
func TestTailIsExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTailRig(t)
		r.start()
		r.connect()
		synctest.Wait()
		if got := r.ackedTo(); got != testStart {
			t.Errorf("at the start of the stream: %s", got)
		}
		began := time.Now()
		for _, to := range []segment.LSN{testStart + 1, testStart + 2, testStart + 5000, 2*testStart - 1, 2 * testStart, 2*testStart + 7, 5*testStart + 9} {
			r.send(to, true)
			synctest.Wait()
			if got := r.ackedTo(); to < 3*testStart && got != to {
				t.Errorf("acknowledged %s of %s", got, to)
			}
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("took %v", took)
		}
		time.Sleep(time.Second)
		if got := r.ackedTo(); got != 5*testStart+9 {
			t.Errorf("acknowledged %s", got)
		}
		r.send(5*testStart+100, false)
		synctest.Wait()
		r.tail.Synced(5*testStart+100, true) // asked for later
		synctest.Wait()
		if got := r.ackedTo(); got != 5*testStart+100 {
			t.Errorf("acknowledged %s", got)
		}
		r.end(false)
	})
}

// A new connection, and a new process, go on where the archive stands, after a
// comparison; also without the spool.
func TestTailGoesOn(t *testing.T) {
	for _, lost := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := newTailRig(t)
			r.start()
			r.connect()
			r.send(2*testStart+5000, true)
			synctest.Wait()
			r.connect() // from 2 MiB on
			r.send(2*testStart+3000, true)
			synctest.Wait()
			if got := r.ackedTo(); got != 2*testStart+3000 {
				t.Errorf("less than the archive has: acknowledged %s", got)
			}
			r.send(2*testStart+5000, true)
			synctest.Wait()
			if got := r.ackedTo(); got != 2*testStart+5000 {
				t.Errorf("acknowledged %s", got)
			}
			r.end(false)
			if lost {
				r.loseSpool()
			}
			before := r.chunks()
			r.start()
			r.connect()
			r.send(2*testStart+5000, true)
			synctest.Wait()
			if got := r.ackedTo(); got != 2*testStart+5000 {
				t.Errorf("acknowledged %s", got)
			}
			if after := r.chunks(); !slices.Equal(before, after) {
				t.Errorf("%v became %v", before, after)
			}
			r.send(2*testStart+5001, true)
			synctest.Wait()
			r.end(true)
			r.expectArchived(testStart, 2*testStart+5001)
		})
	}
}

// A server that sends something else than the archive's tail has ends the receiver.
func TestTailOfAnotherServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTailRig(t)
		r.start()
		r.connect()
		r.send(testStart+5000, true)
		synctest.Wait()
		r.end(false)
		before := r.chunks()
		r.salt[1] = 1
		r.loseSpool()
		r.start()
		r.highest = 0
		r.connect()
		r.send(testStart+6000, true)
		synctest.Wait()
		if err := r.stop(); !errors.Is(err, segment.ErrBranch) {
			t.Errorf("ended with %v", err)
		}
		if got := r.ackedTo(); got != testStart {
			t.Errorf("acknowledged %s", got)
		}
		if after := r.chunks(); !slices.Equal(before, after) {
			t.Errorf("%v became %v", before, after)
		}
	})
}
