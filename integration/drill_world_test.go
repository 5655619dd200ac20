package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/backup"
	"github.com/walrecv/walrecv/internal/drill"
	"github.com/walrecv/walrecv/internal/pgtest"
)

// drillable is an archive with a base backup, and what can be recovered with it.
type drillable struct {
	c       *pgtest.Cluster
	whole   string // an archive that nobody drills
	archive string // a copy for those who change nothing in it
	backup  backup.Line
	rows    int    // in table t at the end
	middle  string // a position with half of them
	last    string // a position before the last row
	end     string // of what is archived
}

// drillWorld makes an archive whose base backup has 10 rows. Then come 10 more, a
// restore point, a change of max_connections, and 10 more.
func drillWorld(t *testing.T, major int) *drillable {
	t.Helper()
	takesBackups(t, major)
	c := pgtest.New(t, pgtest.Options{Major: major, WALSegmentSize: 1 << 20, Settings: map[string]string{"autovacuum": "off", "checkpoint_timeout": "1h"}})
	c.Start()
	w := &drillable{c: c, whole: newArchive(t)}
	r := newReceiver(t, c, "--archive", w.whole, "--tail-interval", "100ms").start()
	space := pgtest.TempDir(t)
	c.Exec("create tablespace \"odd space\" location '" + space + "'")
	c.Exec("create table t(i int primary key, x text) tablespace \"odd space\"")
	w.insert(10)
	w.backup = (&backups{t: t, bin: r.bin, url: w.whole, dir: w.whole, c: c}).create(c)
	w.insert(10)
	c.Exec("select pg_create_restore_point('half')")
	w.middle = c.FlushLSN()
	c.Set(map[string]string{"max_connections": "150"})
	c.Restart(pgtest.Fast)
	fill(c, 2)
	w.insert(10)
	c.SwitchWAL()
	w.last = c.FlushLSN()
	c.Exec("insert into t select 1000, 'tail'")
	w.rows++
	r.WaitOutput(`"msg":"streaming"`, patience)
	w.end = c.FlushLSN()
	pgtest.Eventually(t, patience, func() bool {
		return c.Query("select coalesce(min(flush_lsn) >= '"+w.end+"', false) from pg_stat_replication") == "t"
	}, "not all is received")
	r.stop() // also archives the tail
	w.archive = w.copied(t)
	return w
}

// insert adds rows.
func (w *drillable) insert(n int) {
	w.c.Exec(fmt.Sprintf("insert into t select i, repeat('x', 100) from generate_series(%d, %d) i", w.rows, w.rows+n-1))
	w.rows += n
}

// copied is a copy of the archive for somebody who damages it.
func (w *drillable) copied(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(pgtest.TempDir(t), "archive")
	if err := os.CopyFS(dir, os.DirFS(w.whole)); err != nil {
		t.Fatal(err)
	}
	pgtest.Give(t, dir)
	return dir
}

// in is the path of something of the cluster in an archive.
func (w *drillable) in(archive string, parts ...string) string {
	return filepath.Join(append([]string{archive, w.c.SystemID()}, parts...)...)
}

// lastButOne is the object of the last segment but one that is complete.
func (w *drillable) lastButOne(t *testing.T, archive string) string {
	t.Helper()
	segments, err := filepath.Glob(w.in(archive, "wal", "00000001", "*.zst"))
	if err != nil || len(segments) < 3 {
		t.Fatalf("%v, %v", segments, err)
	}
	return segments[len(segments)-2]
}

// drilled is a drill that has ended, or runs.
type drilled struct {
	*pgtest.Process
	t    *testing.T
	temp string
	drill.Report
}

// drill begins a drill of an archive.
func (w *drillable) drill(t *testing.T, archive string, args ...string) *drilled {
	t.Helper()
	return w.drillBy(t, archive, []string{pgtest.Build(t)}, args...)
}

// drillBy is drill with a command line before it.
func (w *drillable) drillBy(t *testing.T, archive string, by []string, args ...string) *drilled {
	t.Helper()
	d := &drilled{t: t, temp: pgtest.TempDir(t)}
	bins := pgtest.BinDir(t, w.c.Major)
	command := append(slices.Clone(by[1:]), "drill", "--archive", archive, "--json")
	if !slices.Contains(args, "--pg-bindir") {
		command = append(command, "--pg-bindir", bins)
	}
	d.Process = pgtest.Command(t, by[0], append(command, args...)...)
	d.Env = []string{"TMPDIR=" + d.temp}
	return d
}

// ends waits for the end of a drill that was begun, which leaves nothing behind.
func (d *drilled) ends(code int, kinds ...drill.Kind) *drilled {
	d.t.Helper()
	if got := d.Wait(patience); got != code {
		d.t.Fatalf("the drill ended with %d instead of %d: %s\n%s", got, code, d.Stdout(), d.Stderr())
	}
	d.leftNothing()
	if code == 0 || code == 3 || strings.HasPrefix(d.Stdout(), "{") {
		if err := json.Unmarshal([]byte(d.Stdout()), &d.Report); err != nil {
			d.t.Fatalf("%v: %s", err, d.Stdout())
		}
	}
	var got []drill.Kind
	for _, f := range d.Failures {
		if got = append(got, f.Kind); f.Message == "" {
			d.t.Errorf("%s without a message", f.Kind)
		}
	}
	if !slices.Equal(got, kinds) || d.Success != (code == 0) {
		d.t.Errorf("success: %v, failures %v instead of %v: %s", d.Success, got, kinds, d.Stdout())
	}
	return d
}

// run is a whole drill.
func (d *drilled) run(code int, kinds ...drill.Kind) *drilled {
	d.t.Helper()
	d.Start()
	return d.ends(code, kinds...)
}

// leftNothing checks that no file and no process of the drill is left.
func (d *drilled) leftNothing() {
	d.t.Helper()
	left, err := os.ReadDir(d.temp)
	if err != nil || len(left) > 0 {
		d.t.Errorf("left behind: %v, %v", left, err)
	}
	if pids := worksIn(d.t, d.temp); len(pids) > 0 {
		d.t.Errorf("processes are left: %v", pids)
	}
}

// worksIn finds the processes that work in a directory or below.
func worksIn(t *testing.T, dir string) (pids []string) {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if cwd, err := os.Readlink(link); err == nil && strings.HasPrefix(cwd, dir+"/") {
			pids = append(pids, filepath.Base(filepath.Dir(link)))
		}
	}
	return pids
}

// results are the drills that an archive has kept.
func (w *drillable) results(t *testing.T, dir string) (all []archive.DrillResult) {
	t.Helper()
	files, err := os.ReadDir(w.in(dir, "drills"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, f := range files {
		var r archive.DrillResult
		if err := json.Unmarshal(readFile(t, w.in(dir, "drills", f.Name())), &r); err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}
