package integration

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/internal/s3test"
)

// TestBackupRestore restores base backups of a cluster with two tablespaces, and
// compares them with what pg_basebackup leaves.
func TestBackupRestore(t *testing.T) {
	t.Parallel()
	for _, major := range pgtest.Versions(t) {
		t.Run(fmt.Sprintf("pg%d", major), func(t *testing.T) {
			t.Parallel()
			restoreBackups(t, major)
		})
	}
}

func restoreBackups(t *testing.T, major int) {
	c := small(t, major, map[string]string{"autovacuum": "off"})
	b := backupsOf(t, c)
	withTablespaces(t, c)
	withRawTablespace(t, c)
	c.Exec("create table mark(name text primary key)")
	mark(c, "in the backup")
	c.Exec("checkpoint")
	line := b.create(c)
	reference := pgBasebackup(t, c)
	mark(c, "behind it")

	t.Run("recovers", func(t *testing.T) {
		b := b.with(t)
		mapping := mapped(t, c)
		n := c.RestoredBy(t, func(dir string) {
			out := b.restore(dir, append(mapping, "--verify")...)
			for _, want := range []string{line.ID, dir, "tablespace", fmt.Sprintf("start a PostgreSQL %d server", major)} {
				if !strings.Contains(out, want) {
					t.Errorf("%q does not tell %q", out, want)
				}
			}
			accepted(t, major, dir)
			sameTrees(t, reference, dir)
		}, nil)
		n.Start()
		n.WaitFor("select pg_is_in_recovery()", "f", patience)
		wantMarks(t, n, "behind it in the backup")
		for table, want := range map[string]string{"inside0": "2000", "inside1": "2000", "inside_raw": "1000"} {
			if got := n.Query("select count(*) from " + table); got != want {
				t.Errorf("%s has %s rows", table, got)
			}
		}
		checkHeapAndIndexes(t, n)
	})
	if pgtest.Long() || major == pgtest.Version(t) {
		t.Run("refuses", func(t *testing.T) { b.with(t).refuses(line.ID) })
	}
	if major == pgtest.Version(t) {
		t.Run("by root", func(t *testing.T) { b.with(t).byRoot() })
		t.Run("interrupted", func(t *testing.T) { b.with(t).interrupted(line.ID) })
		t.Run("full disk", func(t *testing.T) { b.with(t).onFullDisk() })
		t.Run("durable", func(t *testing.T) { b.with(t).synced() })
		t.Run("encrypted", func(t *testing.T) {
			b := b.with(t)
			ids, files := identityFiles(t, 1)
			pgtest.Give(t, filepath.Dir(files[0]))
			line := b.create(c, "--encrypt-to", ids[0].Recipient().String())
			dir := filepath.Join(pgtest.DataDir(t), "data")
			b.restore(dir, append(mapped(t, c), "--backup", line.ID, "--decrypt-with", files[0])...)
			accepted(t, major, dir)
			if conf := string(readFile(t, filepath.Join(dir, "postgresql.auto.conf"))); !strings.Contains(conf, "--decrypt-with "+files[0]) {
				t.Errorf("restore_command lacks the identity: %s", conf)
			}
		})
		t.Run("s3", func(t *testing.T) { b.with(t).fromS3() })
	}
}

// withRawTablespace gives a cluster a tablespace on a path that is not UTF-8, as
// databases of other encodings have them.
func withRawTablespace(t testing.TB, c *pgtest.Cluster) {
	t.Helper()
	dir := filepath.Join(newDir(t), "r\xe4w=")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	pgtest.Give(t, dir)
	c.Exec("create database raw encoding 'SQL_ASCII' template template0")
	p := c.Command(t, "psql", "-XqAt", "-d", "raw", "-c", "create tablespace raw location '"+dir+"'").Start()
	if code := p.Wait(patience); code != 0 {
		t.Fatal(p.Stderr())
	}
	c.Exec("create table inside_raw tablespace raw as select i from generate_series(1, 1000) i")
}

// interrupted: a restore that is ended by a signal leaves nothing.
func (b *backups) interrupted(id string) {
	object := filepath.Join(b.dir, b.c.SystemID(), "backup", id, "base.000001.tar.zst")
	must := func(err error) {
		b.t.Helper()
		if err != nil {
			b.t.Fatal(err)
		}
	}
	// With a lease on it whoever opens it waits. Only Linux has them.
	const setLease = 1024
	f, err := os.OpenFile(object, os.O_RDWR, 0)
	must(err)
	defer f.Close()
	_, err = unix.FcntlInt(f.Fd(), setLease, unix.F_WRLCK)
	must(err)
	dir := filepath.Join(pgtest.DataDir(b.t), "above", "data")
	p := pgtest.Command(b.t, b.bin, append([]string{"backup", "restore", "--archive", b.url, "--target-dir", dir, "--backup", id}, mapped(b.t, b.c)...)...).Start()
	pgtest.Eventually(b.t, patience, func() bool {
		_, err := os.Stat(filepath.Join(dir, "backup_manifest"))
		return err == nil
	}, "the restore does not begin: %s", p.Stderr())
	p.Signal(syscall.SIGTERM)
	if code := p.Wait(patience); code != 1 || !strings.Contains(p.Stderr(), "interrupted by signal: terminated") || p.Stdout() != "" {
		b.t.Errorf("exit code %d: %s%s", code, p.Stdout(), p.Stderr())
	}
	if _, err := os.Lstat(filepath.Dir(dir)); !os.IsNotExist(err) {
		b.t.Errorf("something is left: %v", err)
	}
}

// synced: every file and every directory is synced, and pg_control after all others.
func (b *backups) synced() {
	dir, calls := filepath.Join(pgtest.DataDir(b.t), "data"), filepath.Join(newDir(b.t), "calls")
	args := append([]string{
		"-f", "-qq", "-y", "-o", calls, "-e", "trace=fsync,fdatasync", b.bin, "backup", "restore", "--archive", b.url, "--target-dir", dir,
	}, mapped(b.t, b.c)...)
	p := pgtest.Command(b.t, toolPath(b.t, "strace"), args...).Start()
	if code := p.Wait(patience); code != 0 {
		b.t.Fatal(p.Stderr())
	}
	log := string(readFile(b.t, calls))
	call := func(path string) int { return strings.LastIndex(log, "<"+path+">") }
	control := strings.Index(log, "<"+filepath.Join(dir, "global/pg_control")+">")
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch at := call(path); {
		case err != nil || d.Type()&fs.ModeSymlink != 0:
		case at < 0:
			b.t.Errorf("%s was never synced", path)
		case d.Type().IsRegular() && d.Name() != "pg_control" && at > control:
			b.t.Errorf("%s was synced after pg_control", path)
		}
		return err
	})
	if err != nil {
		b.t.Error(err)
	}
}

// restore restores into a directory, which has to work, and returns what it says.
func (b *backups) restore(dir string, args ...string) string {
	b.t.Helper()
	code, stdout, stderr := b.tryRestore(dir, args...)
	if code != 0 {
		b.t.Fatalf("backup restore ended with %d: %s", code, stderr)
	}
	return stdout
}

func (b *backups) tryRestore(dir string, args ...string) (code int, stdout, stderr string) {
	b.t.Helper()
	args = append([]string{"backup", "restore", "--archive", b.url, "--target-dir", dir}, args...)
	return withStore(b.t, b.env, args...)
}

// mapped are options that give every tablespace of a cluster a new place.
func mapped(t testing.TB, c *pgtest.Cluster) (args []string) {
	t.Helper()
	to := pgtest.DataDir(t)
	for _, row := range c.QueryRows("select oid, pg_tablespace_location(oid) from pg_tablespace where pg_tablespace_location(oid) <> ''") {
		args = append(args, "--tablespace-mapping", strings.ReplaceAll(row[1], "=", `\=`)+"="+filepath.Join(to, "spâce "+row[0]))
	}
	return slices.Clip(args) // callers add theirs
}

// newestClient is the major of the client programs that tools/need gets.
const newestClient = 18

// clientOf is a client program of the oldest major from first to last that has it:
// one of the system, or what tools/need has got. It is nil where there is none.
func clientOf(t testing.TB, name string, first, last int) []string {
	t.Helper()
	for major := first; major <= last; major++ {
		if path := fmt.Sprintf("/usr/lib/postgresql/%d/bin/%s", major, name); exists(path) {
			return []string{path}
		}
		if path := filepath.Join(pgtest.ModuleRoot(t), "build", "pgclient", strconv.Itoa(major), "pg"); exists(path) {
			return []string{path, name}
		}
	}
	if pgtest.Long() && last >= newestClient {
		t.Fatalf("no %s; get it with: tools/need pgclient%d", name, newestClient)
	}
	t.Logf("no %s of PostgreSQL %d to %d here", name, first, last)
	return nil
}

// accepted lets pg_verifybackup look at a data directory.
func accepted(t testing.TB, major int, dir string) {
	t.Helper()
	program := clientOf(t, "pg_verifybackup", major, major)
	if program == nil {
		return
	}
	out, err := exec.Command(program[0], append(program[1:], "--no-parse-wal", dir)...).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "backup successfully verified") {
		t.Errorf("pg_verifybackup: %v\n%s", err, out)
	}
}

// pgBasebackup lets pg_basebackup make a data directory; "" without a pg_basebackup
// for this major.
func pgBasebackup(t testing.TB, c *pgtest.Cluster) string {
	t.Helper()
	program := clientOf(t, "pg_basebackup", c.Major, newestClient)
	if program == nil {
		return ""
	}
	dir := filepath.Join(t.TempDir(), "reference")
	args := append(program[1:], "-d", c.ReplConn(), "-D", dir, "-X", "none", "-c", "fast", "--no-sync")
	args = append(args, mapped(t, c)...) // the option has the same name there
	if out, err := exec.Command(program[0], args...).CombinedOutput(); err != nil {
		t.Fatalf("pg_basebackup: %v\n%s", err, out)
	}
	return dir
}

// differs says which files of two restored backups of an idle server are not the
// same, by their nature: they say when and where a backup began, and what recovery is
// to do. pg_basebackup makes the links of the tablespaces and has no tablespace_map.
var differs = []string{
	"backup_label", "backup_manifest", "tablespace_map", "global/pg_control", "postgresql.auto.conf", "recovery.signal",
}

// sameTrees compares all files, directories and permissions.
func sameTrees(t testing.TB, reference, dir string) {
	t.Helper()
	if reference == "" {
		return
	}
	want, got := dataTree(t, reference), dataTree(t, dir)
	for _, name := range differs {
		delete(want, name)
		delete(got, name)
	}
	if len(want) < 900 {
		t.Errorf("pg_basebackup has left %d files", len(want))
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] {
			t.Errorf("%s is %.80q, pg_basebackup's %.80q", name, got[name], want[name])
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("pg_basebackup has no %s", name)
		}
	}
}

// dataTree lists a data directory with its tablespaces.
func dataTree(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	var add func(below, as string)
	add = func(below, as string) {
		err := filepath.WalkDir(below, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(below, path)
			if err != nil {
				return err
			}
			name := filepath.Join(as, rel)
			info, err := d.Info()
			if err != nil {
				return err
			}
			switch {
			case d.Type() == fs.ModeSymlink:
				to, err := os.Readlink(path)
				if err != nil {
					return err
				}
				add(to, name)
			case d.IsDir():
				all[name] = info.Mode().String()
			default:
				all[name] = info.Mode().String() + " " + string(readFile(t, path))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	add(dir, "")
	return all
}

// refuses: what cannot be done is said before anything is written.
func (b *backups) refuses(id string) {
	dir := filepath.Join(pgtest.DataDir(b.t), "data")
	mapping := mapped(b.t, b.c)
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{nil, 1, "not empty"}, // the tablespaces are where the cluster has them
		{append(mapping, "--tablespace-mapping", "/nowhere=/x"), 2, "no tablespace is at \"/nowhere\""},
		{append(mapping, "--backup", "20000101T000000Z"), 1, "there is no base backup 20000101T000000Z"},
		{append(mapping, "--target-lsn", "0/200028"), 1, "recoverable is on timeline 1"}, // from before the backup
		{append(mapping, "--target-lsn", "7F/200028"), 1, "recoverable is on timeline 1"},
		{append(mapping, "--target-time", "2050-01-01 00:00:00+00"), 1, "recoverable is on timeline 1"},
		{append(mapping, "--target-name", "nobody made this"), 1, "recoverable is on timeline 1"},
		{append(mapping, "--system-id", "7"), 1, "nothing of the cluster"},
	} {
		code, stdout, stderr := b.tryRestore(dir, tt.args...)
		if code != tt.code || !strings.Contains(stderr, tt.want) || stdout != "" {
			b.t.Errorf("%q: exit code %d, %s%s; want %d, %q", tt.args, code, stdout, stderr, tt.code, tt.want)
		}
		if _, err := os.Lstat(dir); !os.IsNotExist(err) {
			b.t.Fatalf("%q: %s is there: %v", tt.args, dir, err)
		}
	}
	b.restore(dir, append(mapping, "--backup", id)...)
	before := dataTree(b.t, dir)
	if code, _, stderr := b.tryRestore(dir, mapped(b.t, b.c)...); code != 1 || !strings.Contains(stderr, "not empty") {
		b.t.Errorf("a second time: exit code %d, %s", code, stderr)
	}
	if !maps.Equal(before, dataTree(b.t, dir)) {
		b.t.Error("the second restore has touched what the first one made")
	}
}

// byRoot: what root restores is the server's, which starts on it. Where the tests do not
// run as root they can restore for themselves only, which the others do.
func (b *backups) byRoot() {
	if os.Geteuid() != 0 {
		b.t.Log("not root")
		return
	}
	owner := func(path string) uint32 {
		info, err := os.Lstat(path)
		if err != nil {
			b.t.Fatal(err)
		}
		return info.Sys().(*syscall.Stat_t).Uid
	}
	n := b.c.RestoredBy(b.t, func(dir string) {
		args := append([]string{"backup", "restore", "--archive", b.url, "--target-dir", dir}, mapped(b.t, b.c)...)
		cmd := exec.Command(b.bin, args...)
		cmd.Env = append(os.Environ(), b.env...)
		out, err := cmd.CombinedOutput()
		if err != nil || strings.Contains(string(out), "does not work") || !strings.Contains(string(out), "as user postgres") {
			b.t.Fatalf("%v: %s", err, out)
		}
		all := dataTree(b.t, dir)
		for path := range all {
			if got := owner(filepath.Join(dir, path)); got != owner(b.c.DataDir) {
				b.t.Errorf("%s belongs to %d", path, got)
			}
		}
		if len(all) < 900 {
			b.t.Errorf("only %d files", len(all))
		}
	}, nil)
	n.Start()
	n.WaitFor("select pg_is_in_recovery()", "f", patience)
	wantMarks(b.t, n, "behind it in the backup")
}

// onFullDisk: a disk that gets full has nothing of a restore on it afterwards.
func (b *backups) onFullDisk() {
	if !canMount(b.t) {
		return
	}
	dir := pgtest.DataDir(b.t)
	// The program is nobody's root: that would restore for another user.
	script := `mount -t tmpfs -o size=12m,mode=0700 none "$0" || exit 99
unshare -U --map-user=1000 --map-group=1000 -- "$@"
code=$?
echo "left: $(find "$0" -mindepth 1 | wc -l)"
exit $code`
	args := append([]string{
		"-Urm", "sh", "-c", script, dir, b.bin, "backup", "restore", "--archive", b.url, "--target-dir",
		filepath.Join(dir, "above", "data"),
	}, mapped(b.t, b.c)...)
	p := pgtest.Command(b.t, toolPath(b.t, "unshare"), args...).Start()
	if code := p.Wait(patience); code != 1 || !strings.Contains(p.Stderr(), "no space left on device") || p.Stdout() != "left: 0\n" {
		b.t.Errorf("exit code %d: %s%s", code, p.Stdout(), p.Stderr())
	}
}

// fromS3 restores from a store whose keys are in the environment, which the server
// does not have: that is said.
func (b *backups) fromS3() {
	s := s3test.Start(b.t)
	of := &backups{t: b.t, bin: b.bin, url: s.URL("some/prefix"), dir: s.Path("some/prefix"), env: s.Environ(), c: b.c}
	r := newReceiver(b.t, b.c, "--archive", of.url, "-S", "s3restore")
	r.env = of.env
	r.start()
	of.create(b.c)
	dir := filepath.Join(pgtest.DataDir(b.t), "data")
	code, _, stderr := of.tryRestore(dir, mapped(b.t, b.c)...)
	if code != 0 || !strings.Contains(stderr, "AWS_SECRET_ACCESS_KEY") || !strings.Contains(stderr, "with nothing of this environment") {
		b.t.Fatalf("exit code %d: %s", code, stderr)
	}
	accepted(b.t, b.c.Major, dir)
}
