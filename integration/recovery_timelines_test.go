package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/internal/vfs"
)

// TestRecoveryAlongTimelines: a cascading standby follows the promotion of the
// server that it streams from, and one that was away finds the new timeline's
// history in the archive, but none of its WAL, and streams that, too. In the end
// all of it is archived.
func TestRecoveryAlongTimelines(t *testing.T) {
	eachOfFewMajors(t, func(t *testing.T, major int) {
		h := newHistory(t, major)
		one := h.p.Standby(t, quick)
		two := one.Standby(t, h.settings())
		away := one.Standby(t, h.settings())
		mark(h.p, "1")
		follows(two, "0 1")
		follows(away, "0 1")
		away.Stop(pgtest.Fast)
		const pid = "select pid from pg_stat_wal_receiver"
		before := two.Query(pid)
		h.r.flushed()
		h.r.stop()
		h.p.Stop(pgtest.Immediate)

		one.Promote()
		copyFile(t, one.WALFile("00000002.history"), h.path("00000002.history"))
		mark(one, "2")
		follows(two, "0 1 2")
		if after := two.Query(pid); after != before {
			t.Errorf("the walreceiver was %s and is %s", before, after)
		}
		away.Start()
		follows(away, "0 1 2")
		if !strings.Contains(away.Log(), `restored log file "00000002.history" from archive`) {
			t.Error("the history did not come from the archive")
		}

		h.from(one)
		h.archived(one.SwitchWAL())
		follows(two, "0 1 2")
		h.r.stop()
		one.Stop(pgtest.Immediate)
		two.Promote()
		h.from(two)
		mark(two, "3")
		h.archived(two.SwitchWAL())
		n := h.recovered(t, "0 1 2 3")
		if got := n.Query("select timeline_id from pg_control_checkpoint()"); got != "4" {
			t.Errorf("it opened on timeline %s", got)
		}
		h.r.stop()
	})
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	pgtest.Give(t, to)
}

// TestRecoveryToAPointOnTheParent: the target lies in a segment that the archive
// holds only under the name of the next timeline, beside the parent's partial.
// What branches off there goes on from timeline 1, as timeline 3, and a recovery
// to the newest timeline goes from 1 to 3.
func TestRecoveryToAPointOnTheParent(t *testing.T) {
	eachOfFewMajors(t, func(t *testing.T, major int) {
		h := newHistory(t, major)
		s := h.p.Standby(t, quick)
		mark(h.p, "1")
		h.p.SwitchWAL()
		mark(h.p, "2")
		h.p.Exec("select pg_create_restore_point('target')")
		mark(h.p, "behind")
		fork := walFile(h.p)
		follows(s, "0 1 2 behind")
		h.r.flushed()
		h.r.stop()
		h.p.Stop(pgtest.Immediate)
		s.Promote()
		h.from(s)
		mark(s, "child")
		if got := s.SwitchWAL(); got != child(fork) {
			t.Fatalf("timeline 1 ends in %s, timeline 2 begins in %s", fork, got)
		}
		h.archived("00000002.history", child(fork))
		h.r.stop()
		partial, err := filepath.Glob(strings.TrimSuffix(h.path(fork), ".zst") + "*")
		if err != nil || len(partial) != 1 || !strings.Contains(partial[0], ".partial") {
			t.Fatalf("the archive has of the parent's segment: %q, %v", partial, err)
		}

		withPartial := restoreCommand(h.r.bin, "--archive "+h.archive+" --retry-for 5s")
		n := h.recovered(t, "0 1 2", "recovery_target_name", "target", "restore_command", withPartial)
		if log := n.Log(); !strings.Contains(log, "restored log file \""+child(fork)) || strings.Contains(log, "restored log file \""+fork) {
			t.Error("the target was not found in the child's segment")
		}
		mark(n, "pitr")
		h.r = fresh(t, n, "-S", "walrecv", "--ensure-slot", "--archive", h.archive, "--accept-branch").start()
		h.archived("00000003.history", n.SwitchWAL())
		h.r.stop()
		n = h.recovered(t, "0 1 2 pitr", "restore_command", withPartial)
		if got := n.Query("select timeline_id from pg_control_checkpoint()"); got != "4" {
			t.Errorf("it opened on timeline %s", got)
		}
	})
}

// nearly writes WAL until fewer bytes than these are left in the current unit of
// a size, a page or a segment.
func nearly(c *pgtest.Cluster, unit, left int) {
	c.Exec(fmt.Sprintf(`do $$ begin
		while %[1]d - pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0') %% %[1]d not between 100 and %[2]d loop
			perform pg_logical_emit_message(false, 'nearly', repeat('x', 200));
		end loop;
	end $$`, unit, left))
}

// message commits a record of a certain length.
func message(c *pgtest.Cluster, length int) {
	c.Exec(fmt.Sprintf("select pg_logical_emit_message(true, 'message', repeat('y', %d))", length))
}

// TestRecoveryOverAHalfRecord: the primary loses its last segment, and with it the
// second half of a record, whose first half is archived. It goes on behind it, and
// so does a recovery.
func TestRecoveryOverAHalfRecord(t *testing.T) {
	eachOfFewMajors(t, func(t *testing.T, major int) {
		h := newHistory(t, major)
		mark(h.p, "1")
		nearly(h.p, 1<<20, 8000)
		half := walFile(h.p)
		h.r.flushed()
		h.r.stop()
		message(h.p, 20_000)
		lost := walFile(h.p)
		if lost == half {
			t.Fatalf("the record ends in %s, where it begins", lost)
		}
		h.p.Kill9()
		for _, name := range sealedNames(t, h.p.WALDir()) {
			if name >= lost {
				if err := os.Remove(h.p.WALFile(name)); err != nil {
					t.Fatal(err)
				}
			}
		}
		h.p.Start()
		h.from(h.p)
		mark(h.p, "2")
		last := h.p.SwitchWAL()
		if last != lost {
			t.Fatalf("the server goes on in %s, not in %s", last, lost)
		}
		h.archived(half, lost)
		h.r.stop()
		n := h.recovered(t, "0 1 2")
		if !strings.Contains(n.Log(), "successfully skipped missing contrecord") {
			t.Error("there was no half record")
		}
		s := h.p.Restore(t, h.backup, pgtest.StandbySignal, h.settings())
		s.Start()
		follows(s, "0 1 2")
		s.Promote()
		checkHeapAndIndexes(t, s)
	})
}

// TestRecoveryAtAZeroedPage: in an archived segment a page is zero on which a
// record should go on. A standby ends there and is promoted there; another one,
// and a recovery, follow it. No server writes such a segment, so the archive is
// made by hand.
func TestRecoveryAtAZeroedPage(t *testing.T) {
	eachOfFewMajors(t, func(t *testing.T, major int) {
		p := newPrimary(t, major)
		w := newWAL(t, p)
		first := walFile(p)
		backup := p.BaseBackup(t, "").Dir
		mark(p, "1")
		p.SwitchWAL()
		mark(p, "2")
		nearly(p, 8192, 1000)
		var page int64
		if _, err := fmt.Sscan(p.Query("select (pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint % 1048576) / 8192 + 1"), &page); err != nil {
			t.Fatal(err)
		}
		message(p, 3000)
		mark(p, "lost")
		zeroed := p.SwitchWAL()
		before := w.segments(first, zeroed)
		w.put(p, before[:len(before)-1]...)
		data, err := os.ReadFile(p.WALFile(zeroed))
		w.must(err)
		clear(data[page*8192 : (page+1)*8192])
		file := filepath.Join(t.TempDir(), zeroed)
		w.must(os.WriteFile(file, data, 0o600))
		w.must(w.a.PutSegment(t.Context(), archive.NewScratch(vfs.OS(), w.work), w.name(zeroed), fileOpener(file)))
		pgtest.Give(t, w.dir)

		s := p.Restore(t, backup, pgtest.StandbySignal, w.settings("--retry-for", "5s"))
		s.Start()
		follows(s, "1 2")
		p.Stop(pgtest.Immediate)
		s.Promote()
		if !strings.Contains(s.Log(), "invalid magic number 0000") {
			t.Error("it was not a zeroed page at which it ended")
		}
		other := p.Restore(t, backup, pgtest.StandbySignal, with(w.settings("--retry-for", "5s"), "primary_conninfo", s.SocketConn("replication")))
		other.Start()
		mark(s, "child")
		follows(other, "1 2 child")
		w.putHistory(s, 2)
		w.put(s, s.SwitchWAL())
		n := p.Recover(t, backup, w.settings("--retry-for", "5s"))
		wantMarks(t, n, "1 2 child")
		for _, c := range []*pgtest.Cluster{s, n} {
			checkHeapAndIndexes(t, c)
		}
	})
}
