package integration

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/pgtest"
)

// used is a spool with some WAL in it, and the receiver that put it there,
// which has ended.
func used(t *testing.T, c *pgtest.Cluster, args ...string) *receiver {
	t.Helper()
	return usedBy(t, c, fresh(t, c, args...))
}

func usedBy(t *testing.T, c *pgtest.Cluster, r *receiver) *receiver {
	t.Helper()
	r.start()
	emit(c, 3300)
	r.flushed()
	r.stop()
	return r
}

// A directory that cannot be used is refused, before anything in it changes.
func TestFaultsSpoolRefused(t *testing.T) {
	t.Parallel()
	c := small(t, pgtest.Version(t), nil)
	other := smallWith(t, pgtest.Options{Major: pgtest.Version(t), Fresh: true})
	refused := func(t *testing.T, r *receiver, code int, texts ...string) {
		t.Helper()
		before := treeOf(t, r.spool)
		r.ends(code, texts...)
		if after := treeOf(t, r.spool); strings.Join(before, " ") != strings.Join(after, " ") {
			t.Errorf("the spool changed from %v to %v", before, after)
		}
	}
	spool := used(t, c).spool
	t.Run("another cluster", func(t *testing.T) {
		refused(t, inSpool(t, other.With(t), spool), 4, c.SystemID(), other.SystemID(), spool, "another cluster", "a directory of its own")
	})
	t.Run("another cluster, without a record", func(t *testing.T) {
		spool := used(t, c.With(t)).spool
		remove(t, filepath.Join(spool, "walrecv.json"))
		refused(t, inSpool(t, other.With(t), spool), 4, c.SystemID(), other.SystemID(), spool, "another cluster", "a directory of its own")
	})
	t.Run("another segment size", func(t *testing.T) {
		spool := used(t, c.With(t)).spool
		replace(t, filepath.Join(spool, "walrecv.json"), "1048576", "16777216")
		refused(t, inSpool(t, c.With(t), spool), 4, "16MB", "1MB", spool)
	})
	t.Run("record damaged", func(t *testing.T) {
		spool := used(t, c.With(t)).spool
		writeFile(t, filepath.Join(spool, "walrecv.json"), []byte(`{"format":`))
		refused(t, inSpool(t, c.With(t), spool), 1, filepath.Join(spool, "walrecv.json"), "damaged")
	})
	t.Run("of a later version", func(t *testing.T) {
		spool := used(t, c.With(t)).spool
		replace(t, filepath.Join(spool, "walrecv.json"), `"format":1`, `"format":2`)
		refused(t, inSpool(t, c.With(t), spool), 1, filepath.Join(spool, "walrecv.json"), "format 2")
	})
	t.Run("in use", func(t *testing.T) {
		r := inSpool(t, c.With(t), spool).start()
		inSpool(t, c.With(t), spool).ends(1, "another walrecv", spool)
		emit(c, 100)
		r.flushed() // undisturbed
		r.stop()
	})
	t.Run("mistyped", func(t *testing.T) {
		missing := filepath.Join(newDir(t), "missing")
		inSpool(t, c.With(t), missing).ends(1, missing, "no such file or directory")
	})
	t.Run("a file", func(t *testing.T) {
		file := filepath.Join(newDir(t), "file")
		writeFile(t, file, nil)
		inSpool(t, c.With(t), file).ends(1, file, "not a directory")
	})
	t.Run("not writable", func(t *testing.T) {
		r := fresh(t, c.With(t))
		chmod(t, r.spool, 0o500)
		refused(t, r, 1, r.spool, "permission denied")
	})
	t.Run("not readable", func(t *testing.T) {
		r := fresh(t, c.With(t))
		chmod(t, r.spool, 0)
		r.ends(1, r.spool, "permission denied")
	})
}

// Whatever became of the files of a spool, as long as the server has the WAL
// there is no hole afterwards, and what is there is the server's.
func TestFaultsSpoolMended(t *testing.T) {
	t.Parallel()
	c := small(t, pgtest.Version(t), nil)
	// Each gets the newest complete segment, the one before it, and the partial.
	for _, tc := range []struct {
		name   string
		damage func(t *testing.T, newest, before, partial string)
		alarm  string // in the log
		aside  string // suffix of the file that keeps what was there
	}{
		{"short segment", func(t *testing.T, newest, _, _ string) { resize(t, newest, 300_000) }, "wrong size", ""},
		{"short segment in the middle", func(t *testing.T, _, before, _ string) { resize(t, before, 300_000) }, "wrong size", ""},
		{"long segment", func(t *testing.T, newest, _, _ string) { resize(t, newest, fileSize+1) }, "wrong size", ".damaged-1"},
		{"empty segment", func(t *testing.T, newest, _, _ string) { resize(t, newest, 0) }, "wrong size", ""},
		{"missing segment", func(t *testing.T, newest, _, _ string) { remove(t, newest) }, "", ""},
		{"missing segment in the middle", func(t *testing.T, _, before, _ string) { remove(t, before) }, "", ""},
		{"odd partial", func(t *testing.T, _, _, partial string) { resize(t, partial, 123_457) }, "", ""},
		{"empty partial", func(t *testing.T, _, _, partial string) { resize(t, partial, 0) }, "", ""},
		{"long partial", func(t *testing.T, _, _, partial string) { resize(t, partial, 2*fileSize) }, "too long", ".partial.damaged-1"},
		{"missing partial", func(t *testing.T, _, _, partial string) { remove(t, partial) }, "", ""},
		{"other partial", func(t *testing.T, _, _, partial string) { flip(t, partial, 9000) }, "other WAL than it sent before", ".partial.diverged-1"},
		{"scratch files", func(t *testing.T, newest, _, partial string) {
			writeFile(t, newest+".zst.tmp", []byte("x"))
			writeFile(t, partial+".tmp", []byte("x"))
		}, "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := c.With(t)
			r := used(t, c, "-S", "walrecv", "--ensure-slot")
			defer dropSlot(c, "walrecv")
			names := sealedNames(t, r.spool)
			newest := filepath.Join(r.spool, names[len(names)-1])
			before := filepath.Join(r.spool, names[len(names)-2])
			partial := only(t, filepath.Join(r.spool, "*.partial"))
			tc.damage(t, newest, before, partial)
			emit(c, 100)
			r.start()
			r.flushed()
			end := c.FlushLSN()
			r.stop()
			isWhole(t, c, r.spool, end)
			if names := sealedNames(t, r.spool); len(names) == 0 || names[0] > filepath.Base(before) {
				t.Errorf("the oldest segments are gone: %v", names)
			}
			alarms := r.alarms(tc.alarm)
			if tc.alarm == "" && len(alarms) > 0 || tc.alarm != "" && len(alarms) != 1 {
				t.Errorf("alarms: %v, want one of %q", alarms, tc.alarm)
			}
			kept, _ := filepath.Glob(filepath.Join(r.spool, "*-1"))
			if tc.aside == "" && len(kept) > 0 || tc.aside != "" && (len(kept) != 1 || !strings.HasSuffix(kept[0], tc.aside)) {
				t.Errorf("set aside: %v, want %q", kept, tc.aside)
			}
			if left, _ := filepath.Glob(filepath.Join(r.spool, "*.tmp")); len(left) > 0 {
				t.Errorf("scratch files are left: %v", left)
			}
		})
	}
}

// A server that was put back to an earlier state is refused as long as it ends
// before what it had sent. Later its WAL is another one: the old is kept.
func TestFaultsServerPutBack(t *testing.T) {
	t.Parallel()
	c := small(t, pgtest.Version(t), nil)
	r := fresh(t, c, "-S", "walrecv", "--ensure-slot").start()
	emit(c, 1500)
	r.flushed()
	c.SwitchWAL()
	r.flushed()
	r.stop()
	c.Stop(pgtest.Fast)
	snapshot := filepath.Join(newDir(t), "data")
	shell(t, "cp", "-a", c.DataDir, snapshot)
	c.Start()
	r.start()
	emit(c, 300)
	r.flushed()
	r.stop()
	c.Stop(pgtest.Fast)
	shell(t, "rm", "-r", c.DataDir)
	shell(t, "mv", snapshot, c.DataDir)
	c.Start()
	before := treeOf(t, r.spool)
	r.ends(4, "the server ends at", "was it restored from a snapshot?")
	if after := treeOf(t, r.spool); strings.Join(before, " ") != strings.Join(after, " ") {
		t.Errorf("the spool changed from %v to %v", before, after)
	}
	partial := only(t, filepath.Join(r.spool, "*.partial"))
	old := readFile(t, partial)
	emit(c, 500)
	r.start()
	r.flushed()
	end := c.FlushLSN()
	alarms := r.alarms("other WAL than it sent before")
	r.stop()
	if len(alarms) != 1 || alarms[0].Level != "ERROR" || alarms[0].File != filepath.Base(partial) {
		t.Errorf("alarms: %v", alarms)
	}
	if !bytes.Equal(readFile(t, partial+".diverged-1"), old) {
		t.Error("the old WAL is not what was set aside")
	}
	isWhole(t, c, r.spool, end)
}

// newTimeline ends a server's timeline.
func newTimeline(t testing.TB, c *pgtest.Cluster) {
	t.Helper()
	c.Stop(pgtest.Fast)
	writeFile(t, filepath.Join(c.DataDir, "standby.signal"), nil)
	c.Start()
	c.Promote()
}

// Two branches under one timeline's number do not mix.
func TestFaultsHistoryConflict(t *testing.T) {
	t.Parallel()
	c := small(t, pgtest.Version(t), nil)
	archive := newDir(t)
	spooled := used(t, c, "-S", "walrecv", "--ensure-slot")
	archived := used(t, c, "-S", "archived", "--ensure-slot", "--archive", archive)
	newTimeline(t, c)
	other := []byte("1\t0/123456\tanother branch\n")
	t.Run("spool", func(t *testing.T) {
		file := filepath.Join(spooled.spool, "00000002.history")
		writeFile(t, file, other)
		r := inSpool(t, c.With(t), spooled.spool, "-S", "walrecv")
		r.ends(4, "00000002.history", "another history of the same timeline", "a directory and an archive of its own")
		if got := readFile(t, file); !bytes.Equal(got, other) {
			t.Errorf("the history file is now %q", got)
		}
	})
	t.Run("archive", func(t *testing.T) {
		key := filepath.Join(c.SystemID(), "wal", "00000002.history")
		writeFile(t, filepath.Join(archive, key), other)
		r := inSpool(t, c.With(t), archived.spool, "-S", "archived", "--archive", archive)
		r.ends(4, key, "another content")
		if got := readFile(t, filepath.Join(archive, key)); !bytes.Equal(got, other) {
			t.Errorf("the history file is now %q", got)
		}
	})
}

// only is the one file that a pattern matches.
func only(t testing.TB, pattern string) string {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) != 1 {
		t.Fatalf("%s matches %v, %v", pattern, names, err)
	}
	return names[0]
}

func resize(t testing.TB, path string, size int64) {
	t.Helper()
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}

func remove(t testing.TB, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// chmod changes the mode of a directory until the end of the test.
func chmod(t testing.TB, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Chmod(path, 0o700); err != nil {
			t.Error(err)
		}
	})
}

func flip(t testing.TB, path string, offset int) {
	t.Helper()
	data := readFile(t, path)
	data[offset] ^= 0xff
	if err := os.WriteFile(path, data, 0); err != nil {
		t.Fatal(err)
	}
}

func replace(t testing.TB, path, old, replacement string) {
	t.Helper()
	data := readFile(t, path)
	if bytes.Count(data, []byte(old)) != 1 {
		t.Fatalf("%s does not have one %q: %s", path, old, data)
	}
	writeFile(t, path, bytes.Replace(data, []byte(old), []byte(replacement), 1))
}

// shell runs a program as the user of the tests.
func shell(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}
