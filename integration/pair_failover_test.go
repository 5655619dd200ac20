package integration

import (
	"os"
	"testing"

	"github.com/walrecv/walrecv/internal/pgtest"
)

// A receiver of a pair that was away while the other one saw a failover comes back
// with less of the old timeline than that one has archived. What it has is not put
// beside it: the archive stays sound, and recovery along both timelines works.
func TestPairThroughAFailover(t *testing.T) {
	t.Parallel()
	major := pgtest.Version(t)
	primary, archive := newPrimary(t, major), newArchive(t)
	standby := standbyOf(t, primary, primary, nil)
	p := newPair(t, primary, archive, nil, "-d", allOf(primary, standby), "--primary-only")
	backup := primary.BaseBackup(t, "").Dir
	primary.SwitchWAL()
	mark(primary, "1")
	p.active.cluster = primary
	p.active.flushed()
	p.takesOver(p.active.Kill) // in the middle of the segment

	mark(primary, "2")
	p.active.flushed()
	primary.Stop(pgtest.Fast)
	standby.Promote()
	p.active.streamsAgain(2)
	mark(standby, "3")
	p.c, p.active.cluster = standby, standby
	p.active.flushed()
	p.waiting.launch()
	p.waits(p.waiting)
	p.takesOver(p.active.Kill)
	mark(standby, "4")
	awaitArchived(t, standby, archive)
	p.active.stop()

	if code, stdout, stderr := pgtest.Run(t, p.active.bin, "verify", "--deep", "--archive", archive); code != 0 {
		t.Errorf("verify ended with %d: %s%s", code, stdout, stderr)
	}
	for _, r := range []*receiver{p.active, p.waiting} {
		if err := os.RemoveAll(r.spool); err != nil {
			t.Fatal(err)
		}
	}
	n := standby.Recover(t, backup, map[string]string{"restore_command": restoreCommand(p.active.bin, "--archive "+archive)})
	wantMarks(t, n, "1 2 3 4")
}
