package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/internal/s3test"
	"github.com/walrecv/walrecv/segment"
)

// maxHelper is what the helper of restore_command may use.
const maxHelper = 64 << 20

// Neither a call that fetches what comes next beside what it was asked for nor the
// helper needs more memory than it may, also where segments are encrypted, or were
// compressed with a large window.
func TestMemoryAhead(t *testing.T) {
	t.Parallel()
	const segments, ahead = 10, 8
	s := s3test.Start(t)
	ids, keys := identityFiles(t, 1)
	pgtest.Give(t, filepath.Dir(keys[0]))
	c := pgtest.New(t, pgtest.Options{Major: pgtest.Version(t), Settings: map[string]string{"wal_keep_size": "1GB", "fsync": "off"}})
	c.Start()
	c.Exec("select pg_switch_wal()")
	first := c.Query("select pg_walfile_name(pg_current_wal_insert_lsn())")
	flat, encrypted := newDir(t), s.URL("encrypted")
	for range segments {
		name := c.Query("select pg_walfile_name(pg_current_wal_insert_lsn())")
		c.Exec("select pg_logical_emit_message(true, 'large', pg_read_binary_file('/dev/urandom', 0, 3 << 20))")
		c.SwitchWAL()
		in := filepath.Join(c.DataDir, "pg_wal", name)
		if out, err := exec.Command("zstd", "-q", "-1", "--zstd=windowLog=23", in, "-o", filepath.Join(flat, name+".zst")).CombinedOutput(); err != nil {
			t.Fatalf("zstd: %v, %s", err, out)
		}
		push := pgtest.Command(t, pgtest.Build(t), "push", "--archive", encrypted, "--encrypt-to", ids[0].Recipient().String(), "pg_wal/"+name)
		push.Env, push.Dir = s.Environ(), c.DataDir
		if code := push.Start().Wait(patience); code != 0 {
			t.Fatalf("push: %d, %s", code, push.Stderr())
		}
	}
	pgtest.Give(t, flat)
	for _, archive := range []string{flat, encrypted + " --decrypt-with " + keys[0]} {
		args := append(strings.Fields(archive), "--system-id", c.SystemID(), "--prefetch", fmt.Sprint(ahead), first)
		r := newRestore(t, s.Environ(), args...)
		r.server(1)
		peak, code := r.peak()
		staged := r.staged()
		t.Logf("restore --archive %s used up to %d MB for %d segments", archive, peak>>20, 1+staged)
		if code != 0 || staged == 0 || peak > maxRestore {
			t.Errorf("restore --archive %s: exit code %d, %d segments, %d bytes of memory", archive, code, staged, peak)
		}

		server := pgtest.Command(t, "/bin/sleep", "600").Start()
		r = newRestore(t, s.Environ(), args...)
		r.server(server.PID())
		pgtest.Eventually(t, patience, func() bool { return r.staged() == ahead }, "%d segments are staged", r.staged())
		server.Kill()
		peak, code = r.peak()
		t.Logf("its helper used up to %d MB", peak>>20)
		if code != 0 || peak > maxHelper {
			t.Errorf("its helper: exit code %d, %d bytes of memory", code, peak)
		}
	}
}

// staged counts the segments that are staged for a restore_command.
func (r *measured) staged() (n int) {
	files, _ := filepath.Glob(filepath.Join(r.dir, "walrecv-prefetch", "*", "*"))
	for _, f := range files {
		if segment.IsSegmentName(filepath.Base(f)) {
			n++
		}
	}
	return n
}

// server begins the call, as one of the server that is a process.
func (r *measured) server(pid int) {
	r.t.Helper()
	file := filepath.Join(r.dir, "data", "postmaster.pid")
	if err := os.WriteFile(file, fmt.Appendf(nil, "%d\n/data\n1790000000\n5432\n", pid), 0o644); err != nil {
		r.t.Fatal(err)
	}
	r.process.Start()
}
