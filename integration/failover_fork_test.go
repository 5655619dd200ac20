package integration

import (
	"path/filepath"
	"testing"

	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/segment"
)

// beyond is a receiver that has more of timeline 1 than the server that goes on
// with timeline 2: the standby lost its connection before the primary was lost.
type beyond struct {
	t        *testing.T
	old, new *pgtest.Cluster
	receiver *receiver
	archive  string
	backup   string
	kept     string
	first    string
	fork     string      // segment of timeline 1 in which it forks
	end      segment.LSN // of the WAL that the receiver has of timeline 1
}

// newBeyond lets the old primary go on alone for as long as more does, and then
// loses it.
func newBeyond(t *testing.T, major int, more func(b *beyond)) *beyond {
	t.Helper()
	b := &beyond{t: t, old: newPrimary(t, major), archive: newArchive(t), kept: pgtest.TempDir(t)}
	b.new = b.old.Standby(t, quick)
	b.first = walFile(b.old)
	b.receiver = newReceiver(t, b.old, "--archive", b.archive, "-d", allOf(b.old, b.new)+" target_session_attrs=primary").start()
	b.backup = b.old.BaseBackup(t, "").Dir
	b.old.SwitchWAL() // so that what comes fits into a segment
	mark(b.old, "common")
	follows(b.new, "common")
	disconnect(b.new)
	b.fork = walFile(b.old)
	mark(b.old, "abandoned")
	more(b)
	b.end = parseLSN(t, b.old.FlushLSN())
	b.receiver.reaches(b.old, b.end.String())
	b.old.Kill9()
	keepWAL(t, b.kept, b.old, 1)
	b.new.Promote()
	mark(b.new, "child")
	return b
}

// abandon fills the segment that the old primary writes, and waits until it is
// archived.
func (b *beyond) abandon() {
	b.t.Helper()
	emit(b.old, 300)
	name := awaitArchived(b.t, b.old, b.archive)
	mark(b.old, "abandoned after "+name)
}

// goesOn checks that the new timeline is archived as a whole, and that recovery
// follows it, or the abandoned one if it is told to.
func (b *beyond) goesOn(abandoned string) {
	b.t.Helper()
	b.receiver.reaches(b.new, b.new.FlushLSN())
	last := awaitArchived(b.t, b.new, b.archive)
	keepWAL(b.t, b.kept, b.new, 2)
	w := archiveOf(b.t, b.new, b.archive)
	w.isWhole(w.history(b.kept, 2), b.kept, b.first, last)
	for line, rows := range map[string]string{"latest": "child common", "1": abandoned} {
		n := b.old.Recover(b.t, b.backup, map[string]string{
			"restore_command": restoreCommand(b.receiver.bin, "--archive "+b.archive), "recovery_target_timeline": line,
		})
		wantMarks(b.t, n, rows)
		checkHeapAndIndexes(b.t, n)
		n.Destroy()
	}
}

// keepsPartial checks that spool and archive hold the segment of timeline 1 that
// was begun last, as far as the old primary had written it.
func (b *beyond) keepsPartial() {
	b.t.Helper()
	w := archiveOf(b.t, b.new, b.archive)
	n := segment.Name{Timeline: 1, Number: w.size.Number(b.end)}
	partials := w.partials(n)
	if len(partials) != 1 {
		b.t.Errorf("%d partials of %s are archived, want 1", len(partials), n.Format(w.size))
	}
	spooled := readFile(b.t, filepath.Join(b.receiver.spool, n.Format(w.size)+segment.PartialSuffix))
	for _, p := range append(partials, spooled) {
		w.begun(n, p, b.end, b.kept)
	}
}

// TestFailoverBehindOurPosition: what the new primary never had is kept, and the
// new timeline goes on; but not where it leaves far more behind than a failover
// does.
func TestFailoverBehindOurPosition(t *testing.T) {
	t.Parallel()
	t.Run("in the same segment", func(t *testing.T) {
		eachMajor(t, func(t *testing.T, major int) {
			b := newBeyond(t, major, func(*beyond) {})
			b.goesOn("abandoned common")
			b.receiver.stop()
			b.keepsPartial()
		})
	})
	t.Run("in the next segment", func(t *testing.T) {
		eachMajor(t, func(t *testing.T, major int) {
			b := newBeyond(t, major, (*beyond).abandon)
			b.goesOn("abandoned abandoned after " + b.fork + " common")
			b.receiver.stop()
			b.keepsPartial()
		})
	})
	t.Run("two segments on", func(t *testing.T) {
		eachMajor(t, func(t *testing.T, major int) {
			second := ""
			b := newBeyond(t, major, func(b *beyond) {
				b.abandon()
				second = walFile(b.old)
				b.abandon()
			})
			b.receiver.ended(4, "timeline 1 is archived up to", "--accept-branch")
			files := treeOf(t, b.archive) // the tail was archived until then
			b.receiver.ends(4, "timeline 1 is archived up to", "--accept-branch")
			sameFiles(t, treeOf(t, b.archive), files)
			plain := b.receiver.args
			b.receiver.args = append(plain[:len(plain):len(plain)], "--accept-branch")
			b.receiver.cluster = b.new
			b.receiver.start()
			b.goesOn("abandoned abandoned after " + b.fork + " abandoned after " + second + " common")
			b.receiver.stop()
			b.keepsPartial()
			// Once let in, it is not asked about again.
			b.receiver.args = plain
			b.receiver.start()
			mark(b.new, "later")
			b.receiver.flushed()
			b.receiver.stop()
		})
	})
}

// TestTwoFailoversInOneSegment while the receiver is away. A server that archives
// renames the segment in which it left a timeline, so none has the WAL of the
// timeline in between under its own name any more; the newest one's segment has it.
func TestTwoFailoversInOneSegment(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"off", "on"} {
		t.Run("archive_mode "+mode, func(t *testing.T) {
			eachMajor(t, func(t *testing.T, major int) { twoInOneSegment(t, major, mode) })
		})
	}
}

func twoInOneSegment(t *testing.T, major int, mode string) {
	a, archive := newPrimary(t, major), newArchive(t)
	b := standbyOf(t, a, a, nil)
	c := standbyOf(t, a, a, map[string]string{"archive_mode": mode})
	r := newReceiver(t, c, "--archive", archive, "--primary-only", "-d", allOf(a, b, c)).start()
	backup := a.BaseBackup(t, "").Dir
	a.SwitchWAL() // room for all of it in one segment
	mark(a, "1")
	r.reaches(a, a.FlushLSN())
	follows(b, "1")
	follows(c, "1")
	r.stop()

	began := walFile(a)
	a.Kill9()
	b.Promote()
	c.Upstream(b)
	c.Reload()
	mark(b, "2")
	follows(c, "1 2")
	b.Kill9()
	c.Promote()
	mark(c, "3")
	if now := walFile(c); now[8:] != began[8:] {
		t.Fatalf("timeline 1 ends in %s, timeline 3 begins in %s", began, now)
	}

	r.start()
	r.flushed()
	awaitArchived(t, c, archive)
	r.stop()
	r.undisturbed()
	for line, rows := range map[string]string{"latest": "1 2 3", "2": "1 2", "1": "1"} {
		n := a.Restore(t, backup, pgtest.RecoverySignal, map[string]string{
			"restore_command": restoreCommand(r.bin, "--archive "+archive), "recovery_target_timeline": line,
		})
		if mode == "on" && line == "2" {
			wantFatal(t, n, "exit code 202") // it would end early
			continue
		}
		n.Start()
		n.WaitFor("select pg_is_in_recovery()", "f", patience)
		wantMarks(t, n, rows)
		checkHeapAndIndexes(t, n)
		n.Destroy()
	}
}

// sameFiles compares two listings of a directory.
func sameFiles(t testing.TB, got, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%d files, want %d: %v and %v", len(got), len(want), got, want)
		return
	}
	for i := range got {
		if got[i] != want[i] {
			t.Errorf("%s, want %s", got[i], want[i])
		}
	}
}
