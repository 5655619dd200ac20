package integration

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/segment"
)

// pushCommand is what the documentation tells users to configure.
func pushCommand(bin, args string) string { return bin + " push " + args + " %p" }

// newPusher starts a primary that archives with "walrecv push".
func newPusher(t testing.TB, major int, archive string) *pgtest.Cluster {
	t.Helper()
	c := pgtest.New(t, pgtest.Options{
		Major: major, WALSegmentSize: 1 << 20,
		Settings: map[string]string{
			"wal_keep_size": "1GB", "max_wal_size": "2GB", "autovacuum": "off",
			"archive_mode": "on", "archive_command": pushCommand(pgtest.Build(t), "--archive "+archive),
		},
	})
	c.Start()
	c.Exec("create table mark(name text primary key)")
	return c
}

// pushed waits until the server's archiver has archived a file.
func pushed(c *pgtest.Cluster, file string) {
	c.WaitFor(fmt.Sprintf("select coalesce(last_archived_wal, '') >= '%s' from pg_stat_archiver", file), "t", patience)
}

// pushedAll ends the segment, and waits until it is archived.
func pushedAll(c *pgtest.Cluster) (last string) {
	last = walFile(c)
	c.SwitchWAL()
	pushed(c, last)
	return last
}

// neverFailed checks that an archiver has met with nothing.
func neverFailed(t testing.TB, c *pgtest.Cluster) {
	t.Helper()
	if got := c.Query("select failed_count from pg_stat_archiver"); got != "0" {
		t.Errorf("%s calls of archive_command have failed:\n%s", got, said(c))
	}
}

// said is what walrecv wrote into a server's log.
func said(c *pgtest.Cluster) string {
	var lines []string
	for line := range strings.Lines(c.Log()) {
		if strings.HasPrefix(line, "walrecv: ") || strings.HasPrefix(line, "level=") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

// TestPushBesideAReceiver: archive_command and a receiver feed one archive, and a
// base backup leaves its history there. Recovery needs nothing else.
func TestPushBesideAReceiver(t *testing.T) {
	t.Parallel()
	eachMajor(t, func(t *testing.T, major int) {
		archive := newArchive(t)
		c := newPusher(t, major, archive)
		r := newReceiver(t, c, "--archive", archive).start()
		first := walFile(c)
		fill(c, 2)
		backup := c.BaseBackup(t, "").Dir
		mark(c, "before")
		fill(c, 3)
		r.Kill() // from here on push alone
		fill(c, 3)
		mark(c, "after")
		last := pushedAll(c)
		if n := archivedLikeServer(t, c, archive, first, last); n < 8 {
			t.Errorf("only %d segments were compared", n)
		}
		if said(c) != "" {
			t.Errorf("walrecv said:\n%s", said(c))
		}
		neverFailed(t, c)
		history := only(t, c.WALFile("*.backup"))
		want, err := os.ReadFile(history)
		if err != nil {
			t.Fatal(err)
		}
		base := filepath.Base(history)
		if got, err := os.ReadFile(inArchive(c, archive, "wal", base[:8], base)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("the archived %s: %q, %v", base, got, err)
		}
		r.start() // finds what was pushed
		fill(c, 1)
		last = pushedAll(c)
		archivedLikeServer(t, c, archive, first, last)
		r.stop()
		n := c.Recover(t, backup, map[string]string{"restore_command": restoreCommand(r.bin, "--archive "+archive), "archive_mode": "off"})
		wantMarks(t, n, "after before")
		checkHeapAndIndexes(t, n)
		verifyArchive(t, archive, 0, "--deep")
	})
}

// TestPushFromAStandby: both servers of a pair push the same files. The standby is
// promoted, and goes on with its history, the partial and the new timeline.
func TestPushFromAStandby(t *testing.T) {
	t.Parallel()
	eachMajor(t, func(t *testing.T, major int) {
		archive := newArchive(t)
		c := newPusher(t, major, archive)
		first := walFile(c)
		backup := c.BaseBackup(t, "").Dir
		s := c.Standby(t, with(map[string]string{"wal_retrieve_retry_interval": "200ms"}, "archive_mode", "always"))
		fill(c, 3)
		mark(c, "before")
		last := pushedAll(c)
		pushed(s, last)
		mark(c, "begun")
		follows(s, "before begun")
		old := walFile(c)
		c.Kill9()
		s.Promote()
		mark(s, "after")
		fill(s, 2)
		end := pushedAll(s)
		neverFailed(t, s)
		if said(s) != "" {
			t.Errorf("walrecv said:\n%s", said(s))
		}
		w := archiveOf(t, s, archive)
		history := segment.HistoryName(2)
		data, err := os.ReadFile(s.WALFile(history))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(inArchive(s, archive, "wal", history)); err != nil || !bytes.Equal(got, data) {
			t.Errorf("the archived %s: %q, %v", history, got, err)
		}
		partial, err := os.ReadFile(s.WALFile(old + ".partial"))
		if err != nil {
			t.Fatal(err)
		}
		if got := w.partials(w.name(old)); len(got) != 1 || !bytes.Equal(got[0], partial) {
			t.Errorf("%d partials of %s are archived, or another one than the server's", len(got), old)
		}
		archivedLikeServer(t, s, archive, first, last)
		archivedLikeServer(t, s, archive, child(old), end)
		n := c.Recover(t, backup, map[string]string{"restore_command": restoreCommand(pgtest.Build(t), "--archive "+archive), "archive_mode": "off"})
		wantMarks(t, n, "after before begun")
		checkHeapAndIndexes(t, n)
		verifyArchive(t, archive, 0, "--deep")
	})
}

// TestPushOfARestoredTail: a standby that is fed by the archive alone hands back the
// unfinished segment that it was given, filled up with zeros. It must not take the
// place of the true one.
func TestPushOfARestoredTail(t *testing.T) {
	t.Parallel()
	eachMajor(t, func(t *testing.T, major int) {
		p := newPrimary(t, major)
		w := newWAL(t, p)
		first := walFile(p)
		settings := with(w.settings(), "primary_conninfo", "", "archive_mode", "always", "archive_command", pushCommand(w.bin, "--archive "+w.dir))
		backup := p.BaseBackup(t, "").Dir
		mark(p, "sealed")
		begun := walFile(p)
		p.SwitchWAL()
		w.put(p, w.segments(first, begun)...)
		mark(p, "tail")
		begun = walFile(p)
		w.putPartial(p, begun)
		s := p.Restore(t, backup, pgtest.StandbySignal, settings)
		s.Start()
		follows(s, "sealed tail")
		s.WaitFor("select failed_count > 0 from pg_stat_archiver", "t", patience)
		if !strings.Contains(said(s), begun+" is not complete") {
			t.Errorf("walrecv said:\n%s", said(s))
		}
		if _, err := os.Stat(w.object(begun)); err == nil {
			t.Errorf("the tail of %s was archived as a complete segment", begun)
		}
		mark(p, "complete")
		p.SwitchWAL()
		w.put(p, begun)
		fill(p, 1)
		last := walFile(p)
		p.SwitchWAL()
		w.put(p, w.segments(first, last)...)
		mark(p, "end")
		w.putPartial(p, walFile(p))
		follows(s, "complete end sealed tail")
		s.Restart(pgtest.Fast) // its archiver would wait for a minute
		pushed(s, last)
		archivedLikeServer(t, p, w.dir, first, last)
		n := p.Recover(t, backup, w.settings())
		wantMarks(t, n, "complete end sealed tail")
		checkHeapAndIndexes(t, n)
		verifyArchive(t, w.dir, 0, "--deep")
	})
}

// TestPushFromAClone: a clone of production, restored to a point in the past, has
// inherited archive_command. It is refused, and production is restored as if it had
// never been there.
func TestPushFromAClone(t *testing.T) {
	t.Parallel()
	eachMajor(t, func(t *testing.T, major int) {
		archive := newArchive(t)
		c := newPusher(t, major, archive)
		backup := c.BaseBackup(t, "").Dir
		command := restoreCommand(pgtest.Build(t), "--archive "+archive)
		mark(c, "common")
		c.Exec("select pg_create_restore_point('clone')")
		fill(c, 4)
		mark(c, "production")
		pushedAll(c)
		files := treeOf(t, archive)
		clone := c.Recover(t, backup, map[string]string{
			"restore_command": command, "recovery_target_name": "clone", "recovery_target_action": "promote",
		})
		mark(clone, "clone")
		clone.SwitchWAL()
		clone.WaitFor("select failed_count > 0 and last_failed_wal = '00000002.history' from pg_stat_archiver", "t", patience)
		if got := said(clone); !strings.Contains(got, "--accept-branch") {
			t.Errorf("walrecv said:\n%s", got)
		}
		sameFiles(t, treeOf(t, archive), files)
		if strings.Contains(clone.Log(), "terminated by") {
			t.Errorf("the archiver was ended:\n%s", clone.Log())
		}
		mark(c, "later")
		pushedAll(c)
		neverFailed(t, c)
		n := c.Recover(t, backup, map[string]string{"restore_command": command, "archive_mode": "off"})
		wantMarks(t, n, "common later production")
		checkHeapAndIndexes(t, n)
		verifyArchive(t, archive, 0, "--deep")
	})
}

// TestPushWhileTheStoreHangs: an outage of the store loses nothing, and does not hold
// up the server's shutdown, which waits for calls of archive_command until several
// have failed. The short form does without the shutdown.
func TestPushWhileTheStoreHangs(t *testing.T) {
	t.Parallel()
	archive := newArchive(t)
	versions := pgtest.FewVersions(t)
	c := newPusher(t, versions[len(versions)-1], archive)
	pushedAll(c)
	w := &wal{t: t, c: c, dir: archive}
	release := w.hang(w.identity())
	mark(c, "during")
	last := walFile(c)
	c.SwitchWAL()
	if pgtest.Long() {
		took := c.Stop(pgtest.Fast)
		t.Logf("stopped after %s", took)
		if took > 30*time.Second {
			t.Errorf("the server stopped only after %s:\n%s", took, said(c))
		}
	} else {
		c.Kill9()
	}
	release()
	c.Start()
	pushed(c, last)
	archivedLikeServer(t, c, archive, last, last)
}
