package integration

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/pgtest"
)

// forked is an archive with two timelines that part in the middle of a segment.
// The old primary lived on: its segment with the fork is archived to its end, with
// an abandoned row.
type forked struct {
	*history
	needed  []string // files that a recovery to the newest timeline needs, by path in the archive
	last    string   // of them, the one that nothing comes behind
	rows    []string // of the true branch, as they were committed
	without int      // how many of them there are without last
}

func newForked(t *testing.T, major int) *forked {
	f := &forked{history: newHistory(t, major), rows: []string{"0"}}
	s := f.p.Standby(t, quick)
	row := func(c *pgtest.Cluster) {
		name := fmt.Sprintf("%02d", len(f.rows))
		f.rows = append(f.rows, name)
		mark(c, name)
	}
	for range 2 {
		row(f.p)
		f.p.SwitchWAL()
	}
	row(f.p)
	f.p.WaitFor("select count(*) from pg_stat_replication where replay_lsn = pg_current_wal_lsn() and application_name like 'standby%'", "1", patience)
	disconnect(s)
	fork := walFile(f.p)
	mark(f.p, "abandoned")
	f.archived(f.p.SwitchWAL())
	mark(f.p, "abandoned in the partial")
	f.r.flushed()
	f.r.stop()
	f.p.Stop(pgtest.Immediate)

	s.Promote()
	f.from(s)
	var children []string
	for range 3 {
		row(s)
		children = append(children, s.SwitchWAL())
	}
	f.archived(children...)
	f.r.stop()
	if children[0] != child(fork) {
		t.Fatalf("timeline 1 ends in %s, timeline 2 begins in %s", fork, children[0])
	}
	f.last, f.without = f.inArchive(children[2]), len(f.rows)-1
	f.needed = []string{filepath.Join(f.system, "walrecv.json"), f.inArchive("00000002.history")}
	for _, name := range children {
		f.needed = append(f.needed, f.inArchive(name))
	}
	for _, object := range f.objects() {
		// Of timeline 1 all from the beginning of the backup to before the fork.
		if object >= f.inArchive(f.backupStart()) && object < f.inArchive(fork) {
			f.needed = append(f.needed, object)
		}
	}
	return f
}

// inArchive is the path of a file below the archive's directory.
func (f *forked) inArchive(name string) string {
	f.t.Helper()
	path, err := filepath.Rel(f.archive, f.path(name))
	if err != nil {
		f.t.Fatal(err)
	}
	return path
}

// backupStart is the first segment that the backup needs.
func (f *forked) backupStart() string {
	f.t.Helper()
	label := string(readFile(f.t, filepath.Join(f.backup, "backup_label")))
	found := regexp.MustCompile(`START WAL LOCATION: \S+ \(file ([0-9A-F]{24})\)`).FindStringSubmatch(label)
	if found == nil {
		f.t.Fatalf("no first segment in %q", label)
	}
	return found[1]
}

// objects are all files of the archive.
func (f *forked) objects() []string {
	f.t.Helper()
	var all []string
	err := fs.WalkDir(os.DirFS(f.archive), ".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			all = append(all, path)
		}
		return err
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return all
}

// damages are what can happen to a file of an archive.
var damages = []struct {
	name string
	do   func(t *testing.T, file string)
}{
	{"deleted", func(t *testing.T, file string) {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}},
	{"unreadable", func(t *testing.T, file string) {
		// A link to itself cannot be opened by anybody.
		err := os.Remove(file)
		if err == nil {
			err = os.Symlink(filepath.Base(file), file)
		}
		if err != nil {
			t.Fatal(err)
		}
	}},
	{"no permission", func(t *testing.T, file string) {
		err := os.Chmod(file, 0)
		if err == nil {
			err = os.Chown(file, os.Geteuid(), -1) // that of the tests, which may be the server's
		}
		if err != nil {
			t.Fatal(err)
		}
	}},
	{"truncated", func(t *testing.T, file string) { resize(t, file, int64(len(readFile(t, file))/2)) }},
	{"a bit flipped", func(t *testing.T, file string) {
		data := readFile(t, file)
		at := len(data) / 2
		if i := strings.Index(string(data), "0/"); strings.HasSuffix(file, ".history") && i >= 0 {
			at = i // a position far away
		}
		if i := strings.Index(string(data), `identifier":"`); i >= 0 {
			at = i + 15 // another cluster
		}
		data[at] ^= 1
		writeFile(t, file, data)
	}},
}

// TestRecoveryWithoutOneObject harms one object of an archive and recovers to the
// newest timeline. The server ends with an error, or it opens exactly where the
// archive ends without the object: never with a row of the abandoned branch, never
// on a timeline that exists.
func TestRecoveryWithoutOneObject(t *testing.T) {
	eachOfFewMajors(t, func(t *testing.T, major int) {
		f := newForked(t, major)
		objects := f.objects()
		t.Logf("%d objects, %d of them needed: %q", len(objects), len(f.needed), objects)
		for i, object := range objects {
			for j, d := range damages {
				always := object == f.inArchive("00000002.history") && d.name != "no permission" || object == f.last && d.name == "deleted"
				if !pgtest.Long() && !always && i%len(damages) != j {
					continue
				}
				t.Run(filepath.Base(object)+" "+d.name, func(t *testing.T) {
					f.recoverWithout(t, object, func(file string) { d.do(t, file) }, d.name)
				})
			}
		}
	})
}

func (f *forked) recoverWithout(t *testing.T, object string, harm func(file string), how string) {
	archive := filepath.Join(pgtest.TempDir(t), "archive")
	if err := os.CopyFS(archive, os.DirFS(f.archive)); err != nil {
		t.Fatal(err)
	}
	pgtest.Give(t, archive)
	harm(filepath.Join(archive, object))
	n := f.p.Restore(t, f.backup, pgtest.RecoverySignal, f.settings(
		"restore_command", restoreCommand(f.r.bin, "--archive "+archive+" --retry-for 1s")))
	n.Launch()
	opened := false
	pgtest.Eventually(t, patience, func() bool {
		rows, err := n.TryQuery(t.Context(), "select pg_is_in_recovery()")
		opened = err == nil && rows[0][0] == "f"
		return opened || !n.Running()
	}, "the server neither ends nor opens")
	needed := slices.Contains(f.needed, object)
	// Behind the last segment the server writes something now and then: whether the
	// archive got some of it depends on the moment. It is asked for if it is there, and
	// no row is in it.
	end := strings.HasPrefix(object, filepath.Join(f.system, "tail", "00000002"))
	if !opened {
		if log := n.Log(); !needed && !end || !regexp.MustCompile(`FATAL:  could not restore file .*exit code 20[012]`).MatchString(log) {
			t.Errorf("it ended, but not because a file that it needs is harmed (needed: %v):\n%s", needed, log)
		}
		return
	}
	want := f.rows
	switch {
	case how == "deleted" && object == f.last:
		want = f.rows[:f.without]
	case needed && how != "a bit flipped":
		t.Error("it has opened although a file that it needs is harmed")
	}
	wantMarks(t, n, strings.Join(want, " "))
	if got := n.Query("select timeline_id from pg_control_checkpoint()"); got != "3" {
		t.Errorf("it opened on timeline %s", got)
	}
	checkHeapAndIndexes(t, n)
	n.Destroy()
}
