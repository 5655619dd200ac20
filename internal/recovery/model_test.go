package recovery_test

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/backup"
	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/internal/recovery"
	"github.com/walrecv/walrecv/segment"
)

// model is a cluster with its archive, and what a recovery from it does.
type model struct {
	*world
	rng  *rand.Rand
	logs []*wal                     // by timeline, 1 first
	ends map[segment.TimelineID]end // of recoveries to a timeline

	unsure bool // what expect has found depends on more than this model knows
}

// end is how far the archive has the WAL on the way to a timeline.
type end struct {
	at    segment.LSN
	holes []uint64 // numbers of segments that are missing or broken before it
}

const firstNumber = 5

// newModel makes a cluster with up to three timelines, of which each is the newest
// one's child, and an archive that lacks this and that.
func newModel(t *testing.T, seed uint64) *model {
	m := &model{world: newWorld(t), rng: rand.New(rand.NewPCG(seed, 1)), ends: map[segment.TimelineID]end{}}
	log := newWAL(mib.Start(firstNumber))
	seconds := 0.0
	for timeline := segment.TimelineID(1); ; timeline++ {
		m.write(log, &seconds)
		m.logs = append(m.logs, log)
		if timeline == 3 || m.rng.IntN(3) == 0 {
			break
		}
		fork := *log // the parent may go on by itself
		if m.rng.IntN(2) == 0 {
			other := seconds
			m.write(log, &other)
		}
		log = fork.fork(timeline + 1)
	}
	for i := range m.logs {
		m.put(i)
	}
	m.takeBackups()
	return m
}

// write has the server work for a while. Transactions may end in another order than
// their times say.
func (m *model) write(log *wal, seconds *float64) {
	for n := 20 + m.rng.IntN(30); n > 0; n-- {
		*seconds += m.rng.Float64()
		at := clock(*seconds - m.rng.Float64()*float64(m.rng.IntN(2))).Round(time.Microsecond)
		switch kind := m.rng.IntN(20); {
		case kind < 8:
			log.filler(m.rng.IntN(200_000))
		case kind < 9:
			log.filler(m.rng.IntN(20))
		case kind < 12:
			log.point(fmt.Sprint("point ", m.rng.IntN(30)), at)
		default:
			xid := uint32(1000 + len(log.entries))
			log.finish(xid, at, []byte{0, 0, 0, 0x20, 0x30, 0x40}[m.rng.IntN(6)])
		}
	}
}

// put archives one timeline, with what may go wrong.
func (m *model) put(i int) {
	log := m.logs[i]
	first := uint64(firstNumber)
	e := end{}
	if i > 0 {
		m.history(log)
		parent := m.logs[i-1]
		fork := m.fork(i)
		first = mib.Number(fork)
		// What the parent has in front of the fork.
		e.holes = slices.DeleteFunc(slices.Clone(m.ends[parent.timeline].holes), func(n uint64) bool { return n >= first })
	}
	last := mib.Number(log.pos()) // not complete
	m.segments(log, first, last-1)
	for n := first; n < last; n++ {
		name := segment.Name{Timeline: log.timeline, Number: n}
		if i+1 < len(m.logs) && n == mib.Number(m.fork(i+1)) {
			continue // the child may depend on it up to the fork
		}
		switch m.rng.IntN(24) {
		case 0:
			m.lose(name)
			e.holes = append(e.holes, n)
		case 1:
			m.store.Set(m.key(segmentKey(name)), []byte("junk"))
			e.holes = append(e.holes, n)
		case 2, 3:
			m.forget(log, n)
		}
	}
	e.at = mib.Start(last)
	if i+1 < len(m.logs) {
		m.partial(log)
		e.at = log.pos()
	} else if m.rng.IntN(4) > 0 {
		e.at = max(mib.Start(last)+1, log.pos()-segment.LSN(m.rng.IntN(20_000)))
		if i > 0 {
			e.at = max(e.at, m.fork(i)) // a receiver takes it up there at the earliest
		}
		m.tail(log, e.at)
	} else if i > 0 {
		e.at = max(e.at, m.fork(i)) // of the parent's partial
	}
	m.ends[log.timeline] = e
}

// fork is where the timeline with an index left its parent.
func (m *model) fork(i int) segment.LSN {
	h, err := segment.ParseHistory(m.logs[i].timeline, []byte(m.logs[i].history))
	if err != nil {
		m.t.Fatal(err)
	}
	return h.Entries[len(h.Entries)-1].End
}

// takeBackups takes some, oldest first.
func (m *model) takeBackups() {
	for i := range m.logs {
		log := m.logs[i]
		from := 0
		if i > 0 {
			from = slices.IndexFunc(log.entries, func(e entry) bool { return e.at >= m.fork(i) })
		}
		for n := m.rng.IntN(3); n > 0 && from < len(log.entries)-1; n-- {
			a := from + m.rng.IntN(len(log.entries)-from-1)
			b := min(a+1+m.rng.IntN(8), len(log.entries)-1)
			finished := log.entries[0].time
			for _, e := range log.entries[:b] {
				if e.time.After(finished) {
					finished = e.time
				}
			}
			m.backup(fmt.Sprint("backup-", len(m.backups)), log, log.entries[a].at, log.entries[b].at, finished)
			from = b
		}
	}
}

// outcome is how a recovery ends.
type outcome struct {
	id   string
	stop segment.LSN // 0: at the end of the WAL
}

// expect says what PostgreSQL does with the newest backup with which it gets to the
// target; false if there is none.
func (m *model) expect(target recovery.Target) (outcome, bool) {
	m.unsure = false
	for _, e := range slices.Backward(m.backups) {
		t := segment.TimelineID(target.Timeline)
		switch target.Timeline {
		case recovery.LatestTimeline:
			t = m.logs[len(m.logs)-1].timeline
		case recovery.CurrentTimeline:
			t = e.Timeline
		}
		if int(t) > len(m.logs) {
			continue
		}
		if stop, ok := m.recover(e.Backup, t, target); ok {
			return outcome{e.ID, stop}, true
		}
	}
	return outcome{}, false
}

// recover replays the WAL of a timeline from a backup on.
func (m *model) recover(b *backup.Backup, t segment.TimelineID, target recovery.Target) (stop segment.LSN, ok bool) {
	for i := int(b.Timeline); i < int(t); i++ {
		if m.fork(i) < b.EndLSN {
			return 0, false
		}
	}
	if b.Timeline > t {
		return 0, false
	}
	until, whole := m.ends[t].at, true
	for _, n := range slices.Backward(m.ends[t].holes) {
		if n >= mib.Number(b.StartLSN) {
			until, whole = mib.Start(n), false
		}
	}
	switch {
	case until < b.EndLSN:
		return 0, false
	case target.Kind == recovery.Latest:
		return 0, whole
	case target.Kind == recovery.Immediate:
		return b.EndLSN, true
	}
	m.unsure = m.unsure || target.Kind == recovery.Time && !slices.ContainsFunc(m.logs[t-1].entries, func(e entry) bool {
		return e.ends && e.at >= mib.Floor(b.StartLSN) && e.at < b.EndLSN
	})
	for _, e := range m.logs[t-1].entries {
		if target.Kind == recovery.Time && e.ends && e.time.After(target.Time) && e.at >= mib.Floor(b.StartLSN) && e.at < b.StartLSN {
			return 0, false // it would be there, though it ended later
		}
		if e.at < b.StartLSN || e.end > until {
			continue
		}
		switch {
		case target.Kind == recovery.Time && e.ends && e.time.After(target.Time):
			return e.at, e.at >= b.EndLSN
		case target.Kind == recovery.LSN && e.at >= target.LSN,
			target.Kind == recovery.XID && e.ends && e.xid == target.XID,
			target.Kind == recovery.Name && e.name == target.Name:
			return e.end, max(target.LSN, e.end) > b.EndLSN && (target.Kind != recovery.LSN || target.LSN >= b.EndLSN)
		}
	}
	return 0, false
}

// random is a target near something that is in the logs.
func (m *model) random() recovery.Target {
	log := m.logs[m.rng.IntN(len(m.logs))]
	e := log.entries[m.rng.IntN(len(log.entries))]
	target := recovery.Target{Kind: recovery.TargetKind(m.rng.IntN(6))}
	for range 100 { // there may be no restore point at all
		if (target.Kind != recovery.XID || e.xid != 0) && (target.Kind != recovery.Name || e.name != "") {
			break
		}
		e = log.entries[m.rng.IntN(len(log.entries))]
	}
	target.Timeline = recovery.Timeline(m.rng.IntN(len(m.logs)+3) - 1)
	switch target.Kind {
	case recovery.Time:
		target.Time = e.time
		if e.time.IsZero() {
			target.Time = clock(float64(m.rng.IntN(60)))
		}
		target.Time = target.Time.Add(time.Duration(m.rng.IntN(3)-1) * time.Microsecond)
	case recovery.LSN:
		target.LSN = e.at + segment.LSN(8*(m.rng.IntN(3)-1))
	case recovery.XID:
		target.XID = e.xid + uint32(m.rng.IntN(10)/9)
	case recovery.Name:
		target.Name = cmp.Or(e.name, "none")
	}
	return target
}

// TestChooseLikePostgreSQL compares plans with what a replay would come to.
func TestChooseLikePostgreSQL(t *testing.T) {
	seeds, targets := uint64(4), 80
	if pgtest.Long() {
		seeds, targets = 60, 150
	}
	reached := map[recovery.TargetKind]int{}
	refused := map[recovery.TargetKind]int{}
	for seed := range seeds {
		m := newModel(t, seed)
		s := m.survey()
		for range targets {
			target := m.random()
			want, ok := m.expect(target)
			if m.unsure {
				continue
			}
			plan, err := s.Choose(t.Context(), m.backups, target, "")
			if complaint := differs(plan, err, want, ok); complaint != "" {
				t.Fatalf("seed %d: %s on %s: %s", seed, target, target.Timeline, complaint)
			}
			if ok {
				reached[target.Kind]++
			} else {
				refused[target.Kind]++
			}
		}
		m.checkWindows(s)
	}
	for kind := recovery.Latest; kind <= recovery.Name; kind++ {
		if reached[kind] < 3 || refused[kind] < 3 {
			t.Errorf("kind %d: %d reached, %d refused: that proves little", kind, reached[kind], refused[kind])
		}
	}
}

// differs says how a plan is not what it should be.
func differs(plan *recovery.Plan, err error, want outcome, ok bool) string {
	var unreachable *recovery.UnreachableError
	switch {
	case err != nil && !errors.As(err, &unreachable):
		return err.Error()
	case ok && err != nil:
		return fmt.Sprintf("%v; want %+v", err, want)
	case !ok && err == nil:
		return fmt.Sprintf("%s up to %s, where no recovery ends", plan.Backup.ID, plan.Stop)
	case !ok:
		return ""
	}
	unknown := plan.Stop == 0 && plan.Target.Kind == recovery.Time
	if plan.Backup.ID != want.id || plan.Stop != want.stop && !unknown {
		return fmt.Sprintf("%s up to %s; want %+v", plan.Backup.ID, plan.Stop, want)
	}
	return ""
}

// checkWindows tries points in all windows, which must be right, and the ends of each.
func (m *model) checkWindows(s *recovery.Survey) {
	m.t.Helper()
	for _, w := range s.Windows(m.backups) {
		timeline := recovery.Timeline(w.Timeline)
		targets := []recovery.Target{{Kind: recovery.Immediate, Timeline: timeline}}
		for range 4 {
			if target, ok := w.Random(m.rng); ok {
				targets = append(targets, target)
			}
		}
		if w.EndTime.After(w.StartTime.Add(time.Second)) {
			targets = append(targets,
				recovery.Target{Kind: recovery.Time, Time: w.StartTime.Add(time.Second), Timeline: timeline},
				recovery.Target{Kind: recovery.Time, Time: w.EndTime.Add(-time.Microsecond), Timeline: timeline})
		}
		for _, target := range targets {
			if _, ok := m.expect(target); !ok && !m.unsure {
				m.t.Errorf("%s does not exist in the window %s of %v", target, w, w.Backups)
			}
		}
	}
}
