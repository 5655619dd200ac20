package prune_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/backup"
	"github.com/walrecv/walrecv/internal/prune"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage/storagetest"
)

// TestFastClock: a host whose clock is a day fast does not take what is being done for
// abandoned.
func TestFastClock(t *testing.T) {
	w := nightly(t)
	w.begin("new", 1, 33*mib, now)
	plan, err := prune.New(w.open(w.store), prune.Rule{Keep: 1}, now.Add(25*time.Hour)).Plan(t.Context())
	if err != nil || !strings.Contains(fate(plan), "b9:true new:true") || plan.Start != 33*mib || !strings.Contains(fmt.Sprint(plan.Notes), "clock is fast") {
		t.Errorf("%s from %s, %q, %v", fate(plan), plan.Start, plan.Notes, err)
	}
}

// TestMendable: what is missing now may come back, as long as the window lasts.
func TestMendable(t *testing.T) {
	for what, lose := range map[string]func(w *world){
		"a segment":     func(w *world) { w.remove(segmentKey(1, 90)) },
		"an object":     func(w *world) { w.remove(key("backup", "b8", "base.000001.tar.zst")) },
		"what it ended": func(w *world) { w.store.Set(key("backup", "b8", "backup.json"), []byte("x")) },
	} {
		w := nightly(t)
		w.clock = ago(38)
		lose(w)
		if plan := w.prune(prune.Rule{Window: 50 * time.Hour}); !strings.Contains(fate(plan), "b7:true b8:true b9:true") || len(plan.Problems) == 0 {
			t.Errorf("%s: %s, %q", what, fate(plan), plan.Problems)
		}
		if plan := w.prune(prune.Rule{Window: 12 * time.Hour}); !strings.Contains(fate(plan), "b8:false b9:true") {
			t.Errorf("%s, outside: %s", what, fate(plan))
		}
	}
	// Without one from before the window it holds its own WAL.
	w := newWorld(t)
	w.segments(1, 5, 30)
	w.backup("b0", 1, 10*mib, 11*mib, ago(20))
	w.backup("b1", 1, 20*mib, 21*mib, ago(10))
	w.remove(key("backup", "b0", "base.000001.tar.zst"))
	if plan := w.plan(prune.Rule{Window: day}); fate(plan) != "b0:true b1:true " || plan.Start != 10*mib || len(plan.Notes) != 1 {
		t.Errorf("%s from %s, %q", fate(plan), plan.Start, plan.Notes)
	}
	// The history of a timeline is in that of its children.
	w = newWorld(t)
	w.segments(1, 1, 9)
	w.segments(2, 10, 19)
	w.segments(3, 20, 30)
	w.history(3, "1\t0/A00000\tx\n2\t0/1400000\tx\n")
	w.backup("b0", 2, 11*mib+0x28, 12*mib, ago(150))
	w.backup("b1", 3, 25*mib+0x28, 26*mib, ago(10))
	if plan := w.plan(prune.Rule{Window: day}); fate(plan) != "b0:true b1:true " || len(plan.Problems) > 0 {
		t.Errorf("without a history: %s, %q", fate(plan), plan.Problems)
	}
}

// TestNoRule: what says nothing is not taken for what keeps least.
func TestNoRule(t *testing.T) {
	w := nightly(t)
	if _, err := w.pruner(w.store, prune.Rule{}).Plan(t.Context()); err == nil || !strings.Contains(err.Error(), "what is to stay") {
		t.Error(err)
	}
}

// TestBeforeHole: a hole in which the cut would lie is still one afterwards.
func TestBeforeHole(t *testing.T) {
	for _, before := range []segment.LSN{5, 6, 7} {
		w := newWorld(t)
		w.segments(1, 1, 4)
		w.segments(1, 8, 20)
		plan := w.prune(prune.Rule{Before: before * mib})
		if holes := w.look().Chain.Branches[0].Holes; plan.Start != 4*mib || len(holes) != 1 || holes[0].First != 5 || holes[0].Last != 7 || len(plan.Notes) != 1 {
			t.Errorf("before %d: from %s, %q, holes %v", before, plan.Start, plan.Notes, holes)
		}
		if plan = w.prune(prune.Rule{Before: 8 * mib}); plan.Start != 8*mib || len(w.look().Chain.Branches[0].Holes) > 0 {
			t.Errorf("behind it: from %s", plan.Start)
		}
	}
}

// TestStandbysBackup: a base backup of a standby that is far behind, which is taken while
// prune removes others: it keeps its WAL, or it is not good.
func TestStandbysBackup(t *testing.T) {
	for what, during := range map[string]func(r storagetest.Request) bool{
		"while base backups go": func(r storagetest.Request) bool {
			return r.Op == storagetest.OpDelete && strings.Contains(r.Key, "/backup/")
		},
		"right before it is said": func(r storagetest.Request) bool {
			return r.Op == storagetest.OpPut && strings.Contains(r.Key, "/pruned/")
		},
		"when the first object goes": func(r storagetest.Request) bool {
			return r.Op == storagetest.OpDelete && strings.Contains(r.Key, "/wal/")
		},
	} {
		w := nightly(t)
		var created error
		done := false
		store := storagetest.NewFaulty(w.store, func(r storagetest.Request) storagetest.Fault {
			if !done && during(r) {
				done, w.clock = true, now
				created = w.take(40 * mib)
			}
			return storagetest.Fault{}
		})
		p := w.pruner(store, prune.Rule{Keep: 1})
		plan, err := p.Plan(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, err = p.Remove(t.Context(), plan, nil)
		good := len(w.state().good)
		if !done || (created == nil) != (good == 2) || good == 0 {
			t.Errorf("%s: taken: %v, prune: %v, %d good base backups", what, created, err, good)
		}
	}
}

// take takes a base backup that begins at a position, of a standby.
func (w *world) take(start segment.LSN) error {
	ctx := w.t.Context()
	writer, err := backup.Begin(ctx, w.open(w.store), backup.Start{
		SystemID: system, Major: 15, Timeline: 1, StartLSN: start, Label: "x", Started: now, From: backup.FromStandby,
	})
	if err != nil {
		return err
	}
	defer writer.Abort()
	steps := []func() error{
		func() error { return writer.Tablespace(ctx, 0, "", 0) },
		func() (err error) { _, err = writer.Write(make([]byte, 1024)); return err },
		func() error { return writer.Manifest(ctx) },
		func() (err error) { _, err = writer.Write([]byte("{}\n")); return err },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	pause := func(context.Context, time.Duration) error { return nil }
	_, err = writer.Finish(ctx, backup.End{LSN: 100 * mib, Timeline: 1, Finished: now}, backup.Wait{Now: func() time.Time { return now }, Pause: pause})
	return err
}
