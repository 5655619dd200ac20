package receiver_test

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/fakepg"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/receiver"
	"github.com/walrecv/walrecv/segment"
)

// fill runs a receiver up to a position, and stops it.
func (r *rig) fill(lsn uint64) {
	r.t.Helper()
	r.start()
	r.flushed(r.server.Timeline(), lsn)
	r.halt()
}

func TestRefusesAGap(t *testing.T) {
	r := newRig(t, fakepg.Config{End: 3 * mib})
	r.fill(3 * mib)
	r.server.SetEnd(9 * mib)
	r.server.SetBegin(5 * mib)
	r.start()
	var gap *receiver.GapError
	if err := r.wait(); !errors.As(err, &gap) || gap.At != (segment.Position{Timeline: 1, LSN: 3 * mib}) {
		t.Errorf("WAL was removed: %v", err)
	}
	if got := r.spooled(); strings.Contains(got, "000000010000000000000005") {
		t.Errorf("streamed across the gap: %s", got)
	}
}

// While an archive does not answer, it may have what the server no longer has.
func TestGapIsNotDeclaredUnsure(t *testing.T) {
	r := newRig(t, fakepg.Config{End: 3 * mib})
	r.fill(3 * mib)
	r.server.SetEnd(9 * mib)
	r.server.SetBegin(5 * mib)
	r.unsure.Store(true)
	r.start()
	eventually(t, func() bool { return strings.Contains(r.logs.String(), "the archive does not answer") })
	r.unsure.Store(false)
	var gap *receiver.GapError
	if err := r.wait(); !errors.As(err, &gap) {
		t.Errorf("once it answers: %v", err)
	}
}

func TestSlots(t *testing.T) {
	reserved := map[string]fakepg.Slot{"s": {RestartLSN: 2*mib + 500}}
	t.Run("an empty spool starts at the slot", func(t *testing.T) {
		r := newRig(t, fakepg.Config{End: 4*mib + 10, Slots: reserved})
		r.o.Slot = "s"
		r.fill(4*mib + 10)
		r.compare(1, 2*mib, 4*mib+10)
		if s, _ := r.server.Slot("s"); s.RestartLSN != 4*mib+10 {
			t.Errorf("the slot is at %s", segment.LSN(s.RestartLSN))
		}
	})
	t.Run("a spool with WAL starts after it", func(t *testing.T) {
		r := newRig(t, fakepg.Config{End: 2*mib + 10, Slots: map[string]fakepg.Slot{"s": {RestartLSN: mib}}})
		r.o.Slot = "s"
		r.fill(2*mib + 10)
		r.server.SetEnd(5 * mib)
		r.server.SetSlot("s", fakepg.Slot{RestartLSN: 4 * mib})
		r.fill(5 * mib)
		r.compare(1, mib, 5*mib)
	})
	t.Run("missing", func(t *testing.T) {
		r := newRig(t, fakepg.Config{End: 2 * mib})
		r.o.Slot = "other"
		r.start()
		var gap *receiver.GapError
		if err := r.wait(); !errors.Is(err, receiver.ErrSlotMissing) || errors.As(err, &gap) {
			t.Errorf("with nothing held: %v", err)
		}
	})
	t.Run("missing, with WAL held", func(t *testing.T) {
		r := newRig(t, fakepg.Config{End: 2 * mib})
		r.fill(2 * mib)
		r.o.Slot = "other"
		r.start()
		var gap *receiver.GapError
		if err := r.wait(); !errors.As(err, &gap) {
			t.Errorf("with WAL held: %v", err)
		}
	})
	t.Run("created", func(t *testing.T) {
		r := newRig(t, fakepg.Config{End: 2*mib + 5})
		r.o.Slot, r.o.EnsureSlot = "new", true
		r.fill(2*mib + 5)
		if _, there := r.server.Slot("new"); !there {
			t.Error("the slot was not created")
		}
		r.fill(2*mib + 5) // and found the next time
	})
}

// Before 15 a walsender does not tell about slots, and an ordinary connection is
// not always to be had: fakepg has none.
func TestSlotsOfOldServers(t *testing.T) {
	r := newRig(t, fakepg.Config{Version: "14.9", End: 2*mib + 5})
	r.o.Slot = "new"
	r.start()
	var gap *receiver.GapError
	if err := r.wait(); !errors.Is(err, receiver.ErrSlotMissing) || errors.As(err, &gap) {
		t.Errorf("missing, with nothing held: %v", err)
	}
	if !strings.Contains(r.logs.String(), "where the replication slot begins is not known") {
		t.Error("no warning about the unknown position")
	}
	r.o.EnsureSlot = true
	r.fill(2*mib + 5)
	r.fill(2*mib + 5) // and it is found the next time
	r.o.Slot, r.o.EnsureSlot = "other", false
	r.start()
	if err := r.wait(); !errors.As(err, &gap) {
		t.Errorf("missing, with WAL held: %v", err)
	}
}

func TestRefusesAnotherServer(t *testing.T) {
	r := newRig(t, fakepg.Config{End: 4*mib + 100})
	r.fill(4*mib + 100)
	for name, tc := range map[string]struct {
		config fakepg.Config
		want   error
	}{
		"another cluster": {fakepg.Config{SystemID: 4711, End: 4*mib + 100}, segment.ErrWrongCluster},
		"another segment size": {
			fakepg.Config{SegmentSize: 2 * mib, End: 4*mib + 100}, segment.ErrWrongCluster,
		},
		"an earlier state of the same cluster": {fakepg.Config{End: 4*mib + 50}, segment.ErrBranch},
	} {
		t.Run(name, func(t *testing.T) {
			tc.config.Slots = map[string]fakepg.Slot{"archive": {RestartLSN: 2 * mib}}
			s := fakepg.New(tc.config)
			defer s.Close()
			addr, err := s.Listen()
			must(t, err)
			own := r.addr
			r.addr = addr
			defer func() { r.addr = own }()
			r.start()
			if err := r.wait(); !errors.Is(err, tc.want) {
				t.Errorf("%v, want %v", err, tc.want)
			}
		})
	}
}

// A standby that lags behind what is held is waited for, without another look at
// all that is held for each try.
func TestWaitsForALaggingStandby(t *testing.T) {
	r := newRig(t, fakepg.Config{End: 4*mib + 100})
	r.fill(4*mib + 100)
	s := fakepg.New(fakepg.Config{Standby: true, End: 3 * mib, Slots: map[string]fakepg.Slot{"archive": {RestartLSN: 2 * mib}}})
	t.Cleanup(s.Close)
	addr, err := s.Listen()
	must(t, err)
	r.server, r.addr = s, addr
	before := r.looks.Load()
	r.start()
	const waits = "the standby is at 0/300000 on timeline 1, and WAL up to 0/400064 on timeline 1 is held already: waiting for the standby to follow"
	eventually(t, func() bool { return strings.Count(r.logs.String(), waits) > 3 })
	if n := r.looks.Load() - before; n != 1 {
		t.Errorf("%d looks at what is held while the standby lags", n)
	}
	s.SetEnd(4*mib + 2000)
	r.flushed(1, 4*mib+2000)
	r.halt()
	if n := r.looks.Load() - before; n != 2 {
		t.Errorf("%d looks at what is held, want one more before it streams", n)
	}
	r.compare(1, mib, 4*mib+2000)
}

func eventually(t *testing.T, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it never came to that")
		}
	}
}

// With a full disk nothing is acknowledged that is not synced, and it goes on
// when there is room.
func TestDiskFull(t *testing.T) {
	r := newRig(t, fakepg.Config{End: 5*mib + 100})
	disk := r.fsys.(*vfs.Mem)
	disk.SetCapacity(2*mib + mib/2)
	r.start()
	eventually(t, func() bool { return strings.Contains(r.logs.String(), syscall.ENOSPC.Error()) })
	if n := strings.Count(r.logs.String(), "level=WARN"); n > 3 {
		t.Errorf("%d warnings about one full disk", n)
	}
	for _, s := range r.server.Statuses() {
		if s.Flush > 3*mib {
			t.Fatalf("acknowledged without a place on disk: %+v", s)
		}
	}
	disk.SetCapacity(0)
	r.flushed(1, 5*mib+100)
	r.halt()
	r.compare(1, mib, 5*mib+100)
	r.sound()
}

// After a failed sync nothing is acknowledged, and the receiver ends.
func TestFailedSync(t *testing.T) {
	r := newRig(t, fakepg.Config{End: 3*mib + 100})
	var broken atomic.Bool
	r.fsys = vfs.NewFault(r.fsys, func(op vfs.Op) error {
		if broken.Load() && op.Kind == vfs.OpSync {
			return fmt.Errorf("I/O error")
		}
		return nil
	})
	r.start()
	r.flushed(1, 3*mib+100)
	broken.Store(true)
	end := r.server.Append(2 * mib)
	if err := r.wait(); !errors.Is(err, segment.ErrPoisoned) {
		t.Errorf("Run = %v", err)
	}
	for _, s := range r.server.Statuses() {
		if s.Flush > 3*mib+100 {
			t.Errorf("acknowledged %+v of %d after a failed sync", s, end)
		}
	}
}

func TestEndPos(t *testing.T) {
	r := newRig(t, fakepg.Config{End: 5 * mib})
	r.o.EndPos = 3*mib + 5
	r.start()
	must(t, r.wait())
	r.compare(1, mib, 3*mib+5)
	last := r.server.Statuses()[len(r.server.Statuses())-1]
	if last.Flush <= 3*mib+5 || last.Flush != last.Write {
		t.Errorf("last status: %+v", last)
	}
}

// At the end position itself there may be more to come, as for pg_receivewal.
func TestEndPosWaitsForMore(t *testing.T) {
	r := newRig(t, fakepg.Config{End: 3*mib + 5})
	r.o.EndPos = 3*mib + 5
	r.start()
	r.flushed(1, 3*mib+5)
	select {
	case err := <-r.done:
		t.Fatalf("ended early: %v", err)
	default:
	}
	r.server.Append(1)
	must(t, r.wait())
}

func TestNoLoop(t *testing.T) {
	r := newRig(t, fakepg.Config{End: 2 * mib})
	r.server.Inject(mib/2, fakepg.Cut())
	r.o.NoLoop = true
	r.start()
	if err := r.wait(); err == nil {
		t.Error("a disconnect ended without an error")
	}
	if n := len(r.server.Startups()); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// Between the server's word for its end and the look at what is held, both go
// on: another receiver may just have archived what came in between.
func TestEndIsAskedForAgain(t *testing.T) {
	r := newRig(t, fakepg.Config{End: 4*mib + 100})
	r.fill(4*mib + 100)
	var s *fakepg.Server
	asked := 0
	s = fakepg.New(fakepg.Config{
		End: 3 * mib, Slots: map[string]fakepg.Slot{"archive": {RestartLSN: 2 * mib}},
		Command: func(_ *fakepg.Conn, command string) (bool, error) {
			if command == "IDENTIFY_SYSTEM" {
				if asked++; asked == 2 {
					s.SetEnd(4*mib + 2000)
				}
			}
			return false, nil
		},
	})
	t.Cleanup(s.Close)
	addr, err := s.Listen()
	must(t, err)
	r.server, r.addr = s, addr
	r.start()
	r.flushed(1, 4*mib+2000)
	r.halt()
	r.compare(1, mib, 4*mib+2000)
}

// An old primary that came back by itself is met before the new one, and is left
// alone; with no other host there is nothing to wait for.
func TestStalePrimaryAmongSeveralHosts(t *testing.T) {
	r := newRig(t, fakepg.Config{End: 3*mib + 104})
	r.fill(3*mib + 104)
	r.server.Promote(2, 3*mib+104)
	r.server.SetEnd(4*mib + 500)
	r.fill(4*mib + 500)
	stale := fakepg.New(fakepg.Config{End: 4 * mib, Slots: map[string]fakepg.Slot{"archive": {RestartLSN: mib}}})
	t.Cleanup(stale.Close)
	addr, err := stale.Listen()
	must(t, err)
	r.addr, r.others = addr, []string{r.addr}
	r.server.SetEnd(5*mib + 500)
	r.start()
	r.flushed(2, 5*mib+500)
	if !strings.Contains(r.logs.String(), "passed over a server") {
		t.Error("nothing is said of the stale primary")
	}
	r.server.Inject(0, fakepg.Cut())
	r.server.SetEnd(6*mib + 500)
	r.flushed(2, 6*mib+500)
	r.halt()
	if n := len(stale.Statuses()); n != 0 {
		t.Errorf("it was streamed from: %d reports", n)
	}
	r.others = nil
	r.start()
	if err := r.wait(); !errors.Is(err, segment.ErrBranch) {
		t.Errorf("with no other host: %v", err)
	}
	r.others = []string{addr}
	r.start()
	if err := r.wait(); !errors.Is(err, segment.ErrBranch) {
		t.Errorf("with none that would do: %v", err)
	}
}

// A server that was set back is refused whoever else is in the list, and cannot be
// reached.
func TestSetBackAmongSeveralHosts(t *testing.T) {
	r := newRig(t, fakepg.Config{End: 5*mib + 104})
	r.start()
	r.flushed(1, 5*mib+104)
	r.halt()
	setBack := fakepg.New(fakepg.Config{End: 4 * mib, Slots: map[string]fakepg.Slot{"archive": {RestartLSN: mib}}})
	t.Cleanup(setBack.Close)
	addr, err := setBack.Listen()
	must(t, err)
	r.server.Close()
	r.addr, r.others = addr, []string{r.addr}
	r.start()
	if err := r.wait(); !errors.Is(err, segment.ErrBranch) {
		t.Errorf("%v", err)
	}
}
