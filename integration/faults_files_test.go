package integration

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/pgtest"
)

// decompressors are the tools that have to understand what -Z makes, by suffix.
var decompressors = map[string]string{".gz": "gzip", ".lz4": "lz4", ".zst": "zstd"}

// compressedIsWhole checks that every compressed segment passes its own tool's
// test, is the server's, and that a directory has all segments once, with these
// suffixes from old to new.
func compressedIsWhole(t testing.TB, c *pgtest.Cluster, dir string, suffixes ...string) {
	t.Helper()
	var names, seen []string
	for _, base := range filesIn(t, dir) {
		suffix := filepath.Ext(base)
		name := strings.TrimSuffix(base, suffix)
		if len(name) != 24 || suffix == ".partial" {
			continue
		}
		names = append(names, name)
		if !slices.Contains(seen, suffix) {
			seen = append(seen, suffix)
		}
		content := readFile(t, filepath.Join(dir, base))
		if tool := decompressors[suffix]; tool != "" {
			content = decompressed(t, tool, filepath.Join(dir, base))
		}
		if !bytes.Equal(content, readFile(t, c.WALFile(name))) {
			t.Errorf("%s is not the server's segment", base)
		}
	}
	for i := 1; i < len(names); i++ {
		if number(t, names[i]) != number(t, names[i-1])+1 {
			t.Errorf("%s is followed by %s", names[i-1], names[i])
		}
	}
	if !slices.Equal(seen, suffixes) {
		t.Errorf("suffixes %q, want %q", seen, suffixes)
	}
}

func decompressed(t testing.TB, tool, file string) []byte {
	t.Helper()
	if out, err := exec.Command(toolPath(t, tool), "-t", "-q", file).CombinedOutput(); err != nil {
		t.Errorf("%s -t %s: %v %s", tool, file, err, out)
	}
	content, err := exec.Command(tool, "-dc", "-q", file).Output()
	if err != nil {
		t.Errorf("%s -d %s: %v", tool, file, err)
	}
	return content
}

// Compression changes from run to run, and is that of the command-line tools.
// Partials are not compressed, so that nothing of them is ever streamed twice
// into one file.
func TestFaultsCompression(t *testing.T) {
	t.Parallel()
	for _, major := range pgtest.Versions(t) {
		t.Run(fmt.Sprintf("pg%d", major), func(t *testing.T) {
			c := small(t, major, nil)
			spool := newDir(t)
			run := func(method string) {
				r := inSpool(t, c, spool, "-S", "walrecv", "--ensure-slot", "-Z", method).start()
				emit(c, 2300)
				c.SwitchWAL()
				emit(c, 100)
				r.flushed()
				r.stop()
				only(t, filepath.Join(spool, "*.partial"))
			}
			run("gzip")
			compressedIsWhole(t, c, spool, ".gz")
			run("lz4")
			compressedIsWhole(t, c, spool, ".gz", ".lz4")
			run("zstd:3")
			compressedIsWhole(t, c, spool, ".gz", ".lz4", ".zst")
			run("none")
			compressedIsWhole(t, c, spool, ".gz", ".lz4", ".zst", "")
			run("gzip:9") // also what was left plain
			compressedIsWhole(t, c, spool, ".gz", ".lz4", ".zst")
		})
	}
}

// The newest segment is what everything before it rests on: if it was compressed
// and is damaged, it is streamed again.
func TestFaultsCompressedDamaged(t *testing.T) {
	t.Parallel()
	c := small(t, pgtest.Version(t), nil)
	for suffix, tool := range decompressors {
		for name, damage := range map[string]func(t testing.TB, file string){
			"cut":     func(t testing.TB, file string) { resize(t, file, 1000) },
			"flipped": func(t testing.TB, file string) { flip(t, file, 5000) },
			"empty":   func(t testing.TB, file string) { resize(t, file, 0) },
		} {
			t.Run(tool+" "+name, func(t *testing.T) {
				c := c.With(t)
				r := fresh(t, c, "-S", "walrecv", "--ensure-slot", "-Z", tool).start()
				defer dropSlot(c, "walrecv")
				emit(c, 2300)
				r.flushed()
				r.stop()
				files, err := filepath.Glob(filepath.Join(r.spool, "*"+suffix))
				if err != nil || len(files) < 2 {
					t.Fatalf("compressed: %v, %v", files, err)
				}
				newest := files[len(files)-1]
				damage(t, newest)
				r.start()
				emit(c, 1200)
				r.flushed()
				r.stop()
				alarms := r.alarms(filepath.Base(newest), "damaged and will be streamed again")
				if len(alarms) != 1 {
					t.Errorf("alarms: %v", alarms)
				}
				compressedIsWhole(t, c, r.spool, suffix)
			})
		}
	}
}

// A compressed segment whose plain file was not removed yet, as a crash leaves
// it, and one that is half written.
func TestFaultsCompressionInterrupted(t *testing.T) {
	t.Parallel()
	c := small(t, pgtest.Version(t), nil)
	spool := newDir(t)
	for range 4 {
		r := inSpool(t, c, spool, "-S", "walrecv", "--ensure-slot", "-Z", "gzip").start()
		emit(c, 5300)
		r.Kill()
	}
	r := inSpool(t, c, spool, "-S", "walrecv", "-Z", "gzip").start()
	names := filesIn(t, spool)
	newest := names[len(names)-2] // before walrecv.json
	if base := strings.TrimSuffix(newest, ".gz"); base != newest {
		writeFile(t, filepath.Join(spool, base), readFile(t, c.WALFile(base)))
	}
	emit(c, 1200)
	r.flushed()
	r.stop()
	compressedIsWhole(t, c, spool, ".gz")
	if left, _ := filepath.Glob(filepath.Join(spool, "*.tmp")); len(left) > 0 {
		t.Errorf("scratch files are left: %v", left)
	}
}

// Files have the permissions of the server's own.
func TestFaultsModes(t *testing.T) {
	t.Parallel()
	for _, group := range []bool{false, true} {
		want := fs.FileMode(0o600)
		if group {
			want = 0o640
		}
		t.Run(want.String(), func(t *testing.T) {
			c := smallWith(t, pgtest.Options{Major: pgtest.Version(t), GroupAccess: group})
			for _, args := range [][]string{nil, {"-Z", "gzip"}} {
				r := used(t, c, args...)
				for _, name := range filesIn(t, r.spool) {
					info, err := os.Stat(filepath.Join(r.spool, name))
					if err != nil {
						t.Fatal(err)
					}
					if info.Mode() != want {
						t.Errorf("%s has mode %v, want %v", name, info.Mode(), want)
					}
				}
			}
		})
	}
}

// A slot says where to begin, with an empty directory; so it goes on across a
// promotion. The end of the old timeline, the begin of the new one and its
// history are there.
func TestFaultsPromotion(t *testing.T) {
	t.Parallel()
	for _, major := range pgtest.Versions(t) {
		t.Run(fmt.Sprintf("pg%d", major), func(t *testing.T) {
			primary := small(t, major, nil)
			standby := primary.Standby(t, nil)
			standby.Exec("select pg_create_physical_replication_slot('walrecv', true)")
			before := primary.SwitchWAL()
			emit(primary, 300)
			end := primary.FlushLSN()
			standby.WaitFor(fmt.Sprintf("select pg_last_wal_replay_lsn() >= '%s'", end), "t", patience)
			standby.Promote()
			emit(standby, 300)
			after := standby.SwitchWAL()
			emit(standby, 100)
			end = standby.FlushLSN()
			r := fresh(t, standby, "-n", "-E", end, "-S", "walrecv")
			emit(standby, 100)
			r.ends(0)
			for _, name := range []string{before, after, "00000002.history"} {
				if !bytes.Equal(readFile(t, filepath.Join(r.spool, name)), readFile(t, standby.WALFile(name))) {
					t.Errorf("%s is not the server's", name)
				}
			}
			if before[:8] != "00000001" || after[:8] != "00000002" {
				t.Errorf("the promotion is not between %s and %s", before, after)
			}
		})
	}
}
