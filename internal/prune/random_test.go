package prune_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/backup"
	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/internal/prune"
	"github.com/walrecv/walrecv/internal/recovery"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/storagetest"
)

// branch is a timeline of a random world: complete segments, and the log that led there.
type branch struct {
	id          segment.TimelineID
	history     segment.History
	fork        segment.LSN // 0: it has no parent
	first, last uint64
}

// randomWorld makes an archive with some timelines, of which some were left behind, with
// base backups in any state on any of them.
func randomWorld(t testing.TB, rng *rand.Rand) *world {
	w := newWorld(t)
	first := 1 + rng.Uint64N(20)
	branches := []branch{{id: 1, history: segment.History{Timeline: 1}, first: first, last: first + 5 + rng.Uint64N(25)}}
	for id := segment.TimelineID(2); id <= segment.TimelineID(1+rng.IntN(4)); id++ {
		branches = append(branches, w.fork(rng, id, branches))
	}
	for _, b := range branches {
		w.segments(b.id, b.first, b.last)
		for n := b.first; n <= b.last; n++ {
			if rng.IntN(5) == 0 {
				w.others(b.id, n)
			}
		}
		if rng.IntN(15) == 0 {
			w.remove(segmentKey(b.id, b.first+rng.Uint64N(b.last-b.first+1)))
		}
	}
	newest := branches[len(branches)-1]
	w.chunk(newest.id, newest.last+1, 1+rng.Int64N(int64(size)))
	for i := range rng.IntN(8) {
		w.randomBackup(rng, fmt.Sprintf("b%d", i), branches[rng.IntN(len(branches))])
	}
	return w
}

func (w *world) remove(key string) {
	w.t.Helper()
	if err := w.store.Delete(w.t.Context(), key); err != nil {
		w.t.Fatal(err)
	}
}

// fork lets a timeline leave another, mostly the newest one.
func (w *world) fork(rng *rand.Rand, id segment.TimelineID, branches []branch) branch {
	parent := &branches[len(branches)-1]
	left := rng.IntN(3) == 0 // its server went on
	if rng.IntN(4) == 0 {
		parent, left = &branches[rng.IntN(len(branches))], true
	}
	number := parent.first + rng.Uint64N(parent.last-parent.first+2)
	fork := max(size.Start(number)+segment.LSN(rng.Uint64N(2)*rng.Uint64N(uint64(size))&^7), parent.fork+8)
	number = size.Number(fork)
	h := segment.History{Timeline: id, Entries: append(slices.Clone(parent.history.Entries), segment.HistoryEntry{Timeline: parent.id, End: fork})}
	text := ""
	for _, e := range h.Entries {
		text += fmt.Sprintf("%d\t%s\tx\n", uint32(e.Timeline), e.End)
	}
	w.history(id, text)
	if !left && number > parent.first {
		parent.last = number - 1
		if size.Offset(fork) > 0 {
			w.partial(parent.id, number)
		}
	}
	return branch{id: id, history: h, fork: fork, first: number, last: number + rng.Uint64N(20)}
}

// randomBackup makes a base backup of a timeline. Later ones lie mostly further on.
func (w *world) randomBackup(rng *rand.Rand, id string, b branch) {
	from := max(b.fork, size.Start(b.first))
	start := from + segment.LSN(rng.Uint64N(uint64(size.Start(b.last)+mib-from)))
	when := ago(200 - 3*float64(size.Number(start)) - rng.Float64()*3)
	if rng.IntN(10) == 0 {
		when = ago(rng.Float64()*300 - 50) // a clock that is wrong
	}
	switch rng.IntN(8) {
	case 0:
		w.begin(id, b.id, start, when)
	case 1:
		w.begin(id, b.id, start, when)
		w.store.Set(key("backup", id, "backup.json"), []byte("x"))
	default:
		w.backup(id, b.id, start, start+1+segment.LSN(rng.Uint64N(uint64(2*mib))), when)
	}
}

func randomRule(rng *rand.Rand) (r prune.Rule) {
	switch rng.IntN(4) {
	case 0:
		r.Before = segment.LSN(1 + rng.Uint64N(uint64(60*mib)))
	case 1:
		r.Keep = 1 + rng.IntN(4)
	case 2:
		r.Keep = 1 + rng.IntN(4)
		fallthrough
	default:
		r.Window = time.Duration(1+rng.IntN(200)) * time.Hour
	}
	return r
}

// state is what an archive is good for.
type state struct {
	keys   []string
	look   archive.Look
	good   map[string]*backup.Backup // that can be restored
	holds  []segment.LSN             // starts of those that are being taken
	resume segment.Position
}

func (w *world) state() state {
	w.t.Helper()
	s := state{keys: w.store.Keys(), look: w.look(), good: map[string]*backup.Backup{}}
	entries, err := backup.List(w.t.Context(), w.open(w.store), now)
	if err != nil {
		w.t.Fatal(err)
	}
	survey, err := recovery.Look(w.t.Context(), w.open(w.store), func(context.Context) error { return nil })
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range entries {
		switch {
		case e.State == backup.Running:
			s.holds = append(s.holds, e.StartLSN)
		case e.Backup != nil && canStart(survey, entries, e.ID):
			s.good[e.ID] = e.Backup
		}
	}
	held := segment.NewHeld()
	for n := range s.look.Listing.Segments() {
		held.AddArchived(n, size)
	}
	for _, t := range s.look.Listing.Timelines() {
		for _, n := range s.look.Listing.Tails(t) {
			held.AddPartial(segment.Partial{Name: n, End: n.End(size)})
		}
		if s.look.Listing.HasHistory(t) {
			held.AddHistory(t)
		}
	}
	history := s.look.Chain.Current().History
	s.resume, _ = segment.Resume(history, size, held)
	if err := segment.CheckBranch(history, size, held); err != nil {
		w.t.Errorf("the server would be refused: %v", err)
	}
	return s
}

// canStart tells whether a recovery can begin with a backup, on some timeline.
func canStart(s *recovery.Survey, entries []backup.Entry, id string) bool {
	for _, w := range s.Windows(entries) {
		if slices.Contains(w.Backups, id) {
			return true
		}
	}
	return false
}

// reaches tells whether a recovery gets to a moment of the newest timeline's past.
func (s state) reaches(at time.Time) bool {
	for _, b := range s.good {
		_, end, ok := s.look.Chain.Current().History.Bounds(b.EndTimeline)
		if ok && b.EndLSN <= end && !b.Finished.After(at) {
			return true
		}
	}
	return false
}

// enough checks that what is left, or was left so far, is enough for what the plan keeps.
func enough(t testing.TB, before, after state, plan *prune.Plan) {
	t.Helper()
	need := segment.MaxLSN
	for _, v := range plan.Backups {
		if !v.Keep {
			continue
		}
		if before.good[v.ID] != nil {
			need = min(need, size.Floor(v.StartLSN))
			if after.good[v.ID] == nil {
				t.Errorf("%s was kept, and cannot be restored", v.ID)
			}
		}
		for _, k := range before.keys {
			if strings.HasPrefix(k, key("backup", v.ID)+"/") && !slices.Contains(after.keys, k) {
				t.Errorf("%s was kept and lacks %s", v.ID, k)
			}
		}
	}
	for _, start := range before.holds {
		need = min(need, size.Floor(start))
	}
	newest := segment.LSN(0)
	if line := before.look.Chain.Line(before.look.Chain.Current().Timeline); len(line) > 0 {
		newest = size.Start(line[len(line)-1].Last)
	}
	for _, k := range before.keys {
		o, err := archive.ParseKey(k)
		n, _ := segment.ParseName(cmp.Or(o.Last, o.Segment), size)
		stays := err != nil || o.Kind == archive.KindHistory || o.Kind == archive.KindIdentity ||
			n.Timeline != 0 && n.Start(size) >= min(need, newest)
		if stays && !slices.Contains(after.keys, k) {
			t.Errorf("%s is gone", k)
		}
	}
	for _, b := range after.look.Chain.Branches {
		was := before.look.Chain.Branch(b.Timeline)
		if b.Problem != nil {
			t.Errorf("timeline %d: %v", uint32(b.Timeline), b.Problem)
		}
		for _, h := range b.Holes {
			if !slices.ContainsFunc(was.Holes, func(w archive.Hole) bool { return w.First <= h.First && h.Last <= w.Last }) {
				t.Errorf("timeline %d has a new hole, %d to %d", uint32(b.Timeline), h.First, h.Last)
			}
		}
	}
	if after.resume.LSN < before.resume.LSN {
		t.Errorf("streaming would go on at %s, not %s", after.resume, before.resume)
	}
}

// follows checks the end against the rule.
func follows(t testing.TB, before, after state, r prune.Rule, plan *prune.Plan) {
	t.Helper()
	for _, b := range after.look.Chain.Branches {
		if plan.Start != 0 && len(b.Ranges) > 0 && b.Ranges[0].First < size.Number(plan.Start) {
			t.Errorf("timeline %d still begins in segment %d", uint32(b.Timeline), b.Ranges[0].First)
		}
	}
	if r.Before != 0 {
		if plan.Start > r.Before || len(before.good) > 0 && len(after.good) == 0 {
			t.Errorf("from %s, with %d of %d base backups", plan.Start, len(after.good), len(before.good))
		}
		return
	}
	if len(after.good) < min(r.Keep, len(before.good)) {
		t.Errorf("%d of %d base backups are left", len(after.good), len(before.good))
	}
	from := now.Add(-r.Window)
	moments := []time.Time{from, now.AddDate(1, 0, 0)} // clocks can be wrong
	for id, b := range before.good {
		if r.Window != 0 && !b.Finished.Before(from) {
			moments = append(moments, b.Finished)
			if after.good[id] == nil {
				t.Errorf("%s is not older than the window, and gone", id)
			}
		}
	}
	for _, at := range moments {
		if (r.Window != 0 || at.After(from)) && before.reaches(at) && !after.reaches(at) {
			t.Errorf("no recovery gets to %s any more", at)
		}
	}
}

// killed is a store that goes away after some deletions.
type killed struct {
	*storagetest.Mem
	left atomic.Int64
}

var errKilled = errors.New("killed")

func (k *killed) Delete(ctx context.Context, key string) error {
	if k.left.Add(-1) < 0 {
		return errKilled
	}
	return k.Mem.Delete(ctx, key)
}

// prune removes what a rule says, and dies after some deletions.
func (w *world) die(r prune.Rule, after int64) (plan *prune.Plan, died bool) {
	w.t.Helper()
	k := &killed{Mem: w.store}
	k.left.Store(after)
	p := w.pruner(storage.Store(k), r)
	plan, err := p.Plan(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	_, err = p.Remove(w.t.Context(), plan, nil)
	return plan, err != nil
}

// TestRandom prunes random archives by random rules, once in one go and once dying on
// the way.
func TestRandom(t *testing.T) {
	seed := rand.Uint64()
	worlds := uint64(40)
	if pgtest.Long() {
		worlds = 500
	}
	for i := range worlds {
		w := randomWorld(t, rand.New(rand.NewPCG(seed, i)))
		rng := rand.New(rand.NewPCG(seed, i+1_000_000))
		r := randomRule(rng)
		before, other := w.state(), w.clone()
		plan := w.prune(r)
		after := w.state()
		enough(t, before, after, plan)
		follows(t, before, after, r, plan)
		if again := w.plan(r); len(again.Sums) > 0 {
			t.Errorf("another time %v go", again.Sums)
		}
		total := prune.Total(plan.Sums).Objects
		cut, died := other.die(r, rng.Int64N(total+1))
		enough(t, before, other.state(), cut)
		if died {
			other.finish(t, r, w)
		}
		if t.Failed() {
			t.Fatalf("seed %d, archive %d, rule %+v: from %s, backups %s", seed, i, r, plan.Start, fate(plan))
		}
	}
}

// finish prunes again, and compares with an archive that was pruned in one go.
func (w *world) finish(t *testing.T, r prune.Rule, want *world) {
	t.Helper()
	before := w.state()
	plan := w.prune(r)
	enough(t, before, w.state(), plan)
	for _, v := range plan.Backups {
		if v.State == backup.Running || v.State == backup.Abandoned {
			return // half of a good one: it may hold its WAL for a day
		}
	}
	if diff := gocmp.Diff(want.store.Keys(), w.store.Keys()); diff != "" {
		t.Errorf("what is left after one go (-) and after two (+):\n%s", diff)
	}
}

// TestKilled dies after each number of deletions.
func TestKilled(t *testing.T) {
	w := nightly(t)
	w.history(2, "1\t0/6480000\tx\n") // in segment 100
	w.segments(2, 100, 104)
	w.partial(1, 8)
	r := prune.Rule{Keep: 5}
	before, whole := w.state(), w.clone()
	want := whole.prune(r)
	if want.Start != 60*mib {
		t.Fatalf("from %s", want.Start)
	}
	step := int64(13)
	if pgtest.Long() {
		step = 1
	}
	for k, died := int64(0), true; died; k += step {
		c := w.clone()
		var plan *prune.Plan
		plan, died = c.die(r, k)
		enough(t, before, c.state(), plan)
		if died {
			c.finish(t, r, whole)
		}
		if t.Failed() {
			t.Fatalf("after %d deletions", k)
		}
	}
}
