package integration

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/pgtest"
)

// archiver prepares a receiver with a slot and an archive.
func archiver(t testing.TB, c *pgtest.Cluster, spool, archive string) *receiver {
	t.Helper()
	return inSpool(t, c, spool, "-v", "-S", "walrecv", "--ensure-slot", "--archive", archive)
}

// inArchive is the path of a file in the archive of a cluster.
func inArchive(c *pgtest.Cluster, archive string, elem ...string) string {
	return filepath.Join(append([]string{archive, c.SystemID()}, elem...)...)
}

// archivedNames are the complete segments of timeline 1 in an archive.
func archivedNames(t testing.TB, c *pgtest.Cluster, archive string) []string {
	t.Helper()
	objects, err := filepath.Glob(inArchive(c, archive, "wal", "00000001", "*.zst"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, object := range objects {
		names = append(names, strings.TrimSuffix(filepath.Base(object), ".zst"))
	}
	return names
}

// archived waits until as many segments are archived as there are from one to
// another: several are on their way at once, so the last may be there first.
func archived(t testing.TB, c *pgtest.Cluster, archive, first, last string) {
	t.Helper()
	want := number(t, last) - number(t, first) + 1
	pgtest.Eventually(t, patience, func() bool {
		return uint64(len(archivedNames(t, c, archive))) >= want
	}, "the segments from %s to %s are not all archived", first, last)
}

// archiveIsWhole checks, without walrecv, that an archive has every segment from
// one to another, and that each is the server's.
func archiveIsWhole(t testing.TB, c *pgtest.Cluster, archive, first, last string) {
	t.Helper()
	names := archivedNames(t, c, archive)
	if len(names) == 0 || names[0] != first || names[len(names)-1] != last {
		t.Fatalf("archived: %v, want all from %s to %s", names, first, last)
	}
	for i, name := range names {
		if i > 0 && number(t, name) != number(t, names[i-1])+1 {
			t.Errorf("hole in the archive between %s and %s", names[i-1], name)
		}
		var stderr bytes.Buffer
		cmd := exec.Command("zstd", "-dc", inArchive(c, archive, "wal", "00000001", name+".zst"))
		cmd.Stderr = &stderr
		data, err := cmd.Output()
		if err != nil {
			t.Errorf("zstd -d of %s: %v %s", name, err, stderr.String())
		} else if !bytes.Equal(data, readFile(t, c.WALFile(name))) {
			t.Errorf("the archived %s differs from the server's", name)
		}
	}
}

// firstOf is the oldest segment of a spool, as it is before any is archived.
func firstOf(t testing.TB, r *receiver) (first string) {
	t.Helper()
	pgtest.Eventually(t, patience, func() bool {
		for _, name := range filesIn(t, r.spool) {
			if base, _, _ := strings.Cut(name, "."); len(base) == 24 {
				first = base
				return true
			}
		}
		return false
	}, "no segment in the spool")
	return first
}

// An archive that is not this cluster's, or is none, is refused at the start.
// Nothing is written to it.
func TestFaultsArchiveRefused(t *testing.T) {
	t.Parallel()
	c := small(t, pgtest.Version(t), nil)
	id := c.SystemID()
	identity := func(id string, size int) []byte {
		return fmt.Appendf(nil, `{"format":1,"system_identifier":"%s","wal_segment_size":%d,"postgresql_major":%d}`+"\n", id, size, c.Major)
	}
	// with makes an archive that has just an identity.
	with := func(content []byte) func(*testing.T) string {
		return func(t *testing.T) string {
			archive := newDir(t)
			if err := os.Mkdir(filepath.Join(archive, id), 0o700); err != nil {
				t.Fatal(err)
			}
			writeFile(t, filepath.Join(archive, id, "walrecv.json"), content)
			pgtest.Give(t, archive)
			return archive
		}
	}
	for _, tc := range []struct {
		name    string
		archive func(t *testing.T) string
		code    int
		texts   []string
	}{
		{"another cluster", with(identity("7123456789012345678", fileSize)), 4, []string{"7123456789012345678", id}},
		{"another segment size", with(identity(id, 16<<20)), 4, []string{"16MB", "1MB", id}},
		{"a later format", with([]byte(`{"format":2}`)), 4, []string{"format 2", id + "/walrecv.json"}},
		{"damaged", with([]byte(`{"format":1`)), 1, []string{id + "/walrecv.json", "damaged"}},
		{"mistyped", func(t *testing.T) string { return filepath.Join(newDir(t), "missing") }, 1, []string{"archive directory is missing", "/missing: create it, or correct --archive"}},
		{"a file", func(t *testing.T) string {
			file := filepath.Join(newDir(t), "file")
			writeFile(t, file, nil)
			return file
		}, 1, []string{"archive directory is missing", "/file"}},
		{"not writable", func(t *testing.T) string {
			dir := newDir(t)
			chmod(t, dir, 0o500)
			return dir
		}, 1, []string{"permission denied", id}},
		{"a relative path", func(*testing.T) string { return "archive" }, 2, []string{"must be absolute"}},
		{"a password", func(*testing.T) string { return "s3://me:secret@bucket/" }, 2, []string{"must not carry"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			archive := tc.archive(t)
			var before []string
			if tc.code != 2 {
				before = treeOf(t, filepath.Dir(archive))
			}
			r := fresh(t, c.With(t), "-S", "walrecv", "--ensure-slot", "--archive", archive)
			r.ends(tc.code, tc.texts...)
			if strings.Contains(r.Stderr(), "secret") {
				t.Error("the password is told")
			}
			if tc.code == 2 {
				return
			}
			if after := treeOf(t, filepath.Dir(archive)); strings.Join(before, " ") != strings.Join(after, " ") {
				t.Errorf("the archive changed from %v to %v", before, after)
			}
		})
	}
	if got := c.Query("select count(*) from pg_replication_slots"); got != "0" {
		t.Errorf("%s slots were made for archives that are refused", got)
	}
}

// A spool that has used an archive does not take another place for it: an
// unmounted disk, a mistyped path.
func TestFaultsArchiveUnmounted(t *testing.T) {
	t.Parallel()
	c := small(t, pgtest.Version(t), nil)
	archive := newDir(t)
	r := archiver(t, c, newDir(t), archive).start()
	first := firstOf(t, r)
	emit(c, 2500)
	r.flushed()
	r.stop()
	files := treeOf(t, r.spool)
	for name, place := range map[string]string{
		"an empty directory":  newDir(t),
		"a missing directory": filepath.Join(newDir(t), "missing"),
	} {
		t.Run(name, func(t *testing.T) {
			archiver(t, c.With(t), r.spool, place).ends(4, r.spool, "has used an archive", c.SystemID(), "is it mounted")
			if left, err := os.ReadDir(place); err == nil && len(left) > 0 {
				t.Errorf("something was written to %s: %v", place, left)
			}
			if after := treeOf(t, r.spool); strings.Join(files, " ") != strings.Join(after, " ") {
				t.Errorf("the spool changed from %v to %v", files, after)
			}
		})
	}
	r = archiver(t, c, r.spool, archive).start()
	emit(c, 2500)
	last := c.SwitchWAL()
	r.flushed()
	r.stop()
	archiveIsWhole(t, c, archive, first, last)
}

// The disk of the archive goes away under a receiver and leaves an empty
// directory. Nothing must be written to that, since it would be hidden when the
// disk is back, and nothing must leave the spool. (What is being put at that very
// moment can still land there, and is not confirmed: so nothing is on its way.)
func TestFaultsArchiveUnmountedMeanwhile(t *testing.T) {
	t.Parallel()
	c := small(t, pgtest.Version(t), nil)
	archive := newDir(t)
	r := archiver(t, c, newDir(t), archive).start()
	first := firstOf(t, r)
	emit(c, 2500)
	r.flushed()
	archived(t, c, archive, first, c.SwitchWAL())
	tail := inArchive(c, archive, "tail")
	pgtest.Eventually(t, patience, func() bool { return !exists(tail) || len(treeOf(t, tail)) == 0 }, "the tail of sealed segments stays")
	away := filepath.Join(filepath.Dir(archive), "away")
	rename(t, archive, away)
	if err := os.Mkdir(archive, 0o700); err != nil {
		t.Fatal(err)
	}
	pgtest.Give(t, archive)
	emit(c, 3500)
	r.flushed()
	pgtest.Eventually(t, patience, func() bool { return len(r.alarms("cannot archive")) > 0 }, "no alarm about the archive")
	if left := treeOf(t, archive); len(left) > 0 {
		t.Errorf("something was written below the mount point: %v", left)
	}
	remove(t, archive)
	rename(t, away, archive)
	pgtest.Eventually(t, patience, func() bool { return len(r.logged("archiving works again")) > 0 }, "archiving does not work again")
	last := c.SwitchWAL()
	r.flushed()
	r.stop()
	archiveIsWhole(t, c, archive, first, last)
}

// An archive that cannot be used for a while holds nothing up but itself.
func TestFaultsArchiveOutage(t *testing.T) {
	t.Parallel()
	c := small(t, pgtest.Version(t), nil)
	archive := newDir(t)
	spool := newDir(t)
	r := archiver(t, c, spool, archive).start()
	first := firstOf(t, r)
	emit(c, 1500)
	r.flushed()
	pgtest.Eventually(t, patience, func() bool { return len(archivedNames(t, c, archive)) > 0 }, "nothing is archived")
	wal := inArchive(c, archive, "wal", "00000001")

	chmod(t, wal, 0o500)
	emit(c, 3500)
	r.flushed()
	pgtest.Eventually(t, patience, func() bool { return len(r.alarms("cannot archive")) > 0 }, "no alarm about the archive")
	r.stop()
	for _, mode := range []os.FileMode{0o500, 0} {
		chmod(t, archive, mode)
		r = archiver(t, c, spool, archive).start()
		emit(c, 1500)
		r.flushed()
		pgtest.Eventually(t, patience, func() bool { return len(r.logged("permission denied")) > 0 }, "no alarm about the archive")
		r.stop()
		if n := len(r.alarms("permission denied")); n < 1 || n > 2 {
			t.Errorf("mode %o: %d alarms about one archive", mode, n)
		}
	}
	chmod(t, archive, 0o700)
	r = archiver(t, c, spool, archive).start()
	chmod(t, wal, 0o700)
	last := c.SwitchWAL()
	r.flushed()
	archived(t, c, archive, first, last)
	r.stop()
	archiveIsWhole(t, c, archive, first, last)
}

// The whole spool is lost. What was archived is not streamed again, and what was
// not is.
func TestFaultsSpoolLost(t *testing.T) {
	t.Parallel()
	for _, major := range pgtest.Versions(t) {
		t.Run(fmt.Sprintf("pg%d", major), func(t *testing.T) {
			c := small(t, major, nil)
			archive := newDir(t)
			r := archiver(t, c, newDir(t), archive).start()
			first := firstOf(t, r)
			var last string
			for range 3 {
				emit(c, 3500)
				r.flushed()
				// What is older than anything in the archive it knows nothing of.
				pgtest.Eventually(t, patience, func() bool { return slices.Contains(archivedNames(t, c, archive), first) }, "%s is not archived", first)
				r.Kill()
				emit(c, 1500)
				if err := os.RemoveAll(r.spool); err != nil {
					t.Fatal(err)
				}
				r = archiver(t, c, newDir(t), archive).start()
				last = c.SwitchWAL()
				r.flushed()
			}
			end := c.FlushLSN()
			r.stop()
			archiveIsWhole(t, c, archive, first, last)
			isWhole(t, c, r.spool, end)
		})
	}
}

// A read-only disk under an archive is waited for, once the archive is in use.
func TestFaultsArchiveReadOnly(t *testing.T) {
	t.Parallel()
	if !canMount(t) {
		return // permissions do the same, see TestFaultsArchiveRefused and TestFaultsArchiveOutage
	}
	c := small(t, pgtest.Version(t), nil)
	archive := newDir(t)
	readOnly := func(r *receiver) {
		script := fmt.Sprintf("set -e; mount --bind %[1]s %[1]s; mount -o remount,bind,ro %[1]s; exec \"$@\"", archive)
		args := append([]string{"-Urm", "sh", "-c", script, "sh", r.bin}, r.args...)
		r.Process = pgtest.Command(t, toolPath(t, "unshare"), args...).Start()
	}
	r := archiver(t, c, newDir(t), archive)
	readOnly(r)
	r.ended(1, "read-only file system", c.SystemID())
	r.start()
	first := firstOf(t, r)
	emit(c, 1500)
	r.flushed()
	r.stop()
	readOnly(r)
	r.streams()
	emit(c, 2500)
	r.flushed()
	pgtest.Eventually(t, patience, func() bool { return len(r.alarms("read-only file system")) > 0 }, "no alarm about the archive")
	r.stop()
	r.start()
	last := c.SwitchWAL()
	r.flushed()
	archived(t, c, archive, first, last)
	r.stop()
	archiveIsWhole(t, c, archive, first, last)
}

// What somebody else archived under a segment's name stays, and ends the
// receiver.
func TestFaultsArchiveConflict(t *testing.T) {
	t.Parallel()
	c := small(t, pgtest.Version(t), nil)
	archive := newDir(t)
	r := archiver(t, c, newDir(t), archive).start()
	emit(c, 1500)
	r.flushed()
	pgtest.Eventually(t, patience, func() bool { return len(archivedNames(t, c, archive)) > 0 }, "nothing is archived")
	theirs := readFile(t, inArchive(c, archive, "wal", "00000001", archivedNames(t, c, archive)[0]+".zst"))
	// plant puts an object where the current segment belongs, and goes on.
	plant := func(content []byte, code int, texts ...string) string {
		current := c.Query("select pg_walfile_name(pg_current_wal_lsn())")
		ours := inArchive(c, archive, "wal", "00000001", current+".zst")
		writeFile(t, ours, content)
		emit(c, 1500)
		r.ended(code, append(texts, current+".zst")...)
		if !bytes.Equal(readFile(t, ours), content) {
			t.Error("the other object was replaced")
		}
		if names := sealedNames(t, r.spool); len(names) == 0 || names[0] > current {
			t.Errorf("the segment is not in the spool: %v", names)
		}
		return ours
	}
	there := plant(theirs, 4, "another content", "another server or archiver writes there")
	remove(t, there) // as an operator does, once it is clear whose it is
	r.start()
	r.flushed()
	plant(theirs[:len(theirs)/2], 1, "damaged")
}

func rename(t testing.TB, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}
