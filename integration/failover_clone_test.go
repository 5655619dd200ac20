package integration

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/pgtest"
)

// TestCloneIntoTheSameArchive: a clone of production, restored to a point in the
// past with the archive's help and promoted, archives into that very archive. It
// is refused, and production is restored as if it had never been there.
func TestCloneIntoTheSameArchive(t *testing.T) {
	t.Parallel()
	eachMajor(t, func(t *testing.T, major int) {
		production, archive := newPrimary(t, major), newArchive(t)
		r := newReceiver(t, production, "--archive", archive).start()
		command := restoreCommand(r.bin, "--archive "+archive)
		backup := production.BaseBackup(t, "").Dir
		mark(production, "common")
		production.Exec("select pg_create_restore_point('clone')")
		fill(production, 4)
		mark(production, "production")
		awaitArchived(t, production, archive)

		clone := production.Recover(t, backup, map[string]string{
			"restore_command": command, "recovery_target_name": "clone", "recovery_target_action": "promote",
		})
		mark(clone, "clone")
		fill(clone, 6) // more than production has
		files := withoutTail(treeOf(t, archive))
		theirs := newReceiver(t, clone, "--archive", archive)
		theirs.ends(4, "timeline 1 is archived up to", "--accept-branch")
		sameFiles(t, withoutTail(treeOf(t, archive)), files)
		if left := sealedNames(t, theirs.spool); len(left) > 0 {
			t.Errorf("the spool of the clone has %v", left)
		}

		mark(production, "later")
		r.flushed()
		awaitArchived(t, production, archive)
		n := production.Recover(t, backup, map[string]string{"restore_command": command})
		wantMarks(t, n, "common later production")
		checkHeapAndIndexes(t, n)
		if got := n.Query("select timeline_id from pg_control_checkpoint()"); got != "2" {
			t.Errorf("production was restored to a timeline whose child is %s, not 2", got)
		}
		r.stop()
		r.undisturbed()
	})
}

// TestCloneWithTheNameOfOurTimeline: production fails over to timeline 2, and a
// clone, of an earlier point, is on a timeline 2 of its own and further on.
func TestCloneWithTheNameOfOurTimeline(t *testing.T) {
	t.Parallel()
	eachMajor(t, func(t *testing.T, major int) {
		production, archive := newPrimary(t, major), newArchive(t)
		standby := standbyOf(t, production, production, nil)
		r := newReceiver(t, production, "--archive", archive, "--primary-only", "-d", allOf(production, standby)).start()
		command := restoreCommand(r.bin, "--archive "+archive)
		backup := production.BaseBackup(t, "").Dir
		production.Exec("select pg_create_restore_point('clone')")
		mark(production, "before")
		awaitArchived(t, production, archive)
		follows(standby, "before")
		clone := production.Recover(t, backup, map[string]string{
			"restore_command": command, "recovery_target_name": "clone", "recovery_target_action": "promote",
		})
		production.Kill9()
		standby.Promote()
		mark(standby, "after")
		awaitArchived(t, standby, archive)
		mark(clone, "clone")
		fill(clone, 10)
		if ours, theirs := standby.FlushLSN(), clone.FlushLSN(); parseLSN(t, theirs) < parseLSN(t, ours) {
			t.Fatalf("the clone is at %s, production at %s", theirs, ours)
		}

		files := withoutTail(treeOf(t, archive))
		theirs := newReceiver(t, clone, "--archive", archive)
		theirs.ends(4, "00000002.history")
		sameFiles(t, withoutTail(treeOf(t, archive)), files)
		r.stop()
		r.undisturbed()
		n := production.Recover(t, backup, map[string]string{"restore_command": command})
		wantMarks(t, n, "after before")
		checkHeapAndIndexes(t, n)
	})
}

// TestTwoReceiversIntoOneArchive: each has a spool and a slot of its own; killed and
// started in turn, through a promotion, they do each other no harm, and either is
// enough.
func TestTwoReceiversIntoOneArchive(t *testing.T) {
	t.Parallel()
	eachMajor(t, func(t *testing.T, major int) {
		a, archive, kept := newPrimary(t, major), newArchive(t), pgtest.TempDir(t)
		b := a.Standby(t, quick)
		first := walFile(a)
		var both []*receiver
		for _, slot := range []string{"one", "two"} {
			both = append(both, newReceiver(t, a, "--archive", archive, "-S", slot,
				"-d", allOf(a, b)+" target_session_attrs=primary application_name="+slot).start())
		}
		backup := a.BaseBackup(t, "").Dir
		for i := range 4 {
			fill(a, 3)
			both[i%2].Kill()
			fill(a, 2)
			both[i%2].start()
		}
		mark(a, "before")
		follows(b, "before")
		a.Kill9()
		keepWAL(t, kept, a, 1)
		b.Promote()
		mark(b, "after")
		fill(b, 3)
		for _, slot := range []string{"one", "two"} {
			b.WaitFor("select coalesce(max(flush_lsn), '0/0') >= '"+b.FlushLSN()+"' from pg_stat_replication where application_name = '"+slot+"'", "t", patience)
		}
		last := awaitArchived(t, b, archive)
		for _, r := range both {
			r.stop()
			r.undisturbed()
			if err := os.RemoveAll(r.spool); err != nil {
				t.Fatal(err)
			}
		}
		keepWAL(t, kept, b, 2)
		w := archiveOf(t, b, archive)
		w.isWhole(w.history(kept, 2), kept, first, last)
		n := a.Recover(t, backup, map[string]string{"restore_command": restoreCommand(both[0].bin, "--archive "+archive)})
		wantMarks(t, n, "after before")
		checkHeapAndIndexes(t, n)
	})
}

// undisturbed checks that nothing was alarming.
func (r *receiver) undisturbed() {
	r.t.Helper()
	if alarms := r.logged(`"level":"ERROR"`); len(alarms) > 0 {
		r.t.Errorf("alarms: %v", alarms)
	}
}

// withoutTail leaves out of an archive what a receiver that goes on may change.
func withoutTail(files []string) []string {
	return slices.DeleteFunc(files, func(f string) bool { return strings.Contains(f, "/tail/") })
}
