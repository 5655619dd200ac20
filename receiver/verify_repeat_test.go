package receiver_test

import (
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/walrecv/walrecv/internal/fakepg"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/receiver"
	"github.com/walrecv/walrecv/segment"
)

// Damage in the first record of a stream is damage, not another branch, also in
// the pointer to the record before.
func TestDamageOnABorder(t *testing.T) {
	for what, offset := range map[string]uint64{"body": 30, "pointer": 8, "page header": 0} {
		var on atomic.Bool
		wrong := 3*mib + 40 + offset
		if offset == 0 {
			wrong = 3*mib + 16 // says that the page begins with the rest of a record
		}
		r := newRig(t, damagedAt(fakepg.Config{End: 3 * mib}, wrong, &on))
		r.fill(3 * mib)
		on.Store(true)
		r.server.SetEnd(5*mib + 100)
		r.start()
		r.flushed(1, 5*mib+100)
		r.verified(5 * mib)
		r.halt()
		if len(r.marks()) != 1 {
			t.Errorf("%s: marks %v", what, r.marks())
		}
		r.compare(1, mib, 5*mib+100)
	}
}

// What came damaged and could not be asked for again is marked at the end.
func TestDamageAtTheEnd(t *testing.T) {
	r := newRig(t, fakepg.Config{End: 3 * mib})
	r.server.Inject(2*mib-1000, fakepg.Alter(func(m *fakepg.Message) { m.Data[len(m.Data)/2] ^= 4 }))
	r.o.EndPos = 3*mib - 8
	r.start()
	must(t, r.wait())
	sound := strings.Contains(r.logs.String(), "came again, and is sound")
	if marks := r.marks(); r.recv.Progress().VerifyFailures != 1 || sound == (len(marks) == 1) {
		t.Errorf("marks %v, came again: %v", marks, sound)
	}
}

// sealingSink syncs after every message, and calls after then.
type sealingSink struct {
	receiver.Sink
	after func(end segment.LSN)
}

func (s sealingSink) Append(at segment.LSN, p []byte) error {
	err := s.Sink.Append(at, p)
	if err == nil {
		_, err = s.Sync()
		s.after(at + segment.LSN(len(p)))
	}
	return err
}

// A segment can be sealed before Append returns: whoever asks for its summary
// then has to wait for it.
func TestSummaryOfWhatWasJustSealed(t *testing.T) {
	r := newRig(t, fakepg.Config{End: 3*mib + 100})
	var once sync.Once
	known := make(chan bool, 1)
	r.wrap = func(s receiver.Sink) receiver.Sink {
		return sealingSink{s, func(end segment.LSN) {
			if end < 2*mib {
				return
			}
			once.Do(func() {
				asked := make(chan struct{})
				go func() {
					close(asked)
					_, ok := r.recv.Summary(t.Context(), name(mib))
					known <- ok
				}()
				<-asked
			})
		}}
	}
	r.start()
	r.flushed(1, 3*mib+100)
	if !<-known {
		t.Error("nobody waited for the summary")
	}
	r.halt()
}

// The gap of a timeline ends where the server left it.
func TestForkInsideAGap(t *testing.T) {
	r := newRig(t, fakepg.Config{End: 3*mib + 1000})
	r.fill(3*mib + 1000)
	r.server.SetEnd(9*mib + 500)
	r.server.SetBegin(9 * mib)
	r.o.AcceptGap = true
	r.fill(9*mib + 500)
	r.o.AcceptGap = false
	// A standby that lagged at 5 MiB was promoted.
	s := fakepg.New(fakepg.Config{Begin: 2 * mib, End: 5*mib + 104, Slots: map[string]fakepg.Slot{"archive": {RestartLSN: 3 * mib}}})
	t.Cleanup(s.Close)
	s.Promote(2, 5*mib+104)
	s.SetEnd(12*mib + 300)
	addr, err := s.Listen()
	must(t, err)
	r.server, r.addr = s, addr
	r.start()
	r.flushed(2, 12*mib+300)
	r.halt()
	r.compare(2, 6*mib, 12*mib+300)
}

// repeat streams two segments of which the first comes damaged, and holds the
// reading of them back until all has come and done has been called.
func repeat(t *testing.T, done func(r *rig)) *rig {
	t.Helper()
	r := newRig(t, fakepg.Config{End: 2 * mib})
	r.fill(2 * mib)
	gate := make(chan struct{})
	r.fsys = vfs.NewFault(r.fsys, func(op vfs.Op) error {
		if op.Kind == vfs.OpOpenRead && path.Base(op.Name) == name(mib).Format(mib) {
			<-gate
		}
		return nil
	})
	r.server.Inject(300_000, fakepg.Alter(func(m *fakepg.Message) { m.Data[len(m.Data)/2] ^= 4 }))
	r.server.SetEnd(4*mib + 100)
	r.start()
	r.flushed(1, 4*mib+100)
	done(r)
	close(gate)
	eventually(t, func() bool { return r.recv.Progress().VerifyFailures > 0 })
	r.server.SetEnd(5*mib + 100)
	r.flushed(1, 5*mib+100)
	r.verified(5 * mib)
	return r
}

// What the server has removed meanwhile cannot be asked for again: it is marked,
// and no gap.
func TestDamageThatCannotBeHadAgain(t *testing.T) {
	r := repeat(t, func(r *rig) { r.server.SetBegin(4 * mib) })
	r.halt()
	if len(r.marks()) != 1 || len(r.gaps()) != 0 {
		t.Errorf("marks %v, gaps %v", r.marks(), r.gaps())
	}
}

// Damage that is found after its connection has ended is asked for all the same.
func TestDamageFoundAfterTheConnection(t *testing.T) {
	r := repeat(t, func(r *rig) {
		n := r.server.Connections()
		r.server.CutAll()
		eventually(t, func() bool { return r.server.Connections() > n })
	})
	eventually(t, func() bool { return strings.Contains(r.logs.String(), "came again, and is sound") })
	r.halt()
	if len(r.marks()) != 0 {
		t.Errorf("marks %v", r.marks())
	}
	r.compare(1, mib, 5*mib+100)
}

// The Acknowledger hears of damage before what was asked for comes.
func TestDamageIsTold(t *testing.T) {
	r, e := newAcknowledged(t, fakepg.Config{End: 4*mib + 100})
	r.server.Inject(2*mib+100_000, fakepg.Alter(func(m *fakepg.Message) { m.Data[len(m.Data)/2] ^= 4 }))
	r.start()
	eventually(t, func() bool { streams, _, _ := e.state(); return streams == 2 })
	e.mu.Lock()
	if len(e.damaged) != 1 || e.damaged[0] != e.begun[1] || e.damaged[0].LSN != 3*mib {
		t.Errorf("damaged: %v, streams: %v", e.damaged, e.begun)
	}
	e.mu.Unlock()
	e.waitSynced(t, 4*mib+100)
	e.acknowledge(4*mib + 100)
	r.halt()
	r.sound()
}

// A segment that is damaged in several places is asked for once.
func TestSegmentDamagedTwice(t *testing.T) {
	var on atomic.Bool
	on.Store(true)
	c := damagedAt(fakepg.Config{End: 4*mib + 100}, 2*mib+400_000, &on)
	r := newRig(t, damagedAt(c, 2*mib+800_000, &on))
	r.start()
	r.flushed(1, 4*mib+100)
	r.verified(4 * mib)
	r.halt()
	if p := r.recv.Progress(); len(r.marks()) != 2 || p.Reconnects != 1 || p.VerifyFailures != 2 {
		t.Errorf("marks %v, %+v", r.marks(), p)
	}
}
