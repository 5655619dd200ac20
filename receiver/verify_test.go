package receiver_test

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/walrecv/walrecv/internal/fakepg"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/receiver"
	"github.com/walrecv/walrecv/segment"
)

// name is the segment that begins at a position of timeline 1.
func name(lsn segment.LSN) segment.Name {
	return segment.Name{Timeline: 1, Number: segment.Size(mib).Number(lsn)}
}

// verified waits until what was streamed before a position was read.
func (r *rig) verified(end segment.LSN) segment.Summary {
	r.t.Helper()
	sum, ok := r.recv.Summary(r.t.Context(), name(end-mib))
	if !ok {
		r.t.Fatalf("no summary of %v", name(end-mib))
	}
	return sum
}

func (r *rig) marks() []string {
	r.t.Helper()
	return slices.DeleteFunc(strings.Fields(r.spooled()), func(base string) bool { return !segment.IsMarkName(base) })
}

func TestSummaries(t *testing.T) {
	r := newRig(t, fakepg.Config{End: 4*mib + 100})
	r.start()
	r.flushed(1, 4*mib+100)
	for at := segment.LSN(mib); at < 4*mib; at += mib {
		sum := r.verified(at + mib)
		if !sum.Verified() || sum.Start != at || sum.End != at+mib || sum.First != at+40 {
			t.Errorf("%s: %+v", at, sum)
		}
	}
	if sum, ok := r.recv.Summary(t.Context(), name(4*mib)); ok {
		t.Errorf("a segment that is not complete: %+v", sum)
	}
	r.halt()
	if sum, ok := r.recv.Summary(t.Context(), name(9*mib)); ok {
		t.Errorf("a segment that never came: %+v", sum)
	}
}

// Damage on the way is noticed, and what comes again takes its place.
func TestDamageOnTheWay(t *testing.T) {
	for where, after := range map[string]uint64{"in the first segment": 300_000, "in a later one": 2*mib + 100_000} {
		r := newRig(t, fakepg.Config{End: 4*mib + 100})
		r.server.Inject(after, fakepg.Alter(func(m *fakepg.Message) { m.Data[len(m.Data)/2] ^= 4 }))
		r.start()
		r.flushed(1, 4*mib+100)
		if sum := r.verified(4 * mib); !sum.Verified() {
			t.Errorf("%s: %+v", where, sum)
		}
		eventually(t, func() bool { return strings.Contains(r.logs.String(), "came again, and is sound") })
		r.halt()
		r.compare(1, mib, 4*mib+100)
		r.sound()
		if p := r.recv.Progress(); p.VerifyFailures != 1 || p.Reconnects != 1 || len(r.marks()) != 0 {
			t.Errorf("%s: %+v, marks %v", where, p, r.marks())
		}
	}
}

// damagedAt is WAL with a wrong byte.
func damagedAt(c fakepg.Config, lsn uint64, on *atomic.Bool) fakepg.Config {
	sound := fakepg.New(c)
	c.WAL = func(timeline uint32, at uint64, p []byte) {
		sound.ReadWAL(timeline, at, p)
		if on.Load() && at <= lsn && lsn < at+uint64(len(p)) {
			p[lsn-at] ^= 4
		}
	}
	return c
}

// What the server itself has damaged is kept as it is, and marked.
func TestDamageOnTheServer(t *testing.T) {
	const wrong = 2*mib + 400_000
	var on atomic.Bool
	on.Store(true)
	r := newRig(t, damagedAt(fakepg.Config{End: 4*mib + 100}, wrong, &on))
	r.start()
	r.flushed(1, 4*mib+100)
	if sum := r.verified(3 * mib); sum.Verified() || sum.Faults != 1 {
		t.Errorf("%+v", sum)
	}
	if sum := r.verified(4 * mib); !sum.Verified() {
		t.Errorf("behind it: %+v", sum)
	}
	r.halt()
	r.compare(1, mib, 4*mib+100)
	r.sound()
	if p := r.recv.Progress(); p.VerifyFailures != 1 || p.Reconnects != 1 {
		t.Errorf("%+v", p)
	}
	marks := r.marks()
	if len(marks) != 1 {
		t.Fatalf("marks: %v", marks)
	}
	content, err := vfs.ReadFile(r.fsys, path.Join(spoolDir, marks[0]))
	must(t, err)
	m, err := segment.ParseMark(content, mib)
	if err != nil || m.Name != name(wrong) || m.LSN > wrong || m.LSN < wrong-64 || m.Reason == "" {
		t.Errorf("%+v, %v", m, err)
	}
}

// A server that was put back to an older state and has grown past our end, just
// where a segment ends.
func TestServerPutBackOnABorder(t *testing.T) {
	var back atomic.Bool
	c := fakepg.Config{End: 3 * mib}
	sound := fakepg.New(c)
	c.WAL = func(timeline uint32, at uint64, p []byte) {
		sound.ReadWAL(timeline, at, p)
		const first = 3*mib + 40 // the record there points back to another one
		if !back.Load() || at > first || at+uint64(len(p)) < first+64 {
			return
		}
		record := p[first-at:][:64]
		table := crc32.MakeTable(crc32.Castagnoli)
		binary.LittleEndian.PutUint64(record[8:], 3*mib-128)
		binary.LittleEndian.PutUint32(record[20:], crc32.Update(crc32.Checksum(record[24:], table), table, record[:20]))
	}
	r := newRig(t, c)
	r.fill(3 * mib)
	back.Store(true)
	r.server.SetEnd(4*mib + 100)
	r.start()
	if err := r.wait(); !errors.Is(err, segment.ErrBranch) {
		t.Errorf("%v", err)
	}
	if len(r.marks()) != 1 {
		t.Errorf("marks: %v", r.marks())
	}
	r.o.AcceptBranch = true
	r.fill(4*mib + 100)
}

func (r *rig) gaps() []segment.Gap {
	r.t.Helper()
	spool, err := segment.OpenSpool(r.fsys, spoolDir, nil, segment.SpoolOptions{})
	must(r.t, err)
	defer spool.Close()
	must(r.t, spool.Identify(segment.Cluster{Identity: segment.Identity{SystemID: 17123456789012345678, Size: mib}, Major: 15}))
	held, err := spool.Held()
	must(r.t, err)
	return held.Gaps
}

// An accepted gap is as small as it can be, and is remembered.
func TestAcceptsAGap(t *testing.T) {
	for begin := uint64(4 * mib); begin <= 9*mib; begin += mib {
		r := newRig(t, fakepg.Config{End: 3*mib + 1000})
		r.fill(3*mib + 1000)
		r.server.SetEnd(9*mib + 500)
		r.server.SetBegin(begin)
		r.o.AcceptGap = true
		r.fill(9*mib + 500)
		gaps := r.gaps()
		if len(gaps) != 1 || gaps[0].Timeline != 1 || gaps[0].From != 3*mib || uint64(gaps[0].To) != begin || gaps[0].Reason == "" {
			t.Fatalf("begin %s: %+v", segment.LSN(begin), gaps)
		}
		r.compare(1, segment.LSN(begin), 9*mib+500)
		r.o.AcceptGap = false // what was accepted stays so
		r.server.SetEnd(10 * mib)
		r.fill(10 * mib)
		if again := r.gaps(); !slices.Equal(again, gaps) {
			t.Errorf("%+v", again)
		}
		r.sound()
	}
}

// The reasons of gaps are told apart.
func TestReasonsOfGaps(t *testing.T) {
	for want, tc := range map[string]struct {
		slot   *fakepg.Slot
		none   bool
		ensure bool
	}{
		"without a replication slot nothing holds it back": {none: true},
		"begins at 0/800000, behind what is held":          {slot: &fakepg.Slot{RestartLSN: 8 * mib}},
		"holds nothing back":                               {slot: &fakepg.Slot{}},
		"in spite of the replication slot":                 {slot: &fakepg.Slot{RestartLSN: 3 * mib}},
		"did not exist on this server until now":           {ensure: true},
		"does not exist on this server":                    {},
	} {
		r := newRig(t, fakepg.Config{End: 3 * mib, Slots: map[string]fakepg.Slot{"s": {RestartLSN: mib}}})
		r.o.Slot = "s"
		r.fill(3 * mib)
		r.server.SetEnd(9 * mib)
		r.server.SetBegin(5 * mib)
		switch {
		case tc.none:
			r.o.Slot = ""
		case tc.slot != nil:
			r.server.SetSlot("s", *tc.slot)
		default:
			r.o.Slot, r.o.EnsureSlot = "other", tc.ensure
		}
		r.start()
		var gap *receiver.GapError
		if err := r.wait(); !errors.As(err, &gap) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestProgress(t *testing.T) {
	r := newRig(t, fakepg.Config{End: 2*mib + 100})
	r.start()
	r.flushed(1, 2*mib+100)
	p := r.recv.Progress()
	if !p.Streaming || p.Waiting != "" || p.Timeline != 1 || p.Written != 2*mib+100 || p.Flushed != p.Written ||
		p.Received != p.Written || p.Server != p.Written || p.Bytes != mib+100 || p.Reconnects != 0 || p.LastMessage.IsZero() {
		t.Errorf("%+v", p)
	}
	r.server.Inject(0, fakepg.Cut())
	r.server.SetEnd(3 * mib)
	r.flushed(1, 3*mib)
	eventually(t, func() bool { return r.recv.Progress().Reconnects == 1 })
	r.halt()
	if p := r.recv.Progress(); p.Streaming || p.Flushed != 3*mib {
		t.Errorf("stopped: %+v", p)
	}
}
