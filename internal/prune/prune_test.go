package prune_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/prune"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage/storagetest"
)

const day = 24 * time.Hour

// nightly is an archive with a base backup every 24 hours, for ten days, one in every
// tenth segment: the first, b0, ended 230 hours ago.
func nightly(t testing.TB) *world {
	w := newWorld(t)
	w.segments(1, 5, 100)
	w.chunk(1, 101, 100)
	for i := range segment.LSN(10) {
		w.backup(fmt.Sprintf("b%d", i), 1, (i+1)*10*mib+0x28, (i+1)*10*mib+0x300, ago(230-24*float64(i)))
	}
	return w
}

func TestWindow(t *testing.T) {
	for _, c := range []struct {
		what  string
		rule  prune.Rule
		now   time.Time
		first int // backup that stays
	}{
		{"three days", prune.Rule{Window: 3 * day}, now, 6}, // b7 ended 62 hours ago, b6 86
		{"to the minute", prune.Rule{Window: 62 * time.Hour}, now, 6},
		{"a second later", prune.Rule{Window: 62*time.Hour - time.Second}, now, 7},
		{"longer than there is", prune.Rule{Window: 300 * day}, now, 0},
		{"an hour", prune.Rule{Window: time.Hour}, now, 9},
		{"the newest four", prune.Rule{Keep: 4}, now, 6},
		{"more than there are", prune.Rule{Keep: 11}, now, 0},
		{"the window is longer", prune.Rule{Window: 3 * day, Keep: 1}, now, 6},
		{"the number is greater", prune.Rule{Window: 3 * day, Keep: 9}, now, 1},
		{"a clock of another century", prune.Rule{Window: 3 * day}, now.AddDate(100, 0, 0), 6},
		{"a clock that was never set", prune.Rule{Window: 3 * day}, time.Unix(0, 0), 0},
	} {
		w := nightly(t)
		plan, err := prune.New(w.open(w.store), c.rule, c.now).Plan(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range plan.Backups {
			if v.Keep != (i >= c.first) || v.Why == "" {
				t.Errorf("%s: %s stays: %v, %s", c.what, v.ID, v.Keep, v.Why)
			}
		}
		if want := segment.LSN(c.first+1) * 10 * mib; plan.Start != want || len(plan.Notes) > 0 != c.now.After(now) {
			t.Errorf("%s: the WAL from %s on stays, not %s; %q", c.what, plan.Start, want, plan.Notes)
		}
		if wrong := len(plan.Problems); wrong > 0 != c.now.Before(ago(1)) {
			t.Errorf("%s: %q", c.what, plan.Problems)
		}
	}
}

// TestRemove: what was planned is gone, and nothing else; the next has nothing to do.
func TestRemove(t *testing.T) {
	w := nightly(t)
	for _, n := range []uint64{6, 69, 71, 72} {
		w.others(1, n)
		w.partial(1, n)
	}
	w.chunk(1, 7, 100)
	gap := segment.Gap{Timeline: 1, From: 2 * mib, To: 4 * mib}
	w.store.Set(key("gaps", gap.FileName()), []byte("1"))
	odd := []string{key("odd"), key("backup", "b7", "odd"), key("drills", "x.json"), key("wal", "00000001", "odd")}
	for _, k := range odd {
		w.store.Set(k, nil)
	}
	before := w.store.Keys()
	dry := w.plan(prune.Rule{Window: 3 * day})
	if !slices.Equal(before, w.store.Keys()) {
		t.Fatal("a plan changes the archive")
	}
	plan := w.prune(prune.Rule{Window: 3 * day})
	if !slices.Equal(plan.Sums, dry.Sums) {
		t.Errorf("%v went, %v were shown", plan.Sums, dry.Sums)
	}
	var kinds []string
	for _, s := range plan.Sums {
		kinds = append(kinds, fmt.Sprintf("%d %s", s.Objects, s.What))
	}
	if got := strings.Join(kinds, ", "); got != "6 base backups, 65 segments, 2 partials, 1 pieces of the tail, 2 index objects, 1 gaps, 2 marks, 2 backup history files" || plan.Sums[1].Bytes != int64(65*len(unknown)) {
		t.Errorf("%s went, %d bytes of segments", got, plan.Sums[1].Bytes)
	}
	after := w.store.Keys()
	for _, k := range before {
		o, err := archive.ParseKey(k)
		n, _ := segment.ParseName(o.Segment, size)
		stays := err != nil || n.Number >= 70 || o.Kind == archive.KindIdentity || o.Kind == archive.KindDrill || o.ID >= "b6"
		if slices.Contains(after, k) != stays {
			t.Errorf("%s: stays %v, want %v", k, !stays, stays)
		}
	}
	if got := w.ranges(1); got != "[{70 100}]" {
		t.Errorf("segments %s", got)
	}
	if again := w.prune(prune.Rule{Window: 3 * day}); len(again.Sums) > 0 || again.Start != 70*mib {
		t.Errorf("another time: %v, from %s", again.Sums, again.Start)
	}
	// What was said first is no more said.
	w.prune(prune.Rule{Keep: 1})
	pruned, err := w.open(w.store).Pruned(t.Context())
	if err != nil || len(pruned) != 1 || pruned[0].Before != 100*mib {
		t.Errorf("said: %v, %v", pruned, err)
	}
}

func TestBefore(t *testing.T) {
	for _, c := range []struct {
		what   string
		before segment.LSN
		start  segment.LSN
		note   string
	}{
		{"a position", 55*mib + 0x1234, 55 * mib, ""},
		{"before all", mib, mib, ""},
		{"behind the newest backup", 101 * mib, 100 * mib, "the newest base backup"},
	} {
		w := nightly(t)
		plan := w.prune(prune.Rule{Before: c.before})
		if plan.Start != c.start || (len(plan.Notes) > 0) != (c.note != "") || !strings.Contains(fmt.Sprint(plan.Notes), c.note) {
			t.Errorf("%s: from %s, %q", c.what, plan.Start, plan.Notes)
		}
		for _, v := range plan.Backups {
			if v.Keep != (v.StartLSN >= c.start) {
				t.Errorf("%s: %s stays: %v", c.what, v.ID, v.Keep)
			}
		}
	}
	// Without base backups the newest segment stays, on the way to the newest timeline.
	w := newWorld(t)
	w.segments(1, 5, 90)
	w.history(2, "1\t0/1480000\tx\n")
	w.segments(2, 20, 30)
	w.chunk(2, 31, int64(size))
	plan := w.prune(prune.Rule{Before: 80 * mib})
	if plan.Start != 30*mib || !strings.Contains(fmt.Sprint(plan.Notes), "newest segment") || w.ranges(2) != "[{30 30}]" || w.ranges(1) != "[{30 90}]" {
		t.Errorf("from %s, %q; timeline 1 %s, 2 %s", plan.Start, plan.Notes, w.ranges(1), w.ranges(2))
	}
}

// TestWhatHolds: everything that is not good, in all the ways that there are.
func TestWhatHolds(t *testing.T) {
	for _, c := range []struct {
		what    string
		change  func(w *world)
		start   segment.LSN
		stays   string // what else stays
		goes    string // what else goes
		note    string
		problem string
	}{
		{"nothing", func(*world) {}, 100, "", "", "", ""},
		{"a running one", func(w *world) { w.begin("new", 1, 33*mib+0x28, ago(1)) }, 33, "new", "", "new, which is being taken", ""},
		{"one that somebody adds to", func(w *world) {
			w.begin("new", 1, 33*mib, ago(200))
			w.clock = ago(3)
			w.store.Set(key("backup", "new", "base.000002.tar.zst"), nil)
		}, 33, "new", "", "new, which is being taken", ""},
		{"an abandoned one", func(w *world) { w.begin("old", 1, 33*mib, ago(25)) }, 100, "", "old", "", ""},
		{"of a later version", func(w *world) {
			w.begin("odd", 1, 33*mib, ago(99))
			w.store.Set(key("backup", "odd", "backup.json"), []byte(`{"format":2}`))
		}, 33, "odd", "", "of which only a later version knows", "format 2"},
		{"wholly of a later version", func(w *world) {
			w.store.Set(key("backup", "odd", "start.json"), []byte(`{"format":2}`))
		}, 0, "odd", "", "of which only a later version knows", "format 2"},
		{"damaged and old", func(w *world) {
			w.begin("bad", 1, 33*mib, ago(99))
			w.store.Set(key("backup", "bad", "backup.json"), []byte(`{"form`))
		}, 100, "", "bad", "", ""},
		{"damaged and new", func(w *world) {
			w.begin("bad", 1, 100*mib+0x400, ago(1))
			w.store.Set(key("backup", "bad", "backup.json"), []byte(`{"form`))
		}, 100, "bad", "", "", "bad is damaged"},
		{"without a beginning, old", func(w *world) {
			w.clock = ago(99)
			w.store.Set(key("backup", "bad", "base.000001.tar.zst"), []byte(`x`))
		}, 100, "", "bad", "", ""},
		{"without a beginning, new", func(w *world) {
			w.clock = ago(2)
			w.store.Set(key("backup", "bad", "base.000001.tar.zst"), []byte(`x`))
		}, 100, "bad", "", "", "start.json is missing"},
		{"the newest lacks WAL", func(w *world) {
			w.backup("c0", 1, 100*mib+0x400, 105*mib, ago(1))
		}, 100, "c0", "", "", "c0 cannot be restored and does not count"},
		{"the newest lacks an object", func(w *world) {
			w.backup("c0", 1, 100*mib+0x400, 100*mib+0x500, ago(1))
			w.remove(key("backup", "c0", "base.000001.tar.zst"))
		}, 100, "c0", "", "", "base.000001.tar.zst was put, and is not in the archive"},
		{"the newest needs a segment that is damaged", func(w *world) {
			w.segments(1, 101, 105)
			w.backup("c0", 1, 100*mib+0x400, 105*mib, ago(1))
			w.damage(1, 103)
		}, 100, "c0", "", "", "segment 000000010000000000000067: it is damaged"},
		{"the newest needs a segment that is marked", func(w *world) {
			w.segments(1, 101, 105)
			w.backup("c0", 1, 100*mib+0x400, 105*mib, ago(1))
			w.mark(1, 103)
		}, 100, "c0", "", "", "as the server sent it: rot"},
		{"the newest needs a segment that is unreadable", func(w *world) {
			w.segments(1, 101, 105)
			w.backup("c0", 1, 100*mib+0x400, 105*mib, ago(1))
			w.store.Set(segmentKey(1, 103), []byte("x"))
		}, 100, "c0", "", "", "c0 cannot be restored and does not count"},
		{"an old one lacks WAL", func(w *world) {
			w.backup("c0", 1, 3*mib, 3*mib+0x100, ago(500))
		}, 100, "", "c0", "", "c0 cannot be restored and does not count"},
		{"a clock in the future", func(w *world) {
			w.backup("c0", 1, 45*mib, 45*mib+0x100, now.AddDate(1, 0, 0))
		}, 100, "", "c0", "", "later than now"},
	} {
		w := nightly(t)
		c.change(w)
		plan := w.prune(prune.Rule{Keep: 1})
		if plan.Start != c.start*mib {
			t.Errorf("%s: the WAL from %s on stays, not %s", c.what, plan.Start, c.start*mib)
		}
		for _, v := range plan.Backups {
			want := v.ID == "b9" || v.ID == c.stays
			if v.Keep != want || v.Why == "" {
				t.Errorf("%s: %s stays: %v, %s", c.what, v.ID, v.Keep, v.Why)
			}
		}
		if c.stays+c.goes != "" && !strings.Contains(fate(plan), c.stays+c.goes) {
			t.Errorf("%s: %s", c.what, fate(plan))
		}
		if got := fmt.Sprint(plan.Notes); !strings.Contains(got, c.note) || (c.note == "") != (len(plan.Notes) == 0) {
			t.Errorf("%s: notes %q", c.what, plan.Notes)
		}
		if got := fmt.Sprint(plan.Problems); !strings.Contains(got, c.problem) || (c.problem == "") != (len(plan.Problems) == 0) {
			t.Errorf("%s: problems %q", c.what, plan.Problems)
		}
	}
}

// TestNothingGood: without a base backup nothing says how far back somebody goes.
func TestNothingGood(t *testing.T) {
	w := newWorld(t)
	w.segments(1, 5, 10)
	w.begin("old", 1, 6*mib, ago(99))
	plan := w.prune(prune.Rule{Window: time.Hour})
	if plan.Start != 0 || w.ranges(1) != "[{5 10}]" || fate(plan) != "old:false " || len(plan.Notes) != 1 {
		t.Errorf("from %s, %s, %s, %q", plan.Start, w.ranges(1), fate(plan), plan.Notes)
	}
	empty := newWorld(t)
	if plan := empty.prune(prune.Rule{Before: 10 * mib}); plan.Start != 0 || len(plan.Sums) > 0 {
		t.Errorf("nothing at all: from %s, %v", plan.Start, plan.Sums)
	}
}

// TestBranches: a backup that leads to another branch than the newest timeline does not
// stand in for one that leads there.
func TestBranches(t *testing.T) {
	w := newWorld(t)
	w.segments(1, 5, 40)
	w.history(2, "1\t0/1480000\tx\n") // in segment 20
	w.partial(1, 20)
	w.segments(2, 20, 30)
	w.backup("before", 1, 10*mib, 11*mib, ago(90))
	w.backup("aside", 1, 25*mib, 26*mib, ago(80)) // timeline 1 went on
	w.backup("last", 2, 28*mib, 29*mib, ago(2))
	if plan := w.plan(prune.Rule{Window: 3 * day}); fate(plan) != "before:true aside:false last:true " || plan.Start != 10*mib {
		t.Errorf("window: %s from %s", fate(plan), plan.Start)
	}
	if plan := w.plan(prune.Rule{Window: time.Hour}); fate(plan) != "before:false aside:false last:true " || plan.Start != 28*mib {
		t.Errorf("short window: %s from %s", fate(plan), plan.Start)
	}
	// The newest of all may be one that does not lead there.
	w.store.Set(key("backup", "last", "backup.json"), []byte("x"))
	if plan := w.plan(prune.Rule{Window: time.Hour}); fate(plan) != "before:true aside:true last:true " || plan.Start != 10*mib {
		t.Errorf("the newest leads aside: %s from %s", fate(plan), plan.Start)
	}
}

// TestBeforeTime: what a base backup needs that begins at a time or later.
func TestBeforeTime(t *testing.T) {
	w := newWorld(t)
	minute := func(n float64) time.Time { return now.Add(time.Duration(n * float64(time.Minute))) }
	for n := uint64(5); n <= 30; n++ {
		switch {
		case n >= 12 && n < 16: // nobody committed
			w.segment(1, n, time.Time{}, time.Time{})
		case n == 22: // nothing is known of it
			w.segments(1, n, n)
		default:
			w.segment(1, n, minute(float64(n)), minute(float64(n)+0.9))
		}
	}
	at := func(n float64) segment.LSN { return w.plan(prune.Rule{BeforeTime: minute(n)}).Start }
	for n, want := range map[float64]segment.LSN{
		1: 5, 5: 5, 5.5: 5, 6.5: 5, 10: 9, 10.95: 10, 11.2: 10,
		11.95: 11, 13: 11, 15: 11, 16: 11, 16.95: 16, // the WAL of an idle server stays
		21.95: 21, 22.5: 21, 22.95: 21, 23.5: 21, 23.95: 23,
		30.5: 29, 31: 30, 99: 30,
	} {
		if got := at(n); got != want*mib {
			t.Errorf("minute %v: %s, want %s", n, got, want*mib)
		}
	}
	if plan := w.plan(prune.Rule{BeforeTime: minute(99)}); len(plan.Notes) != 1 || !strings.Contains(plan.Notes[0], "no commit") {
		t.Errorf("behind the end: %q", plan.Notes)
	}
	// Timeline 2 left in segment 25; timeline 1 went on for a while, and ended.
	w.history(2, "1\t0/1980000\tx\n")
	for n := uint64(25); n <= 40; n++ {
		w.segment(2, n, minute(float64(n)*2-25), minute(float64(n)*2-24.1))
	}
	for n, want := range map[float64]segment.LSN{24.5: 23, 27.5: 25, 30.5: 27, 40: 32, 99: 40} {
		if got := at(n); got != want*mib {
			t.Errorf("over a fork, minute %v: %s, want %s", n, got, want*mib)
		}
	}
	// Whoever cannot read times says so.
	w = newWorld(t)
	w.segments(1, 5, 9)
	if _, err := w.pruner(w.store, prune.Rule{BeforeTime: now}).Plan(t.Context()); err == nil || !strings.Contains(err.Error(), "--decrypt-with") {
		t.Errorf("nothing is known: %v", err)
	}
}

// TestBackupsThatCome: what began after the plan was made is left what it needs.
func TestBackupsThatCome(t *testing.T) {
	for what, c := range map[string]struct {
		come  func(w *world)
		start segment.LSN
		fate  string
		fails string
	}{
		"one begins":             {func(w *world) { w.begin("new", 1, 40*mib, ago(0)) }, 40, "b0:false", ""},
		"one begins late enough": {func(w *world) { w.begin("new", 1, 100*mib+0x500, ago(0)) }, 100, "b0:false", ""},
		"one is completed":       {func(w *world) { w.backup("new", 1, 40*mib, 41*mib, ago(0)) }, 40, "b0:false", ""},
		"what was abandoned is not": {func(w *world) {
			w.clock = ago(0)
			w.store.Set(key("backup", "old", "base.000002.tar.zst"), nil)
		}, 20, "old:true", ""},
		"one that nobody can read": {func(w *world) { w.store.Set(key("backup", "new", "start.json"), []byte("x")) }, 5, "", "cannot be read"},
	} {
		w := nightly(t)
		w.begin("old", 1, 20*mib, ago(300))
		p := w.pruner(w.store, prune.Rule{Keep: 1})
		plan, err := p.Plan(t.Context())
		if err != nil || plan.Start != 100*mib {
			t.Fatalf("%s: from %s, %v", what, plan.Start, err)
		}
		c.come(w)
		before := len(w.store.Keys())
		_, err = p.Remove(t.Context(), plan, nil)
		if c.fails != "" {
			if err == nil || !strings.Contains(err.Error(), c.fails) || len(w.store.Keys()) != before {
				t.Errorf("%s: %v", what, err)
			}
			continue
		}
		if want := fmt.Sprintf("[{%d 100}]", c.start); err != nil || plan.Start != c.start*mib || w.ranges(1) != want || !strings.Contains(fate(plan), c.fate) {
			t.Errorf("%s: %v, from %s, %s, %s", what, err, plan.Start, w.ranges(1), fate(plan))
		}
	}
}

// TestFailures: what the store refuses is told, the rest is done, and the next prune
// ends it. A store that refuses all is not asked for ever.
func TestFailures(t *testing.T) {
	w := nightly(t)
	refused := 0
	refuse := func(odd bool) func(storagetest.Request) storagetest.Fault {
		return func(r storagetest.Request) storagetest.Fault {
			if r.Op == storagetest.OpDelete && strings.Contains(r.Key, "/wal/") && (!odd || strings.HasSuffix(r.Key, "7.zst")) {
				refused++
				return storagetest.Fault{Before: storagetest.ErrInjected}
			}
			return storagetest.Fault{}
		}
	}
	p := w.pruner(storagetest.NewFaulty(w.store, refuse(true)), prune.Rule{Keep: 1})
	plan, err := p.Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	result, err := p.Remove(t.Context(), plan, nil)
	if err == nil || !strings.Contains(err.Error(), "6 could not be deleted, first: ") || refused != 6 || result.Sums[1].Objects != 89 {
		t.Errorf("%d refused: %v, %v", refused, err, result.Sums)
	}
	if got := w.ranges(1); got != "[{100 100}]" {
		t.Errorf("what is left counts: %s", got)
	}
	if again := w.prune(prune.Rule{Keep: 1}); again.Sums[0].Objects != 6 {
		t.Errorf("the next removes %v", again.Sums)
	}
	w = nightly(t)
	refused = 0
	p = w.pruner(storagetest.NewFaulty(w.store, refuse(false)), prune.Rule{Keep: 1})
	if _, err = p.Remove(t.Context(), w.plan(prune.Rule{Keep: 1}), nil); err == nil || !strings.Contains(err.Error(), "was not tried") || refused > 40 {
		t.Errorf("%d refused: %v", refused, err)
	}
	// A base backup that cannot be deleted keeps its WAL.
	w = nightly(t)
	store := storagetest.NewFaulty(w.store, func(r storagetest.Request) storagetest.Fault {
		if r.Op == storagetest.OpDelete && strings.Contains(r.Key, "/b3/") {
			return storagetest.Fault{Before: storagetest.ErrInjected}
		}
		return storagetest.Fault{}
	})
	p = w.pruner(store, prune.Rule{Keep: 1})
	if _, err = p.Remove(t.Context(), w.plan(prune.Rule{Keep: 1}), nil); err == nil || !strings.Contains(err.Error(), "b3") || w.ranges(1) != "[{5 100}]" {
		t.Errorf("a backup cannot be deleted: %v, %s", err, w.ranges(1))
	}
}
