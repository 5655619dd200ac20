package integration

import (
	"fmt"
	"testing"

	"github.com/walrecv/walrecv/segment"
)

// moment is what the tables of pgbench held at a place in the WAL.
type moment struct {
	timeline segment.TimelineID
	lsn      string // end of the WAL of it
	at       string // time of the server
	rows     string
}

// pgbenchRows tells the content of all tables of pgbench in one line.
const pgbenchRows = `select format('%s %s %s %s',
	(select count(*) || ' ' || coalesce(md5(string_agg(h::text, ',' order by h::text)), '') from pgbench_history h),
	(select md5(string_agg(a.abalance::text, ',' order by aid)) from pgbench_accounts a),
	(select md5(string_agg(t.tbalance::text, ',' order by tid)) from pgbench_tellers t),
	(select sum(bbalance) from pgbench_branches))`

// moment takes note of this moment. While it does, no transaction can commit,
// since every one of pgbench's inserts into the locked table. Those that follow
// give recovery a place to stop, and prove that a standby has the moment.
func (tr *trio) moment() {
	tr.t.Helper()
	tr.committed(30)
	row := tr.primary.QueryRows("begin; lock table pgbench_history in share mode; " +
		"select pg_current_wal_insert_lsn(), clock_timestamp(), (" + pgbenchRows + ")")[0]
	tr.moments = append(tr.moments, moment{tr.timeline, row[0], row[1], row[2]})
	tr.committed(30)
}

// recovers restores the first backup to a moment, named by its time or by its
// position, from the archive alone.
func (tr *trio) recovers(t *testing.T, m moment, byTime bool) {
	settings := map[string]string{
		"restore_command":          restoreCommand(tr.receiver.bin, "--archive "+tr.archive),
		"recovery_target_timeline": fmt.Sprint(uint32(m.timeline)),
		"recovery_target_action":   "promote",
	}
	if byTime {
		settings["recovery_target_time"] = m.at
	} else {
		settings["recovery_target_lsn"] = m.lsn
		settings["recovery_target_inclusive"] = "off"
	}
	n := tr.primary.Recover(t, tr.backup, settings)
	defer n.Destroy()
	if got := n.Query(pgbenchRows); got != m.rows {
		t.Errorf("at %s on timeline %d: rows %s, want %s", m.lsn, m.timeline, got, m.rows)
	}
	checkHeapAndIndexes(t, n)
}

// recoversAll restores every moment, and the end.
func (tr *trio) recoversAll(end string) {
	for i, m := range tr.moments {
		tr.t.Run(fmt.Sprintf("timeline %d at %s", m.timeline, m.lsn), func(t *testing.T) { tr.recovers(t, m, i%2 == 1) })
	}
	tr.t.Run("latest", func(t *testing.T) {
		n := tr.primary.Recover(t, tr.backup, map[string]string{
			"restore_command": restoreCommand(tr.receiver.bin, "--archive "+tr.archive),
		})
		defer n.Destroy()
		if got := n.Query(pgbenchRows); got != end {
			t.Errorf("rows %s, want %s", got, end)
		}
		checkHeapAndIndexes(t, n)
	})
}

// finish ends the load and the receiver, after the receiver has archived all of
// it, and returns the rows of the end.
func (tr *trio) finish() (rows string) {
	tr.t.Helper()
	tr.load.Kill()
	tr.primary.WaitFor("select count(*) from pg_stat_activity where application_name = 'pgbench'", "0", patience)
	rows = tr.primary.Query(pgbenchRows)
	awaitArchived(tr.t, tr.primary, tr.archive)
	tr.keep(tr.primary)
	tr.receiver.stop()
	return rows
}
