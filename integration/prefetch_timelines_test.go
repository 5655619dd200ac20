package integration

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
)

// A timeline ends in the middle of what is fetched ahead.
func TestPrefetchAlongTimelines(t *testing.T) {
	eachOfFewMajors(t, func(t *testing.T, major int) {
		t.Run("recovery", func(t *testing.T) { prefetchFork(t, major) })
		t.Run("standby", func(t *testing.T) { prefetchFollows(t, major) })
	})
}

// prefetchFork: timeline 1 went on behind the fork, and both branches are archived.
func prefetchFork(t *testing.T, major int) {
	w := newAheadWorld(t, major, 10)
	w.p.Start()
	child := w.p.Standby(t, quick)
	mark(w.p, "common")
	follows(child, w.p.Query("select string_agg(name, ' ' order by name) from mark"))
	disconnect(child)
	fork := walFile(w.p)
	rows := map[string]string{}
	goOn := func(c *pgtest.Cluster, name string) (last string) {
		mark(c, name)
		c.SwitchWAL() // the segment with the fork
		fill(c, 8)
		mark(c, name+" end")
		rows[name] = rowsOf(c)
		return c.SwitchWAL()
	}
	abandoned := goOn(w.p, "abandoned")
	child.Promote()
	newest := goOn(child, "child")

	a := w.inS3()
	put := func(from *pgtest.Cluster, names ...string) {
		w.wal.put(from, names...)
		for _, name := range names {
			w.wal.must(a.PutSegment(t.Context(), archive.NewScratch(vfs.OS(), w.wal.work), w.wal.name(name), fileOpener(from.WALFile(name))))
			w.may(name, "whole", readFile(t, from.WALFile(name)))
		}
	}
	behind := w.names[len(w.names)-1]
	put(w.p, w.wal.segments(behind, abandoned)[1:]...)
	put(child, w.wal.segments("00000002"+fork[8:], newest)...)
	w.wal.putHistory(child, 2)
	history := readFile(t, child.WALFile("00000002.history"))
	w.wal.must(a.PutHistory(t.Context(), 2, history))
	w.may("00000002.history", "whole", history)
	cut := readFile(t, w.p.WALFile(fork))
	clear(cut[segment.Size(w.p.SegmentSize).Offset(forkOf(t, child, 2)):])

	branches := map[string]string{"latest": "child"}
	if pgtest.Long() {
		branches["1"] = "abandoned"
	}
	for timeline, branch := range branches {
		t.Run(timeline, func(t *testing.T) {
			w := w.with(t)
			w.rows = rows[branch]
			if timeline == "latest" { // then nothing of timeline 1 behind the fork is delivered
				w.content[fork] = nil
				w.may(fork, "cut", cut)
				w.may(fork, "nothing", nil)
				for _, name := range w.wal.segments(fork, abandoned)[1:] {
					w.content[name] = nil
				}
			} else {
				delete(w.content[fork], "cut")
				w.may(fork, "whole", readFile(t, w.p.WALFile(fork)))
				for _, name := range w.wal.segments(fork, abandoned)[1:] {
					w.may(name, "whole", readFile(t, w.p.WALFile(name)))
				}
			}
			urls := []string{w.slow(20 * time.Millisecond)}
			if pgtest.Long() {
				urls = append(urls, "")
			}
			for _, url := range urls {
				n := w.restored(pgtest.RecoverySignal, url, "", "recovery_target_timeline", timeline)
				release := n.helped(w.names[8]) // until both branches could be there
				pgtest.Eventually(t, patience, func() bool { return len(staged(t, n.staging())) >= 5 }, "not much is fetched ahead")
				release()
				n.recovers()
				n.Stop(pgtest.Fast)
				n.leavesNothing()
				n.Destroy()
			}
		})
	}
}

// prefetchFollows: a standby that has the archive alone follows through a promotion,
// once while it happens and once long after.
func prefetchFollows(t *testing.T, major int) {
	h := newHistory(t, major)
	away, here := h.follower(), h.follower()
	h.lives("1", 8)
	one := h.p.Standby(t, quick)
	away.Start()
	follows(away, marks(h.p))
	away.Stop(pgtest.Fast)
	h.lives("2", 8)
	follows(one, marks(h.p))
	here.Start()
	follows(here, marks(h.p))
	h.r.flushed()
	h.r.stop()
	h.p.Stop(pgtest.Fast)
	one.Promote()
	h.from(one)
	h.archived("00000002.history")
	h.p = one
	h.lives("3", 8)
	for _, s := range []*pgtest.Cluster{here, away} {
		if !s.Running() {
			s.Start()
		}
		follows(s, marks(one))
		if got, want := rowsOf(s), rowsOf(one); got != want {
			t.Errorf("rows %s, want %s", got, want)
		}
		s.Promote()
		checkHeapAndIndexes(t, s)
		for line := range strings.Lines(s.Log()) {
			if strings.Contains(line, "PANIC") || strings.Contains(line, "terminated by signal") || strings.Contains(line, "exited with exit code") {
				t.Errorf("the log has %q", line)
			}
		}
		s.Stop(pgtest.Fast)
		leavesNothing(t, filepath.Join(s.Dir, "walrecv-prefetch"))
	}
	h.r.stop()
}

// follower makes a standby that has nothing but the archive.
func (h *history) follower() *pgtest.Cluster {
	h.t.Helper()
	return h.p.Restore(h.t, h.backup, pgtest.StandbySignal, h.settings(
		"restore_command", restoreCommand(h.r.bin, "--archive "+h.archive), "primary_conninfo", ""))
}

// lives writes some MB with rows in between.
func (h *history) lives(name string, mb int) {
	h.t.Helper()
	for i := range mb / 2 {
		fill(h.p, 2)
		mark(h.p, fmt.Sprint(name, "-", i))
	}
}
