package integration

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/walrecv/walrecv/internal/pgtest"
)

// releasedArchive is where archives of format 1 are kept as the version wrote them
// that introduced it: one in the clear, with a base backup, and an encrypted one. Each
// has two timelines, a partial, and a tail. They are never made anew; a new format
// gets archives of its own beside them, by
//
//	go test ./integration -run TestMakeReleasedArchive -make-archive $PWD/integration/testdata/formatN
const releasedArchive = "testdata/format1"

var makeArchive = flag.String("make-archive", "", "directory in which TestMakeReleasedArchive keeps what it makes")

// releasedMajor is the PostgreSQL whose WAL and base backup the archives have.
const releasedMajor = 15

// What a recovery of the archives ends with, to their end and to the restore point.
const (
	releasedRows  = "behind-the-fork first in-the-tail last-of-timeline-1 second"
	releasedPoint = "first second"
)

// TestReleasedArchivesRestore restores archives of every released format: every file
// is what it was, byte for byte, and PostgreSQL recovers from them.
func TestReleasedArchivesRestore(t *testing.T) {
	t.Parallel()
	restoreReleased(t, releasedArchive)
}

// TestMakeReleasedArchive makes such archives, and restores them.
func TestMakeReleasedArchive(t *testing.T) {
	t.Parallel()
	dir := *makeArchive
	if dir == "" {
		if !pgtest.Long() {
			return // the archives that are kept tell
		}
		dir = newDir(t)
	}
	makeReleased(t, dir)
	restoreReleased(t, dir)
}

func restoreReleased(t *testing.T, kept string) {
	bin, dir := pgtest.Build(t), newDir(t)
	copyFiles(t, kept, dir)
	for _, kind := range []string{"plain", "encrypted"} {
		archive := []string{"--archive", filepath.Join(dir, kind)}
		if kind == "encrypted" {
			archive = append(archive, "--decrypt-with", filepath.Join(dir, "key"))
		}
		sums := strings.Fields(string(readFile(t, filepath.Join(kept, kind+".sums"))))
		if len(sums) < 2*5 {
			t.Fatalf("%s: only %q", kind, sums)
		}
		for i := 0; i < len(sums); i += 2 {
			if got := restoredSum(t, sums[i+1], archive...); got != sums[i] {
				t.Errorf("%s: %s is not what it was", kind, sums[i+1])
			}
		}
		code, stdout, stderr := pgtest.Run(t, bin, append([]string{"verify", "--deep"}, archive...)...)
		if code != 0 || !strings.HasPrefix(stdout, "sound: ") {
			t.Errorf("%s: verify ended with %d: %s%s", kind, code, stdout, stderr)
		}
	}
	like := pgtest.New(t, pgtest.Options{Major: releasedMajor, WALSegmentSize: fileSize})
	for target, want := range map[string]string{"": releasedRows, "--target-name=point": releasedPoint} {
		n := like.RestoredBy(t, func(data string) {
			args := []string{"backup", "restore", "--archive", filepath.Join(dir, "plain"), "--target-dir", data}
			if target != "" {
				args = append(args, target, "--target-action", "promote")
			}
			if code, _, stderr := pgtest.Run(t, bin, args...); code != 0 {
				t.Fatalf("backup restore %s ended with %d: %s", target, code, stderr)
			}
		}, nil)
		n.Start()
		n.WaitFor("select pg_is_in_recovery()", "f", patience)
		wantMarks(t, n, want)
	}
}

// restoredSum is the digest of what restore delivers.
func restoredSum(t testing.TB, name string, archive ...string) string {
	t.Helper()
	file := filepath.Join(newDir(t), name)
	code, _, stderr := pgtest.Run(t, pgtest.Build(t), append([]string{"restore", name, file, "--retry-for", "0", "--prefetch", "0"}, archive...)...)
	if code != 0 {
		t.Fatalf("restore %s ended with %d: %s", name, code, stderr)
	}
	return fmt.Sprintf("%x", sha256.Sum256(readFile(t, file)))
}

// copyFiles copies a directory to where programs under test may read it, and nobody
// else.
func copyFiles(t testing.TB, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil || rel == "." {
			return err
		}
		if !d.IsDir() {
			writeFile(t, filepath.Join(to, rel), readFile(t, path))
			return nil
		}
		if err := os.Mkdir(filepath.Join(to, rel), 0o700); err != nil {
			return err
		}
		pgtest.Give(t, filepath.Join(to, rel))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func makeReleased(t *testing.T, dir string) {
	c := smallWith(t, pgtest.Options{Major: releasedMajor, Fresh: true})
	// A base backup without the templates is a third of one with them.
	for _, name := range []string{"template0", "template1"} {
		c.Exec("update pg_database set datistemplate = false where datname = '" + name + "'")
		c.Exec("drop database " + name)
	}
	c.Exec("create table mark(name text primary key)")
	s := c.Standby(t, nil)
	ids, files := identityFiles(t, 1)
	hosts := fmt.Sprintf("host=127.0.0.1,127.0.0.1 port=%d,%d user=postgres", c.Port, s.Port)
	work := newDir(t)
	receivers := map[string]*receiver{}
	for kind, more := range map[string][]string{"plain": nil, "encrypted": {"--encrypt-to", ids[0].Recipient().String()}} {
		if err := os.Mkdir(filepath.Join(work, kind), 0o700); err != nil {
			t.Fatal(err)
		}
		pgtest.Give(t, filepath.Join(work, kind))
		r := fresh(t, c, append([]string{"-S", kind, "--ensure-slot", "--primary-only", "-d", hosts, "--archive", filepath.Join(work, kind)}, more...)...)
		receivers[kind] = r.start()
	}
	code, _, stderr := pgtest.Run(t, pgtest.Build(t), "backup", "create", "-d", c.ReplConn(), "--archive", filepath.Join(work, "plain"))
	if code != 0 {
		t.Fatalf("backup create ended with %d: %s", code, stderr)
	}
	mark(c, "first")
	c.SwitchWAL()
	mark(c, "second")
	c.Exec("select pg_create_restore_point('point')")
	c.SwitchWAL()
	mark(c, "last-of-timeline-1")
	c.Stop(pgtest.Fast)
	s.Promote()
	for _, r := range receivers {
		r.WaitOutput(` on timeline 2","server_version"`, patience)
	}
	mark(s, "behind-the-fork")
	s.SwitchWAL()
	mark(s, "in-the-tail")
	s.WaitFor(fmt.Sprintf("select count(*) from pg_stat_replication where flush_lsn >= '%s'", s.FlushLSN()), "2", patience)
	for kind, r := range receivers {
		r.Signal(syscall.SIGTERM)
		if code := r.Wait(patience); code != 0 {
			t.Fatalf("the receiver ended with %d", code)
		}
		archive := []string{"--archive", filepath.Join(work, kind)}
		if kind == "encrypted" {
			pgtest.Give(t, files[0])
			pgtest.Give(t, filepath.Dir(files[0]))
			archive = append(archive, "--decrypt-with", files[0])
		}
		var sums strings.Builder
		for _, name := range restorableNames(t, filepath.Join(work, kind)) {
			fmt.Fprintf(&sums, "%s  %s\n", restoredSum(t, name, archive...), name)
		}
		writeFile(t, filepath.Join(dir, kind+".sums"), []byte(sums.String()))
	}
	writeFile(t, filepath.Join(dir, "key"), readFile(t, files[0]))
	copyFiles(t, work, dir)
}

// restorableNames are the files that an archive can restore.
func restorableNames(t testing.TB, archive string) (names []string) {
	t.Helper()
	name := regexp.MustCompile(`/wal/\w{8}/(\w{24})\.zst|/wal/(\w{8}\.history)|/tail/(\w{24})/`)
	err := filepath.WalkDir(archive, func(path string, d fs.DirEntry, err error) error {
		if match := name.FindStringSubmatch(path); match != nil && !d.IsDir() {
			names = append(names, strings.Join(match[1:], ""))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return slices.Compact(names)
}
