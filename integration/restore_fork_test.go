package integration

import (
	"os"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/segment"
)

// branch is a cluster whose timeline has forked: the old primary lived on and has
// an abandoned row, the new one has a row of its own.
type branch struct {
	wal    *wal
	backup string
	old    *pgtest.Cluster // timeline 1: common, abandoned
	new    *pgtest.Cluster // timeline 2: common, child
	first  string          // first segment of the backup
	fork   string          // timeline 1's segment with the fork in it
	last   string          // timeline 1's last complete segment
}

// newBranch archives timeline 1 as the old primary went on writing it. Of
// timeline 2 nothing is archived yet.
func newBranch(t *testing.T, major int) *branch {
	b := &branch{old: newPrimary(t, major)}
	b.wal = newWAL(t, b.old)
	b.first = walFile(b.old)
	b.backup = b.old.BaseBackup(t, "").Dir
	fill(b.old, 2)
	b.new = b.old.Standby(t, quick)
	mark(b.old, "common")
	follows(b.new, "common")
	// From here on the two know nothing of each other.
	disconnect(b.new)
	b.fork = walFile(b.old)
	mark(b.old, "abandoned")
	b.old.SwitchWAL()
	fill(b.old, 2)
	b.last = walFile(b.old)
	b.old.SwitchWAL()
	b.new.Promote()
	mark(b.new, "child")
	b.wal.put(b.old, b.wal.segments(b.first, b.last)...)
	return b
}

// child is a segment of timeline 2, by the name of timeline 1's.
func child(name string) string { return "00000002" + name[8:] }

// archiveChild archives timeline 2 up to and with its first segment.
func (b *branch) archiveChild() {
	b.new.SwitchWAL()
	b.wal.put(b.new, child(b.fork))
}

// TestForkWhoseWALIsNotArchivedYet: timeline 2's history is archived, its first
// segment is not, and the parent has one of the same number with more in it. The
// abandoned row must not be seen.
func TestForkWhoseWALIsNotArchivedYet(t *testing.T) {
	eachMajor(t, func(t *testing.T, major int) {
		b := newBranch(t, major)
		b.wal.putHistory(b.new, 2)
		t.Run("latest", func(t *testing.T) {
			n := b.old.Recover(t, b.backup, b.wal.settings("--retry-for", "5s"))
			wantMarks(t, n, "common")
			checkHeapAndIndexes(t, n)
		})
		t.Run("the parent's timeline", func(t *testing.T) {
			n := b.old.Recover(t, b.backup, with(b.wal.settings("--retry-for", "5s"), "recovery_target_timeline", "1"))
			wantMarks(t, n, "abandoned common")
			checkHeapAndIndexes(t, n)
		})
		t.Run("archived", func(t *testing.T) {
			b.archiveChild()
			n := b.old.Recover(t, b.backup, b.wal.settings("--retry-for", "5s"))
			wantMarks(t, n, "child common")
			checkHeapAndIndexes(t, n)
		})
	})
}

// TestForkAndAFileThatIsUnknown: the very answers that take PostgreSQL to the
// wrong branch when they are 1 (recovery) or once 1 (standby).
func TestForkAndAFileThatIsUnknown(t *testing.T) {
	eachMajor(t, func(t *testing.T, major int) {
		b := newBranch(t, major)
		b.wal.putHistory(b.new, 2)
		b.archiveChild()
		for _, unknown := range []string{"00000002.history", child(b.fork)} {
			path := b.wal.object(child(b.fork))
			if strings.HasSuffix(unknown, "history") {
				path = strings.TrimSuffix(b.wal.identity(), "walrecv.json") + "wal/" + unknown
			}
			t.Run("recovery/"+unknown, func(t *testing.T) {
				release := b.wal.hang(path)
				n := b.old.Restore(t, b.backup, pgtest.RecoverySignal, b.wal.settings("--retry-for", "1s"))
				wantFatal(t, n, "could not restore file \""+unknown+"\"")
				release()
				n.Start()
				n.WaitFor("select pg_is_in_recovery()", "f", patience)
				wantMarks(t, n, "child common")
				checkHeapAndIndexes(t, n)
			})
			t.Run("standby/"+unknown, func(t *testing.T) {
				release := b.wal.hang(path)
				n := b.old.Restore(t, b.backup, pgtest.StandbySignal, b.wal.settings("--retry-for", "1s"))
				n.Launch()
				// It is told that the file does not exist, and asks for the
				// parent's segment next.
				pgtest.Eventually(t, patience, func() bool {
					return strings.Contains(n.Log(), unknown+" must be found out first")
				}, "the standby does not ask for the parent's segment")
				release()
				everSeen := map[string]bool{}
				pgtest.Eventually(t, patience, func() bool {
					rows, err := n.TryQuery(t.Context(), "select name from mark")
					for _, row := range rows {
						everSeen[row[0]] = true
					}
					return err == nil && everSeen["child"]
				}, "the standby does not find the child's WAL")
				if everSeen["abandoned"] {
					t.Error("the standby has shown the abandoned row")
				}
				n.Promote()
				wantMarks(t, n, "child common")
				checkHeapAndIndexes(t, n)
			})
		}
	})
}

// wantFatal starts a server that has to end by itself, with something in its log.
func wantFatal(t *testing.T, c *pgtest.Cluster, text string) {
	t.Helper()
	c.Launch()
	if code := c.WaitExit(patience); code == 0 {
		t.Error("the server ended with 0")
	}
	log := c.Log()
	if !strings.Contains(log, "FATAL") || !strings.Contains(log, text) {
		t.Errorf("no FATAL, or no %q in the log:\n%s", text, log)
	}
	if strings.Contains(log, "archive recovery complete") {
		t.Error("the server has opened the database")
	}
}

// TestForkOnABorder: the parent's last segment ends where the child's first one
// begins.
func TestForkOnABorder(t *testing.T) {
	eachMajor(t, func(t *testing.T, major int) {
		old := newPrimary(t, major)
		w := newWAL(t, old)
		first := walFile(old)
		backup := old.BaseBackup(t, "").Dir
		standby := old.Standby(t, quick)
		mark(old, "common")
		border := old.SwitchWAL()
		old.WaitFor("select replay_lsn = pg_current_wal_lsn() from pg_stat_replication", "t", patience)
		old.Stop(pgtest.Immediate)
		standby.Promote()
		fork := forkOf(t, standby, 2)
		if number := w.name(border).Number; segment.LSN(number+1)*1<<20 != fork {
			t.Fatalf("the fork is at %s, not at the end of %s", fork, border)
		}
		mark(standby, "child")
		next := standby.SwitchWAL()
		w.put(old, w.segments(first, border)...)
		w.putHistory(standby, 2)
		n := old.Recover(t, backup, w.settings("--retry-for", "5s"))
		wantMarks(t, n, "common")
		w.put(standby, next)
		n = old.Recover(t, backup, w.settings("--retry-for", "5s"))
		wantMarks(t, n, "child common")
		checkHeapAndIndexes(t, n)
	})
}

// forkOf is where a timeline left its parent.
func forkOf(t *testing.T, c *pgtest.Cluster, timeline segment.TimelineID) segment.LSN {
	t.Helper()
	data, err := os.ReadFile(c.WALFile(segment.HistoryName(timeline)))
	if err != nil {
		t.Fatal(err)
	}
	h, err := segment.ParseHistory(timeline, data)
	if err != nil {
		t.Fatal(err)
	}
	return h.Entries[len(h.Entries)-1].End
}

// TestTwoForksInOneSegment: two promotions within one segment.
func TestTwoForksInOneSegment(t *testing.T) {
	eachMajor(t, func(t *testing.T, major int) {
		one := newPrimary(t, major)
		w := newWAL(t, one)
		first := walFile(one)
		backup := one.BaseBackup(t, "").Dir
		two, three := one.Standby(t, quick), one.Standby(t, quick)
		one.SwitchWAL() // room for all of it in one segment
		mark(one, "1")
		follows(two, "1")
		follows(three, "1")
		disconnect(two)
		disconnect(three)
		fork := walFile(one)
		mark(one, "1-abandoned")
		one.SwitchWAL()

		two.Promote()
		mark(two, "2")
		three.Set(map[string]string{"primary_conninfo": two.SocketConn("replication"), "primary_slot_name": ""})
		three.Reload()
		follows(three, "1 2")
		disconnect(three)
		mark(two, "2-abandoned")
		if end := two.SwitchWAL(); end != child(fork) {
			t.Fatalf("timeline 1 ends in %s, timeline 2 in %s", fork, end)
		}

		three.Promote()
		mark(three, "3")
		w.put(one, w.segments(first, fork)...)
		w.put(two, child(fork))
		w.putHistory(three, 2)
		w.putHistory(three, 3)
		n := one.Recover(t, backup, w.settings("--retry-for", "5s"))
		wantMarks(t, n, "1 2")
		checkHeapAndIndexes(t, n)
		w.put(three, three.SwitchWAL())
		n = one.Recover(t, backup, w.settings("--retry-for", "5s"))
		wantMarks(t, n, "1 2 3")
		checkHeapAndIndexes(t, n)
	})
}

// follows waits until a standby shows these rows.
func follows(s *pgtest.Cluster, rows string) {
	s.WaitFor("select coalesce(string_agg(name, ' ' order by name), '') from mark", rows, patience)
}

// disconnect takes a standby's primary away and waits until it has noticed.
func disconnect(s *pgtest.Cluster) {
	s.Set(map[string]string{"primary_conninfo": ""})
	s.Reload()
	s.WaitFor("select count(*) from pg_stat_wal_receiver", "0", patience)
}
