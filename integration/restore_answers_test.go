package integration

import (
	"os"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/pgtest"
)

// lineage is a cluster with some WAL, all of it archived, a backup from its
// beginning, and rows before and after the segment in the middle.
type lineage struct {
	wal      *wal
	c        *pgtest.Cluster
	backup   string
	middle   string // one of them, between the rows "one" and "two"
	wantRows string
}

func newLineage(t *testing.T, major int) *lineage {
	l := &lineage{c: newPrimary(t, major), wantRows: "one two"}
	l.wal = newWAL(t, l.c)
	first := walFile(l.c)
	l.backup = l.c.BaseBackup(t, "").Dir
	mark(l.c, "one")
	l.c.SwitchWAL()
	fill(l.c, 3)
	l.middle = walFile(l.c)
	l.c.SwitchWAL()
	fill(l.c, 2)
	mark(l.c, "two")
	l.wal.put(l.c, l.wal.segments(first, l.c.SwitchWAL())...)
	return l
}

// trouble spoils an archive and returns what makes it good again.
type trouble struct {
	name  string
	spoil func(t *testing.T, l *lineage) (repair func())
	code  string // of the exit that the server's log tells of
	says  string // what walrecv says in the server's log
}

func troubles() []trouble {
	swap := func(path func(l *lineage) string, change func(t *testing.T, path string)) func(t *testing.T, l *lineage) func() {
		return func(t *testing.T, l *lineage) func() {
			path := path(l)
			if err := os.Rename(path, path+".good"); err != nil {
				t.Fatal(err)
			}
			change(t, path)
			return func() {
				if err := os.Rename(path+".good", path); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	middle := func(l *lineage) string { return l.wal.object(l.middle) }
	rewrite := func(edit func(data []byte) []byte) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			data, err := os.ReadFile(path + ".good")
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, edit(data), 0o600); err != nil {
				t.Fatal(err)
			}
			pgtest.Give(t, path)
		}
	}
	return []trouble{
		{name: "the store hangs", code: "200", says: "gave up waiting for the store", spoil: func(t *testing.T, l *lineage) func() { return l.wal.hang(l.wal.identity()) }},
		{name: "an object hangs", code: "200", says: "gave up waiting for the store", spoil: func(t *testing.T, l *lineage) func() { return l.wal.hang(l.wal.object(l.middle)) }},
		{name: "the archive is not mounted", code: "201", says: "is it mounted", spoil: swap(
			func(l *lineage) string { return l.wal.dir },
			func(t *testing.T, path string) {
				if err := os.Mkdir(path, 0o755); err != nil {
					t.Fatal(err)
				}
			})},
		{name: "the archive is gone", code: "201", says: "is not there", spoil: swap(
			func(l *lineage) string { return l.wal.dir }, func(*testing.T, string) {})},
		{name: "a segment is missing", code: "202", says: "later segments of timeline 1 are there", spoil: swap(middle, func(*testing.T, string) {})},
		{name: "a segment is truncated", code: "202", says: "is damaged", spoil: swap(middle, rewrite(func(d []byte) []byte { return d[:len(d)/2] }))},
		{name: "a segment has a bit flipped", code: "202", says: "is damaged", spoil: swap(middle, rewrite(func(d []byte) []byte {
			d[len(d)/3] ^= 8
			return d
		}))},
	}
}

// TestRecoveryDoesNotEndEarly: whatever is wrong with the archive, the server
// ends with FATAL instead of opening the database, and recovers everything as
// soon as the archive is good again.
func TestRecoveryDoesNotEndEarly(t *testing.T) {
	eachMajor(t, func(t *testing.T, major int) {
		l := newLineage(t, major)
		for _, tr := range troubles() {
			t.Run(tr.name, func(t *testing.T) {
				repair := tr.spoil(t, l)
				n := l.c.Restore(t, l.backup, pgtest.RecoverySignal, l.wal.settings("--retry-for", "1s"))
				wantFatal(t, n, "exit code "+tr.code)
				if !strings.Contains(n.Log(), tr.says) {
					t.Errorf("%q is not in the log", tr.says)
				}
				restoreGood(t, repair, l)
				n.Start()
				n.WaitFor("select pg_is_in_recovery()", "f", patience)
				wantMarks(t, n, l.wantRows)
				checkHeapAndIndexes(t, n)
			})
		}
	})
}

// restoreGood makes the archive good again, also where a directory is in the way.
func restoreGood(t *testing.T, repair func(), l *lineage) {
	t.Helper()
	if err := os.Remove(l.wal.dir); err != nil && !os.IsNotExist(err) && !isNotEmpty(err) {
		t.Fatal(err)
	}
	repair()
}

func isNotEmpty(err error) bool { return strings.Contains(err.Error(), "not empty") }

// TestStandbyOutlivesTheArchive: the same on a standby, which goes on streaming.
func TestStandbyOutlivesTheArchive(t *testing.T) {
	eachMajor(t, func(t *testing.T, major int) {
		l := newLineage(t, major)
		for _, tr := range troubles() {
			t.Run(tr.name, func(t *testing.T) {
				repair := tr.spoil(t, l)
				n := l.c.Restore(t, l.backup, pgtest.StandbySignal, with(l.wal.settings("--retry-for", "1s"),
					"primary_conninfo", l.c.SocketConn("replication")))
				n.Start()
				n.WaitFor("select coalesce(string_agg(name, ' ' order by name), '') from mark", l.wantRows, patience)
				if !strings.Contains(n.Log(), tr.says) {
					t.Errorf("%q is not in the log", tr.says)
				}
				restoreGood(t, repair, l)
				n.Promote()
				wantMarks(t, n, l.wantRows)
				checkHeapAndIndexes(t, n)
			})
		}
	})
}

// TestArchiveOfAnotherCluster is refused in both modes, at the first call.
func TestArchiveOfAnotherCluster(t *testing.T) {
	eachMajor(t, func(t *testing.T, major int) {
		l := newLineage(t, major)
		other := pgtest.New(t, pgtest.Options{Major: major, WALSegmentSize: 1 << 20, Fresh: true})
		other.Start()
		theirs := newWAL(t, other)
		theirs.put(other, other.SwitchWAL())
		for _, signal := range []pgtest.Signal{pgtest.RecoverySignal, pgtest.StandbySignal} {
			n := l.c.Restore(t, l.backup, signal, theirs.settings("--retry-for", "1s"))
			wantFatal(t, n, "exit code 201")
			if !strings.Contains(n.Log(), "only of "+other.SystemID()) {
				t.Error("the log does not say whose archive it is")
			}
		}
	})
}

// TestEndOfTheArchive: 1 ends the recovery of a server that has no target, at the
// last row that is archived, and the partial of an ended timeline is WAL, too.
func TestEndOfTheArchive(t *testing.T) {
	eachMajor(t, func(t *testing.T, major int) {
		l := newLineage(t, major)
		mark(l.c, "three")
		begun := walFile(l.c)
		recovered := func(settings map[string]string, want string) {
			t.Helper()
			n := l.c.Recover(t, l.backup, settings)
			wantMarks(t, n, want)
			checkHeapAndIndexes(t, n)
			n.Destroy()
		}
		recovered(l.wal.settings(), "one two")
		l.wal.putPartial(l.c, begun)
		recovered(l.wal.settings("--tail", "never"), "one two")
		recovered(l.wal.settings(), "one three two")
		// A target in the middle is reached, and one behind the end is not: the
		// server says so instead of opening.
		recovered(with(l.wal.settings(), "recovery_target_name", "", "recovery_target_inclusive", "on"), "one three two")
		n := l.c.Restore(t, l.backup, pgtest.RecoverySignal, with(l.wal.settings(), "recovery_target_lsn", "FF/0"))
		wantFatal(t, n, "recovery ended before configured recovery target was reached")
	})
}
