package integration

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/backup"
	"github.com/walrecv/walrecv/internal/pgtest"
)

// TestPrune prunes under a receiver that runs, over a change of the timeline, and while
// it is away: what stays can be restored, is sound, and the receiver goes on. A spool
// that is older than all that is kept holds nothing up.
func TestPrune(t *testing.T) {
	t.Parallel()
	settings := forgetful()
	settings["restore_command"] = "false"
	c := small(t, pgtest.Version(t), settings)
	b := backupsOf(t, c)
	c.Exec("create table mark(name text primary key)")
	write := func(name string) {
		mark(c, name)
		for range 3 {
			c.Exec("select pg_logical_emit_message(true, 'walrecv', 'x')")
			c.SwitchWAL()
		}
	}
	write("one")
	first := b.create(c)
	write("two")
	second := b.create(c)
	write("three")
	c.Stop(pgtest.Immediate)
	signal := filepath.Join(c.DataDir, "recovery.signal")
	writeAll(t, map[string]string{signal: ""})
	pgtest.Give(t, signal)
	c.Start()
	c.WaitFor("select pg_is_in_recovery()", "f", patience) // on timeline 2
	write("four")
	third := b.create(c)
	write("five")
	b.receiver.flushed()

	before := objectsIn(t, b.dir)
	dry := b.prune("--keep-backups", "2")
	after := objectsIn(t, b.dir) // with what the receiver has archived meanwhile
	before = slices.DeleteFunc(before, func(file string) bool {
		ofReceiver := strings.Contains(file, "/.~") || strings.Contains(file, "/tail/") // which comes and goes
		return ofReceiver || slices.Contains(after, file)
	})
	if !dry.DryRun || dry.Bytes == 0 || len(before) > 0 {
		t.Errorf("without --yes: %+v, %q are gone", dry, before)
	}
	done := b.prune("--keep-backups", "2", "--yes")
	if done.DryRun || done.Bytes < dry.Bytes/2 { // the receiver tidies its tail up itself
		t.Errorf("%d bytes are gone, %d were shown", done.Bytes, dry.Bytes)
	}
	b.keeps(second, third)
	if b.good() != 2 {
		t.Errorf("%s is still there", first.ID)
	}
	verifyArchive(t, b.dir, 0, "--deep")
	verifyArchive(t, b.dir, 0, "--since", second.ID)

	// A second receiver's spool, which is left behind.
	b.receiver.stop()
	old := &receiver{t: t, bin: b.bin, cluster: c, spool: filepath.Join(pgtest.TempDir(t), "old")}
	if err := os.CopyFS(old.spool, os.DirFS(b.receiver.spool)); err != nil {
		t.Fatal(err)
	}
	pgtest.Give(t, old.spool)
	old.args = slices.Clone(b.receiver.args)
	old.args[slices.Index(old.args, b.receiver.spool)] = old.spool
	b.receiver.start()
	write("six")
	b.receiver.flushed()
	fourth := b.create(c)
	write("seven")
	b.receiver.flushed()
	b.receiver.stop()
	b.prune("--keep-backups", "1", "--yes")
	b.keeps(fourth)
	c.Exec("checkpoint") // the server forgets what its slot does not hold
	old.start().flushed()
	write("eight")
	old.flushed()
	old.stop()
	verifyArchive(t, b.dir, 0, "--deep")
	if left, err := filepath.Glob(filepath.Join(b.dir, "*", "wal", "00000001", "*")); err != nil || len(left) > 1 {
		t.Errorf("of timeline 1 there is %q, %v", left, err) // what the old spool had
	}
	n := c.RestoredBy(t, func(dir string) { b.restore(dir, "--verify") }, nil)
	n.Start()
	n.WaitFor("select pg_is_in_recovery()", "f", patience)
	wantMarks(t, n, "eight five four one seven six three two")
}

// pruned is what "walrecv prune --json" says.
type pruned struct {
	DryRun   bool     `json:"dry_run"`
	Bytes    int64    `json:"bytes"`
	Problems []string `json:"problems"`
}

func (b *backups) prune(args ...string) (p pruned) {
	b.t.Helper()
	code, stdout, stderr := withStore(b.t, b.env, append([]string{"prune", "--json", "--archive", b.url}, args...)...)
	if err := json.Unmarshal([]byte(stdout), &p); err != nil || code != 0 || len(p.Problems) > 0 {
		b.t.Fatalf("prune %v: exit code %d, %v: %s%s", args, code, err, stdout, stderr)
	}
	return p
}

// keeps checks that of the base backups these are good, with all of their WAL, and that
// status knows of nothing wrong.
func (b *backups) keeps(want ...backup.Line) {
	b.t.Helper()
	var good, ids []string
	for _, l := range b.list() {
		if l.State == backup.Good && l.WAL.Complete {
			good = append(good, l.ID)
		}
	}
	for _, l := range want {
		ids = append(ids, l.ID)
	}
	if !slices.Equal(good, ids) {
		b.t.Errorf("%q are good, want %q", good, ids)
	}
	if code, stdout, stderr := withStore(b.t, b.env, "status", "--archive", b.url); code != 0 || strings.Contains(stdout, "Wrong:") {
		b.t.Errorf("status: exit code %d, %s%s", code, stdout, stderr)
	}
}

// objectsIn lists the files below a directory, but for those of the tail, which come and go.
func objectsIn(t testing.TB, dir string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !strings.Contains(path, "/tail/") {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
