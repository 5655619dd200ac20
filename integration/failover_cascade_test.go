package integration

import (
	"fmt"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/pgtest"
)

// reaches waits until a server, a standby too, knows that the receiver which
// streams from it has flushed this position.
func (r *receiver) reaches(from *pgtest.Cluster, lsn string) {
	r.t.Helper()
	from.WaitFor(fmt.Sprintf("select coalesce(max(flush_lsn), '0/0') >= '%s' from pg_stat_replication where application_name = 'walrecv'", lsn), "t", patience)
}

// standbyOf makes a standby without a slot, of a server that may be a standby.
func standbyOf(t testing.TB, primary, upstream *pgtest.Cluster, settings map[string]string) *pgtest.Cluster {
	t.Helper()
	s := primary.Standby(t, map[string]string{"primary_slot_name": "", "wal_retrieve_retry_interval": "200ms"})
	s.Set(settings)
	s.Upstream(upstream)
	s.Restart(pgtest.Fast)
	upstream.WaitFor("select count(*) from pg_stat_replication where state = 'streaming' and application_name = '"+s.Name()+"'", "1", patience)
	return s
}

// TestFailoverUnderAStandby streams from a standby of a standby: its slot there
// holds WAL back, it goes along when the standby's upstream is promoted, and when
// the standby itself is, on the same connection.
func TestFailoverUnderAStandby(t *testing.T) {
	t.Parallel()
	eachMajor(t, func(t *testing.T, major int) {
		a := newPrimary(t, major)
		b := standbyOf(t, a, a, nil)
		c := standbyOf(t, a, b, map[string]string{"wal_keep_size": "0", "min_wal_size": "2MB", "wal_recycle": "off"})
		kept, archive := pgtest.TempDir(t), newArchive(t)
		first := walFile(a) // a standby's slot begins with its last restartpoint
		r := newReceiver(t, c, "--archive", archive).start()
		mark(a, "1")
		r.reaches(c, a.FlushLSN())

		r.stop()
		fill(a, 5)
		for _, s := range []*pgtest.Cluster{a, b, c} {
			s.WaitFor(fmt.Sprintf("select coalesce(pg_last_wal_replay_lsn() >= '%s', true)", a.FlushLSN()), "t", patience)
			s.Exec("checkpoint")
		}
		if n := c.Query("select count(*) from pg_replication_slots where slot_name = 'walrecv' and restart_lsn is not null"); n != "1" {
			t.Error("the standby has no slot that holds WAL back")
		}
		r.start()
		r.reaches(c, a.FlushLSN())

		load := startPgbench(t, a)
		a.WaitFor("select count(*) > 300 from pgbench_history", "t", patience)
		a.Kill9()
		load.Kill()
		keepWAL(t, kept, a, 1)
		b.Promote()
		promoted := time.Now()
		mark(b, "2")
		r.reaches(c, b.FlushLSN())
		t.Logf("the upstream's promotion: WAL of the new timeline flushed after %s", time.Since(promoted))
		fill(b, 2)
		r.reaches(c, b.FlushLSN())

		// Under load, so that the standby has sent us the beginning of a record
		// that it does not have as a whole.
		load = startPgbench(t, b)
		b.WaitFor("select count(*) > 300 from pgbench_history", "t", patience)
		c.Promote()
		promoted = time.Now()
		load.Kill()
		keepWAL(t, kept, b, 2)
		mark(c, "3")
		r.reaches(c, c.FlushLSN())
		t.Logf("its own promotion: WAL of the new timeline flushed after %s", time.Since(promoted))
		fill(c, 2)
		last := awaitArchived(t, c, archive)
		keepWAL(t, kept, c, 3)
		r.stop()

		if n := len(r.logged(`"msg":"streaming"`)); n != 3 {
			t.Errorf("it began to stream %d times, want once for each timeline", n)
		}
		if lost := r.alarms("not streaming"); len(lost) > 0 {
			t.Errorf("it lost its connection: %v", lost)
		}
		w := archiveOf(t, c, archive)
		w.isWhole(w.history(kept, 3), kept, first, last)
	})
}
