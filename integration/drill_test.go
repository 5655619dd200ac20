package integration

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/walrecv/walrecv/internal/drill"
	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/segment"
)

// rowsAre is a check of how many rows there are.
func rowsAre(n int) string { return fmt.Sprintf("select count(*) = %d from t", n) }

// A drill of a sound archive proves that it is; one of an archive, or of a machine,
// that has a fault says which, and nothing of either is left.
func TestDrill(t *testing.T) {
	t.Parallel()
	w := drillWorld(t, pgtest.Version(t))
	t.Run("parallel", func(t *testing.T) {
		for name, test := range map[string]func(*testing.T, *drillable){
			"latest": drillLatest, "paused": drillPaused, "random": drillRandom, "checks": drillChecks,
			"objects": drillObjects, "unreachable": drillUnreachable, "disk": drillDisk, "interrupted": drillInterrupted, "killed": drillKilled,
			"root": drillAsRoot,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(t, w.with(t))
			})
		}
	})
}

// TestDrillOfOthers: newer servers have another pg_control, and those here none of
// the other programs.
func TestDrillOfOthers(t *testing.T) {
	t.Parallel()
	for _, major := range pgtest.Versions(t)[1:] {
		t.Run(fmt.Sprintf("pg%d", major), func(t *testing.T) {
			w := drillWorld(t, major)
			d := w.drill(t, w.archive, "--check", rowsAre(w.rows)).run(0)
			if d.Backup.Major != major || d.Result.NewTimeline != 2 {
				t.Errorf("%s", d.Stdout())
			}
		})
	}
}

func (w *drillable) with(t *testing.T) *drillable {
	of := *w
	of.c = w.c.With(t)
	return &of
}

// drillLatest recovers everything, with the server there to ask.
func drillLatest(t *testing.T, w *drillable) {
	dir := w.copied(t)
	files := pgtest.TempDir(t)
	checks, page := filepath.Join(files, "checks.sql"), filepath.Join(files, "page.html")
	writeFile(t, checks, []byte("-- nobody else hears of it\nselect current_setting('listen_addresses') = '';\nselect current_setting('archive_mode') = 'off'\n;\nselect not pg_is_in_recovery();\nselect pg_tablespace_location(oid) like '%walrecv-drill-%' from pg_tablespace where spcname = 'odd space';\n"))
	pgtest.Give(t, files)
	d := w.drill(t, dir, "--check", rowsAre(w.rows), "--check-file", checks, "--html", page, "-d", w.c.ReplConn())
	// What is in the environment of a receiver does not get to restore_command.
	d.Env = append(d.Env, "WALRECV_SPOOL=/nowhere", "PGPORT=1", "PGDATABASE=nowhere")
	d.run(0)
	if d.Target.Kind != "latest" || d.Result.Timeline != 1 || d.Result.NewTimeline != 2 || d.Backup.ID != w.backup.ID {
		t.Errorf("%+v, %+v", d.Target, d.Result)
	}
	if at := parseLSN(t, w.end); d.Result.LSN < at || d.Loss.ArchivedLSN < at || d.Result.Time.IsZero() || !d.Loss.LastCommit.Equal(d.Result.Time) {
		t.Errorf("reached %+v, loss %+v, the server ended at %s", d.Result, d.Loss, at)
	}
	if d.Loss.Bytes == nil || d.Loss.ServerLSN == 0 || *d.Loss.Bytes > 1<<20 {
		t.Errorf("loss %+v", d.Loss)
	}
	times := d.Times
	if times.Download <= 0 || times.Consistency <= 0 || times.Target < times.Consistency || times.Restore < times.Download+times.Target || times.Total < times.Restore {
		t.Errorf("times %+v", times)
	}
	names := map[string]string{}
	for _, c := range d.Checks {
		names[c.Name] += c.Result + " "
	}
	made := 6
	for _, program := range []string{"amcheck", "checksums"} {
		want := "skipped "
		if exists(filepath.Join(pgtest.BinDir(t, w.c.Major), "pg_"+program)) {
			want = "passed "
			made++
		}
		if names[program] != want {
			t.Errorf("%s: %s", program, names[program])
		}
	}
	if names["target"] != "passed " || names["sql"] != strings.Repeat("passed ", 5) {
		t.Errorf("checks: %v", names)
	}
	if !strings.Contains(string(readFile(t, page)), "</html>") {
		t.Error("there is no page")
	}
	kept := w.results(t, dir)
	if len(kept) != 1 || !kept[0].Success || kept[0].ID != d.ID || kept[0].ReachedLSN != d.Result.LSN || kept[0].Checks != made || kept[0].RestoreSeconds != times.Restore {
		t.Errorf("kept: %+v", kept)
	}
}

// drillPaused stops at a restore point, with a server whose settings are smaller than
// the primary's became in between.
func drillPaused(t *testing.T, w *drillable) {
	d := w.drill(t, w.archive, "--target-name", "half", "--target-action", "pause", "--check", rowsAre(20), "--check", "select pg_is_in_recovery()").run(0)
	if d.Result.NewTimeline != 0 || !strings.Contains(d.Result.Reason, `"half"`) {
		t.Errorf("%+v", d.Result)
	}
	d = w.drill(t, w.archive, "--target-lsn", w.last, "--target-action", "pause", "--check", "select current_setting('max_connections') = '150'").run(0)
	if d.Result.LSN < parseLSN(t, w.last) {
		t.Errorf("%+v", d.Result)
	}
}

func drillRandom(t *testing.T, w *drillable) {
	d := w.drill(t, w.archive, "--random-target").run(0)
	if !d.Target.Random || d.Target.Kind == "latest" {
		t.Errorf("%+v", d.Target)
	}
	t.Logf("to %s", d.Target.Text)
	// Where there is nothing but a base backup, and what it needs, it is the end.
	young := w.copied(t)
	for _, dir := range []string{"index", "tail"} {
		if err := os.RemoveAll(w.in(young, dir)); err != nil {
			t.Fatal(err)
		}
	}
	segments, err := filepath.Glob(w.in(young, "wal", "00000001", "*.zst"))
	if err != nil {
		t.Fatal(err)
	}
	size := segment.Size(w.c.SegmentSize)
	for _, file := range segments {
		if name, _, _ := strings.Cut(filepath.Base(file), "."); number(t, name) > size.Number(w.backup.EndLSN-1) {
			remove(t, file)
		}
	}
	d = w.drill(t, young, "--random-target", "--target-action", "pause", "--check", "select not pg_is_in_recovery()").run(0)
	if d.Target.Kind != "latest" || len(d.Notes) != 1 {
		t.Errorf("%+v, %v", d.Target, d.Notes)
	}
}

// drillChecks: checks that are not true.
func drillChecks(t *testing.T, w *drillable) {
	dir := w.copied(t)
	d := w.drill(t, dir, "--target-immediate", "--check", rowsAre(11), "--check", "select no from t", "--check", rowsAre(10),
		"--check", "select true from t", "--check", "select 1", "--check", "select null::bool", "--check", "select true; select true").
		run(3, drill.CheckFalse, drill.CheckError, drill.CheckFalse, drill.CheckFalse, drill.CheckFalse, drill.CheckInvalid)
	if !strings.Contains(d.Failures[1].Message, `column "no" does not exist`) {
		t.Errorf("%+v", d.Failures)
	}
	text := string(readFile(t, w.in(dir, "drills", d.ID+".json")))
	if strings.Contains(text, "select") || strings.Contains(text, "does not exist") || !strings.Contains(text, `"check_false","check_error"`) {
		t.Errorf("kept: %s", text)
	}
}

// drillObjects: objects of the backup that are gone or changed.
func drillObjects(t *testing.T, w *drillable) {
	for name, fault := range map[string]struct {
		do   func(dir string)
		kind drill.Kind
		says string
	}{
		"manifest": {func(dir string) { flip(t, w.in(dir, "backup", w.backup.ID, "backup_manifest.zst"), 500) }, drill.Damaged, "backup_manifest"},
		"data":     {func(dir string) { flip(t, w.in(dir, "backup", w.backup.ID, "base.000001.tar.zst"), 500) }, drill.Damaged, "base.000001.tar"},
		"missing":  {func(dir string) { remove(t, w.in(dir, "backup", w.backup.ID, "base.000001.tar.zst")) }, drill.Missing, "base.000001.tar"},
		"newer":    {func(dir string) { w.lostNewer(t, dir) }, drill.Missing, "the base backup " + newerBackup + " is damaged"},
		"none":     {func(dir string) { remove(t, w.in(dir, "backup", w.backup.ID, "backup.json")) }, drill.NoBackup, "no base backup that is good"},
		"WAL":      {func(dir string) { flip(t, w.lastButOne(t, dir), 500) }, drill.ServerFailed, "ended before the target"},
	} {
		dir := w.copied(t)
		fault.do(dir)
		d := w.drill(t, dir).run(3, fault.kind)
		if !strings.Contains(d.Failures[0].Message, fault.says) {
			t.Errorf("%s: %s", name, d.Failures[0].Message)
		}
		if kept := w.results(t, dir); len(kept) != 1 || kept[0].Success || kept[0].Failures[0] != string(fault.kind) {
			t.Errorf("%s: kept %+v", name, kept)
		}
	}
}

const newerBackup = "20991122T073000Z"

// lostNewer adds a newer backup, of which there are only the documents.
func (w *drillable) lostNewer(t *testing.T, dir string) {
	for _, name := range []string{"start.json", "backup.json"} {
		text := readFile(t, w.in(dir, "backup", w.backup.ID, name))
		path := w.in(dir, "backup", newerBackup, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		writeFile(t, path, bytes.ReplaceAll(text, []byte(w.backup.ID), []byte(newerBackup)))
	}
	pgtest.Give(t, dir)
}

// drillUnreachable: targets that the archive does not have, and programs that do not fit.
func drillUnreachable(t *testing.T, w *drillable) {
	for _, args := range [][]string{
		{"--target-lsn", "0/1000000"},
		{"--target-time", "2100-01-01 00:00:00+00"},
		{"--target-lsn", "1/0"},
		{"--target-timeline", "7"},
		{"--target-name", "never"},
		{"--target-xid", "4000000"},
	} {
		d := w.drill(t, w.archive, args...).run(3, drill.Unreachable)
		if !strings.Contains(d.Failures[0].Message, "recoverable is") || d.Times.Download != 0 || d.ID != "" {
			t.Errorf("%v: %s", args, d.Stdout())
		}
	}
	other := 18
	if w.c.Major == other {
		other = 15
	}
	d := w.drill(t, w.archive, "--pg-bindir", pgtest.BinDir(t, other)).run(2)
	if !strings.Contains(d.Stderr(), fmt.Sprintf("is of PostgreSQL %d, and the backup of %d", other, w.c.Major)) {
		t.Errorf("another major: %s", d.Stderr())
	}
	dir := w.copied(t)
	remove(t, w.lastButOne(t, dir))
	w.drill(t, dir, "--target-lsn", w.end).run(3, drill.Unreachable)
}

// drillDisk: a scratch disk that has not enough room, for the backup, and for the WAL.
func drillDisk(t *testing.T, w *drillable) {
	if !canMount(t) {
		return
	}
	id := fmt.Sprint(max(os.Getuid(), 1000))
	for _, more := range []int{-4, 3} {
		script := fmt.Sprintf(`set -e
mount -t tmpfs -o size=$2k,mode=0777 none "$TMPDIR"
exec unshare -U --map-user=%s "$1" drill --archive "$3" --json --pg-bindir "$4"`, id)
		d := &drilled{t: t, temp: pgtest.TempDir(t)}
		d.Process = pgtest.Command(t, toolPath(t, "unshare"), "-Urm", "sh", "-c", script, "sh", pgtest.Build(t),
			fmt.Sprint(w.backup.PlainSize>>10+int64(more)<<10), w.archive, pgtest.BinDir(t, w.c.Major))
		d.Env = []string{"TMPDIR=" + d.temp}
		if d.run(3, drill.ScratchFull); d.ID != "" {
			t.Error("this says nothing about the archive, and was kept")
		}
	}
}

// drillInterrupted: SIGTERM while the restored server works.
func drillInterrupted(t *testing.T, w *drillable) {
	dir := w.copied(t)
	d := w.halfWay(t, dir)
	d.Signal(syscall.SIGTERM)
	d.ends(3, drill.Interrupted)
	if kept := w.results(t, dir); len(kept) != 0 {
		t.Errorf("kept: %+v", kept)
	}
}

// drillKilled: SIGKILL, to the drill alone.
func drillKilled(t *testing.T, w *drillable) {
	d := w.halfWay(t, w.archive)
	if n := len(worksIn(t, d.temp)); n < 4 {
		t.Errorf("%d processes", n)
	}
	d.Signal(syscall.SIGKILL)
	d.Wait(patience)
	pgtest.Eventually(t, patience, func() bool {
		left, err := os.ReadDir(d.temp)
		return err == nil && len(left) == 0 && len(worksIn(t, d.temp)) == 0
	}, "something of a killed drill stays in %s", d.temp)
}

// halfWay begins a drill that does not come to its end.
func (w *drillable) halfWay(t *testing.T, dir string) *drilled {
	t.Helper()
	d := w.drill(t, dir, "--target-immediate", "--check", "select pg_sleep(1000) is null")
	d.Start()
	d.WaitOutput("the server can be used", patience)
	return d
}

// drillAsRoot: with an archive that only root can read.
func drillAsRoot(t *testing.T, w *drillable) {
	if os.Geteuid() != 0 {
		return // there is nobody to become
	}
	dir := w.copied(t)
	if out, err := exec.Command("chown", "-R", "root:root", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	d := &drilled{t: t, temp: pgtest.TempDir(t)}
	cmd := exec.Command(pgtest.Build(t), "drill", "--archive", dir, "--json", "--check", rowsAre(w.rows), "--pg-bindir", pgtest.BinDir(t, w.c.Major))
	cmd.Env = []string{"TMPDIR=" + d.temp, "PATH=" + os.Getenv("PATH"), "HOME=/root"}
	out, err := cmd.Output()
	if err != nil || !strings.Contains(string(out), `"user": "postgres"`) || !strings.Contains(string(out), `"success": true`) {
		t.Errorf("%v: %s", err, out)
	}
	d.leftNothing()
	// And one that is somebody else's, who goes on using it.
	dir = w.copied(t)
	remove(t, w.in(dir, "backup", w.backup.ID, "backup.json"))
	code := 0
	var exit *exec.ExitError
	cmd = exec.Command(cmd.Path, "drill", "--archive", dir)
	cmd.Env = []string{"TMPDIR=" + d.temp, "HOME=/root"}
	if err := cmd.Run(); errors.As(err, &exit) {
		code = exit.ExitCode()
	}
	if of, err := os.Stat(w.in(dir, "drills")); code != 3 || err != nil || of.Sys().(*syscall.Stat_t).Uid == 0 {
		t.Errorf("%d, %v", code, err)
	}
}
