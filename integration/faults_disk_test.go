package integration

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/segment"
)

// onSmallDisk makes the program work on file systems of its own: each of the
// directories is one with room for so many MB, all of it taken by a file
// "ballast" but for the MB that are free. Nothing of that is seen outside or
// outlives the program. It needs no rights where users may have namespaces of
// their own, see canMount. root is where the test sees the program's files.
func (r *receiver) onSmallDisk(free int, dirs ...string) (root func(dir string) string) {
	const size = 64
	script := "set -e\n"
	for _, dir := range dirs {
		script += fmt.Sprintf("mount -t tmpfs -o size=%dm,mode=0700 none %s\nhead -c %dM /dev/zero >%s/ballast\n", size, dir, size-free, dir)
	}
	script += `exec "$@"`
	args := append([]string{"-Urm", "sh", "-c", script, "sh", r.bin}, r.args...)
	r.Process = pgtest.Command(r.t, toolPath(r.t, "unshare"), args...).Start()
	return func(dir string) string { return fmt.Sprintf("/proc/%d/root%s", r.PID(), dir) }
}

// canMount tells whether onSmallDisk works here.
func canMount(t testing.TB) bool {
	t.Helper()
	code, _, stderr := pgtest.Run(t, toolPath(t, "unshare"), "-Urm", "true")
	if code != 0 {
		t.Logf("no file systems of our own here, so others have to do: %s", stderr)
	}
	return code == 0
}

// isAcknowledged checks that the WAL which the server believes to be flushed is
// in the files of a directory, which may grow meanwhile. It returns how far that
// is.
func isAcknowledged(t testing.TB, c *pgtest.Cluster, dir string) segment.LSN {
	t.Helper()
	text := c.Query(`select greatest(
		(select max(flush_lsn) from pg_stat_replication where application_name = 'walrecv'),
		(select restart_lsn from pg_replication_slots where slot_name = 'walrecv'))`)
	acked, err := segment.ParseLSN(text)
	if err != nil {
		t.Fatal(err)
	}
	const size = segment.Size(fileSize)
	first, last := uint64(0), size.Number(acked)
	for _, name := range filesIn(t, dir) {
		if base, _, _ := strings.Cut(name, "."); len(base) == 24 && (first == 0 || number(t, base) < first) {
			first = number(t, base)
		}
	}
	if first == 0 {
		t.Fatalf("no WAL in %s", dir)
	}
	for n := first; n <= last; n++ {
		name := segment.Name{Timeline: 1, Number: n}
		end := min(size.Offset(acked), fileSize)
		if n < last {
			end = fileSize
		}
		ours := oneOf(t, filepath.Join(dir, name.Format(size)), filepath.Join(dir, name.Format(size)+".partial"))
		if end > 0 && (int64(len(ours)) < end || !bytes.Equal(ours[:end], readFile(t, c.WALFile(name.Format(size)))[:end])) {
			t.Errorf("%s is acknowledged, and %s has not the server's %d bytes", acked, name.Format(size), end)
		}
	}
	return acked
}

// oneOf reads the first file that is there. A partial may become a segment
// while it is looked for, so the names are tried twice.
func oneOf(t testing.TB, paths ...string) []byte {
	t.Helper()
	for _, path := range append(paths, paths...) {
		data, err := os.ReadFile(path)
		if err == nil {
			return data
		}
		if !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	return nil
}

// With a full disk nothing is acknowledged that is not there, it is told of
// once, and streaming goes on by itself when there is room.
func TestFaultsDiskFull(t *testing.T) {
	t.Parallel()
	c := small(t, pgtest.Version(t), nil)
	t.Run("in memory", func(t *testing.T) { fullMemory(t, c.With(t)) })
	if !canMount(t) {
		return // that was all there is to be had
	}
	for _, mode := range []string{"--flush-interval=50ms", "--synchronous"} {
		t.Run(mode, func(t *testing.T) {
			c := c.With(t)
			r := fresh(t, c, "-v", "-S", "walrecv", "--ensure-slot", mode)
			defer dropSlot(c, "walrecv")
			spool := r.onSmallDisk(5, r.spool)(r.spool)
			r.streams()
			emit(c, 8000)
			pgtest.Eventually(t, patience, func() bool {
				isAcknowledged(t, c, spool)
				return len(r.logged("no space left on device")) > 4
			}, "the disk does not get full")
			full := isAcknowledged(t, c, spool)
			if end, err := segment.ParseLSN(c.FlushLSN()); err != nil || full >= end {
				t.Errorf("%s of %s is acknowledged with a full disk, %v", full, end, err)
			}
			alarms := r.alarms("no space left on device")
			if len(alarms) == 0 || len(alarms) > 2 { // while streaming, and at the next start
				t.Errorf("%d alarms about a full disk: %v", len(alarms), alarms)
			}
			remove(t, filepath.Join(spool, "ballast"))
			r.flushed()
			end := c.FlushLSN()
			if acked := isAcknowledged(t, c, spool); acked < full {
				t.Errorf("acknowledged: %s, with the full disk %s", acked, full)
			}
			isWhole(t, c, spool, end)
			r.stop()
		})
	}
}

// A full disk under the archive alone holds up the archive alone.
func TestFaultsArchiveDiskFull(t *testing.T) {
	t.Parallel()
	c := small(t, pgtest.Version(t), nil)
	archive := newDir(t)
	r := archiver(t, c, newDir(t), archive)
	trouble := "no space left on device"
	var mend func()
	if canMount(t) {
		archive = r.onSmallDisk(2, archive)(archive)
		r.streams()
		mend = func() { remove(t, filepath.Join(archive, "ballast")) }
	} else {
		r.start()
		trouble = "permission denied"
		chmod(t, inArchive(c, archive), 0o500)
		mend = func() { chmod(t, inArchive(c, archive), 0o700) }
	}
	first := firstOf(t, r)
	emit(c, 6000)
	r.flushed()
	pgtest.Eventually(t, patience, func() bool { return len(r.alarms(trouble)) > 0 }, "no alarm about the archive's disk")
	emit(c, 1500)
	r.flushed()
	if n := len(r.alarms(trouble)); n != 1 {
		t.Errorf("%d alarms about one full disk", n)
	}
	mend()
	last := c.SwitchWAL()
	archived(t, c, archive, first, last)
	archiveIsWhole(t, c, archive, first, last)
	r.stop()
}

// After a failed sync the state of the disk is unknown: the process ends, and
// acknowledges nothing from then on.
func TestFaultsSyncFails(t *testing.T) {
	t.Parallel()
	c := small(t, pgtest.Version(t), nil)
	for _, mode := range []string{"--flush-interval=50ms", "--synchronous"} {
		t.Run(mode, func(t *testing.T) {
			c := c.With(t)
			r := used(t, c, "-S", "walrecv", "--ensure-slot", mode)
			defer dropSlot(c, "walrecv")
			before, err := segment.ParseLSN(c.Query("select restart_lsn from pg_replication_slots"))
			if err != nil {
				t.Fatal(err)
			}
			size := segment.Size(fileSize)
			victim := segment.Name{Timeline: 1, Number: size.Number(before) + 2}
			partial := filepath.Join(r.spool, victim.Format(size)+".partial")
			args := append([]string{
				"-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-P", partial, "-e", "inject=fdatasync:error=EIO", r.bin,
			}, r.args...)
			r.Process = pgtest.Command(t, toolPath(t, "strace"), args...).Start()
			r.streams()
			emit(c, 3500)
			r.ended(1, filepath.Base(partial), "input/output error", "failed sync")
			acked := isAcknowledged(t, c, r.spool)
			if acked > victim.Start(size) {
				t.Errorf("acknowledged: %s, but the sync of the segment from %s on failed", acked, victim.Start(size))
			}
			r.start()
			r.flushed()
			end := c.FlushLSN()
			r.stop()
			isWhole(t, c, r.spool, end)
		})
	}
}
