package integration

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/pgtest"
)

// The tests named TestRecovery... are PostgreSQL's own recovery scenarios, with
// "walrecv restore" as restore_command and, but where that is impossible, an
// archive that "walrecv receive" has filled:
//
//	002_archiving                 TestRecoveryFromOneArchive
//	003_recovery_targets          TestRecoveryFromOneArchive
//	004_timeline_switch           TestRecoveryAlongTimelines
//	020_archive_status            not here: archive_command is not ours
//	005, 007, 019                 not here: streaming replication without an archive
//	023_pitr_prepared_xact        TestRecoveryFromOneArchive
//	024_archive_recovery          TestRecoveryFromOneArchive
//	025_stuck_on_old_timeline     TestRecoveryAlongTimelines
//	026_overwrite_contrecord      TestRecoveryOverAHalfRecord
//	028_pitr_timelines            TestRecoveryToAPointOnTheParent
//	039_end_of_wal                not here: tables in segment's tests
//	043_no_contrecord_switch      TestRecoveryAtAZeroedPage
//	045_archive_restartpoint      TestRecoveryFromOneArchive
//
// and TestRecoveryWithoutOneObject, which is not one of them.

// eachOfFewMajors runs a test that takes long.
func eachOfFewMajors(t *testing.T, test func(t *testing.T, major int)) {
	t.Parallel()
	for _, major := range pgtest.FewVersions(t) {
		t.Run(fmt.Sprintf("pg%d", major), func(t *testing.T) { test(t, major) })
	}
}

// history is a primary whose WAL a receiver archives, with a backup from before
// all that has happened since.
type history struct {
	t       testing.TB
	p       *pgtest.Cluster
	r       *receiver
	archive string
	system  string
	backup  string
}

func newHistory(t testing.TB, major int, settings ...string) *history {
	t.Helper()
	h := &history{t: t, archive: newArchive(t)}
	h.p = pgtest.New(t, pgtest.Options{
		Major: major, WALSegmentSize: 1 << 20,
		Settings: with(map[string]string{"wal_keep_size": "1GB", "max_wal_size": "2GB", "autovacuum": "off"}, settings...),
	})
	h.p.Start()
	h.system = h.p.SystemID()
	h.p.Exec("create table mark(name text primary key)")
	mark(h.p, "0")
	h.r = newReceiver(t, h.p, "--archive", h.archive).start()
	h.backup = h.p.BaseBackup(t, "").Dir
	return h
}

// from makes the receiver go on at another server, with the same spool.
func (h *history) from(c *pgtest.Cluster) {
	h.t.Helper()
	h.r = inSpool(h.t, c, h.r.spool, "-S", "walrecv", "--ensure-slot", "--archive", h.archive).start()
}

// path is that of an archived file: a segment or a history.
func (h *history) path(name string) string {
	if strings.HasSuffix(name, ".history") {
		return filepath.Join(h.archive, h.system, "wal", name)
	}
	return filepath.Join(h.archive, h.system, "wal", name[:8], name+".zst")
}

// archived waits until files are archived.
func (h *history) archived(names ...string) {
	h.t.Helper()
	for _, name := range names {
		pgtest.Eventually(h.t, patience, func() bool {
			_, err := os.Stat(h.path(name))
			return err == nil
		}, "%s does not get archived", name)
	}
}

// settings make a server restore from the archive and, in a recovery, open at its
// target.
func (h *history) settings(more ...string) map[string]string {
	return with(map[string]string{
		"restore_command":             restoreCommand(h.r.bin, "--archive "+h.archive+" --retry-for 5s --tail never"),
		"wal_retrieve_retry_interval": "200ms",
		"recovery_target_action":      "promote",
	}, more...)
}

// recovered recovers the backup, compares the rows, and returns the server.
func (h *history) recovered(t *testing.T, rows string, more ...string) *pgtest.Cluster {
	t.Helper()
	n := h.p.Recover(t, h.backup, h.settings(more...))
	wantMarks(t, n, rows)
	checkHeapAndIndexes(t, n)
	return n
}

// points are the places in a history that a recovery can be told to end at.
type points struct {
	xid, time, lsn string
}

// live makes a history with a row for each kind of target, a prepared
// transaction, and some segments.
func (h *history) live() points {
	p, at := h.p, points{}
	at.xid = p.Query("insert into mark values ('1') returning pg_current_xact_id()")
	mark(p, "2")
	at.time = p.Query("select clock_timestamp()")
	mark(p, "3")
	p.Exec("select pg_create_restore_point('three')")
	mark(p, "4")
	at.lsn = p.Query("select pg_current_wal_insert_lsn()")
	p.Exec("begin; insert into mark values ('5'); prepare transaction 'five'")
	p.Exec("select pg_create_restore_point('prepared')")
	p.Exec("commit prepared 'five'")
	h.segments(0, 8)
	return at
}

// segments writes and archives segments with a row each and a checkpoint in some.
func (h *history) segments(from, to int) {
	h.t.Helper()
	last := ""
	for i := from; i < to; i++ {
		mark(h.p, fmt.Sprint("s", i))
		last = h.p.SwitchWAL()
		if i%4 == 0 {
			h.p.Exec("checkpoint")
		}
	}
	h.archived(last)
}

// TestRecoveryFromOneArchive is what can be done with a single archive.
func TestRecoveryFromOneArchive(t *testing.T) {
	eachOfFewMajors(t, func(t *testing.T, major int) {
		h := newHistory(t, major, "max_prepared_transactions", "4")
		at := h.live()
		for target, rows := range map[[2]string]string{
			{"recovery_target", "immediate"}:  "0",
			{"recovery_target_xid", at.xid}:   "0 1",
			{"recovery_target_time", at.time}: "0 1 2",
			{"recovery_target_name", "three"}: "0 1 2 3",
			{"recovery_target_lsn", at.lsn}:   "0 1 2 3 4",
		} {
			t.Run(target[0], func(t *testing.T) {
				n := h.recovered(t, rows, target[0], target[1], "recovery_end_command", "false")
				if log := n.Log(); !strings.Contains(log, `WARNING:  recovery_end_command "false"`) {
					t.Error("the failure of recovery_end_command is no warning")
				}
			})
		}
		t.Run("two targets", func(t *testing.T) {
			n := h.p.Restore(t, h.backup, pgtest.RecoverySignal, h.settings("recovery_target_name", "three", "recovery_target_xid", at.xid))
			wantFatal(t, n, "multiple recovery targets specified")
		})
		t.Run("a target that never comes", func(t *testing.T) {
			n := h.p.Restore(t, h.backup, pgtest.RecoverySignal, h.settings("recovery_target_name", "nowhere"))
			wantFatal(t, n, "recovery ended before configured recovery target was reached")
		})
		t.Run("a prepared transaction", func(t *testing.T) { preparedTransaction(t, h) })
		standby := restartPoints(t, h)
		anotherStandby(t, h, standby)
		t.Run("minimal WAL", func(t *testing.T) { minimalWAL(t, h, standby) })
	})
}

// preparedTransaction recovers to just after the PREPARE: the last of two settings
// says so. The transaction can be committed, and a crash does not lose it.
func preparedTransaction(t *testing.T, h *history) {
	n := h.p.Restore(t, h.backup, pgtest.RecoverySignal, h.settings())
	conf, err := os.OpenFile(filepath.Join(n.DataDir, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = conf.WriteString("recovery_target_name = 'three'\nrecovery_target_name = 'prepared'\n")
		err = errors.Join(err, conf.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	n.Start()
	n.WaitFor("select pg_is_in_recovery()", "f", patience)
	wantMarks(t, n, "0 1 2 3 4")
	if got := n.Query("select string_agg(gid, ' ') from pg_prepared_xacts"); got != "five" {
		t.Fatalf("prepared transactions: %q", got)
	}
	n.Exec("commit prepared 'five'")
	n.Kill9()
	n.Start()
	wantMarks(t, n, "0 1 2 3 4 5")
	checkHeapAndIndexes(t, n)
}

// allRows are those of live that are archived.
func allRows(more ...string) string {
	rows := []string{"0", "1", "2", "3", "4", "5"}
	rows = append(rows, more...)
	for _, i := range []int{0, 1, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 2, 20, 21, 22, 23, 3, 4, 5, 6, 7, 8, 9} {
		rows = append(rows, fmt.Sprint("s", i))
	}
	return strings.Join(rows, " ")
}

// restartPoints recovers many segments on a standby that has only the archive and
// keeps little WAL, with restart points on the way. archive_cleanup_command is
// called at each of them with a segment that is archived, recovery_end_command
// not before the promotion.
func restartPoints(t *testing.T, h *history) *pgtest.Cluster {
	calls := filepath.Join(pgtest.TempDir(t), "calls")
	s := h.p.Restore(t, h.backup, pgtest.StandbySignal, h.settings(
		"archive_cleanup_command", "echo cleanup %r >>"+calls, "recovery_end_command", "echo end %r >>"+calls,
		"wal_keep_size", "0", "max_wal_size", "4MB", "min_wal_size", "2MB", "primary_conninfo", ""))
	s.Start()
	for wave := 8; wave <= 24; wave += 8 {
		s.WaitFor(fmt.Sprintf("select count(*) from mark where name = 's%d'", wave-1), "1", patience)
		s.Exec("checkpoint")
		if wave < 24 {
			h.segments(wave, wave+8)
		}
	}
	mark(h.p, "not archived")
	h.r.flushed()
	before, err := os.ReadFile(calls)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(before)) {
		verb, oldest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if _, err := os.Stat(h.path(oldest)); verb != "cleanup" || err != nil {
			t.Errorf("called with %q: %v", line, err)
		}
	}
	if n := strings.Count(string(before), "\n"); n < 3 {
		t.Errorf("only %d restart points", n)
	}
	h.r.stop()
	h.p.Stop(pgtest.Fast)
	s.Promote()
	after, err := os.ReadFile(calls)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(after), "end "); n != 1 {
		t.Errorf("recovery_end_command was called %d times", n)
	}
	wantMarks(t, s, allRows())
	checkHeapAndIndexes(t, s)
	for _, name := range []string{"RECOVERYXLOG", "RECOVERYHISTORY"} {
		if _, err := os.Stat(s.WALFile(name)); !os.IsNotExist(err) {
			t.Errorf("%s is left: %v", name, err)
		}
	}
	if entries := listed(t, s.WALDir()); strings.Contains(entries, ".tmp") {
		t.Errorf("scratch files are left: %s", entries)
	}
	return s
}

// anotherStandby has only the archive, too, and follows to the timeline of the
// first one, whose WAL the receiver archives now.
func anotherStandby(t *testing.T, h *history, s *pgtest.Cluster) {
	h.from(s)
	mark(s, "child")
	h.archived("00000002.history", s.SwitchWAL())
	n := h.p.Restore(t, h.backup, pgtest.StandbySignal, h.settings())
	n.Start()
	follows(n, allRows("child"))
	if !strings.Contains(n.Log(), `restored log file "00000002.history" from archive`) {
		t.Error("the history did not come from the archive")
	}
	n.Promote()
	checkHeapAndIndexes(t, n)
}

// minimalWAL: WAL of a server that wrote less than a recovery needs ends the
// recovery, and a standby, with an error.
func minimalWAL(t *testing.T, h *history, s *pgtest.Cluster) {
	s = s.With(t)
	backup := s.BaseBackup(t, "").Dir
	h.r.flushed()
	h.r.stop()
	s.Exec("select pg_drop_replication_slot('walrecv')")
	s.Set(map[string]string{"wal_level": "minimal", "max_wal_senders": "0"})
	s.Restart(pgtest.Fast)
	s.Exec("begin; create table skipped(i int); insert into skipped select generate_series(1, 1000); commit")
	s.Set(map[string]string{"wal_level": "", "max_wal_senders": ""})
	s.Restart(pgtest.Fast)
	h.from(s)
	h.archived(s.SwitchWAL())
	for _, signal := range []pgtest.Signal{pgtest.RecoverySignal, pgtest.StandbySignal} {
		n := s.Restore(t, backup, signal, h.settings("archive_cleanup_command", "", "recovery_end_command", ""))
		says := "cannot continue recovering"
		if s.Major < 14 {
			says = "hot standby is not possible because wal_level was not set"
		}
		wantFatal(t, n, says)
	}
	h.r.stop()
}
