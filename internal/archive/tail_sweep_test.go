package archive

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage/storagetest"
)

const sweepEnd = 3*testStart + 70_000

// streamForSweep streams two segments and a bit, in pieces, and connects again in
// between. What is sent beyond the first error of the disk is not received.
func (r *tailRig) streamForSweep() error {
	for i, to := range []segment.LSN{
		testStart + 100, testStart + 9000, testStart + 9001, testStart + 600_000, 2*testStart + 10, 0,
		2*testStart + 400_000, 3 * testStart, 3*testStart + 5, 0, 3*testStart + 5000, sweepEnd,
	} {
		if to == 0 {
			r.connect()
			continue
		}
		if err := r.trySend(to, i%3 != 0); err != nil {
			return err
		}
		time.Sleep(700 * time.Millisecond)
	}
	return nil
}

// Every request to the store goes wrong once, in every way: no byte is acknowledged
// that the archive does not have, no object has wrong content, and all gets there.
func TestSweepOverTailRequests(t *testing.T) {
	step, acks := 29, []bool{true}
	if pgtest.Long() {
		step, acks = 1, []bool{true, false}
	}
	runs := 0
	for what, fault := range map[string]storagetest.Fault{
		"before": {Before: storagetest.ErrInjected}, "after": {After: storagetest.ErrInjected},
		"hangs": {Hang: true}, "hang after": {HangAfter: true},
	} {
		for _, ack := range acks {
			for k, fired := 2, true; fired; k += step {
				synctest.Test(t, func(t *testing.T) {
					r := newTailRig(t)
					r.what = fmt.Sprintf("request %d: %s, ack=archive %t", k, what, ack)
					r.o.Acknowledge = ack
					faulty := storagetest.NewFaulty(r.mem, storagetest.FailAt(k, fault))
					r.store = faulty
					r.start()
					r.connect()
					r.must(r.streamForSweep())
					time.Sleep(5 * time.Minute)
					if got := r.ackedTo(); got != sweepEnd {
						t.Errorf("%s: acknowledged %s", r.what, got)
					}
					r.end(true)
					r.expectArchived(testStart, sweepEnd)
					fired = faulty.Fired() > 0
				})
				runs++
			}
		}
	}
	t.Logf("%d runs", runs)
}

// The machine, or the process alone, ends at every operation on the disk of the
// spool. What was acknowledged by the archive is there, and all the rest gets there
// when the receiver goes on with what is left of the spool.
func TestSweepOverTailCrashes(t *testing.T) {
	step, acks := 29, []bool{true}
	if pgtest.Long() {
		step, acks = 1, []bool{true, false}
	}
	runs := 0
	for _, power := range []bool{true, false} {
		for _, ack := range acks {
			for k, crashed := 0, true; crashed; k += step {
				synctest.Test(t, func(t *testing.T) {
					r := newTailRig(t)
					r.what = fmt.Sprintf("operation %d, power cut %t, ack=archive %t", k, power, ack)
					r.o.Acknowledge = ack
					r.start() // the spool is made
					r.connect()
					r.end(false)
					crasher := vfs.NewKiller(r.disk, k)
					if power {
						crasher = vfs.NewCrasher(r.disk, k, rand.New(rand.NewPCG(uint64(k), 1)))
					}
					r.fsys = crasher.FS()
					crashed = r.crashes(crasher)
				})
				runs++
			}
		}
	}
	t.Logf("%d runs", runs)
}

// crashes runs into the crash, if there is one, and goes on.
func (r *tailRig) crashes(crasher *vfs.Crasher) bool {
	r.untilCrash()
	disk, crashed := crasher.Crashed()
	if !crashed {
		r.end(true)
		r.expectArchived(testStart, sweepEnd)
		return false
	}
	if err := r.stop(); err != nil && !errors.Is(err, vfs.ErrCrashed) {
		r.t.Errorf("%s: %v", r.what, err)
	}
	if r.writer != nil {
		r.writer.Close()
		r.writer = nil
	}
	if highest := r.highest; r.o.Acknowledge && highest > testStart {
		r.expectArchived(testStart, highest)
	}
	r.disk, r.fsys = disk, disk
	r.start()
	r.connect()
	r.send(sweepEnd, true)
	time.Sleep(time.Minute)
	r.end(true)
	r.expectArchived(testStart, sweepEnd)
	return true
}

func (r *tailRig) untilCrash() {
	defer func() {
		if err, ok := recover().(error); ok && !errors.Is(err, vfs.ErrCrashed) {
			panic(err)
		}
	}()
	r.start()
	r.connect()
	r.must(r.streamForSweep())
}
