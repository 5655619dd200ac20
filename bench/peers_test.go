package bench

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/walrecv/walrecv/internal/pgtest"
)

// WAL-G, pgBackRest and pgrwl take part in recoveries where these name their programs.
// They get an archive on the disk, which holds the same segments, and what their manuals
// recommend for speed.
const (
	walgVariable       = "WALRECV_BENCH_WALG"
	pgbackrestVariable = "WALRECV_BENCH_PGBACKREST"
	pgrwlVariable      = "WALRECV_BENCH_PGRWL"
)

// addPeers lets the others recover, too.
func (w *history) addPeers(b *testing.B, r *row, fsync string) {
	b.Helper()
	if bin := os.Getenv(walgVariable); bin != "" {
		env := []string{"WALG_FILE_PREFIX=" + pgtest.TempDir(b), "PGDATA=" + w.DataDir}
		w.push(b, env, bin, "wal-push")
		r.add("WAL-G", func() sample { return w.recover(b, env, fsync, bin+" wal-fetch %f %p >>wal-g.log 2>&1") })
	}
	if bin := os.Getenv(pgbackrestVariable); bin != "" {
		dir := pgtest.TempDir(b)
		env := []string{
			"PGBACKREST_STANZA=bench", "PGBACKREST_REPO1_PATH=" + filepath.Join(dir, "repo"), "PGBACKREST_COMPRESS_TYPE=zst",
			"PGBACKREST_LOG_PATH=" + dir, "PGBACKREST_LOCK_PATH=" + filepath.Join(dir, "lock"),
			"PGBACKREST_SPOOL_PATH=" + filepath.Join(dir, "spool"), "PGBACKREST_PROCESS_MAX=2",
		}
		tool(b, env, bin, "--pg1-path="+w.DataDir, "--no-online", "stanza-create")
		w.push(b, env, bin, "--pg1-path="+w.DataDir, "archive-push")
		env = append(env, "PGBACKREST_ARCHIVE_ASYNC=y")
		r.add("pgBackRest", func() sample {
			if err := os.RemoveAll(filepath.Join(dir, "spool")); err != nil { // of another recovery
				b.Fatal(err)
			}
			return w.recover(b, env, fsync, bin+` --pg1-path="$PWD" archive-get %f %p`)
		})
	}
	if bin := os.Getenv(pgrwlVariable); bin != "" {
		address, pid := w.serve(b, bin)
		r.add("pgrwl", func() sample {
			before, _ := usage(b, pid)
			s := w.recover(b, nil, fsync, fmt.Sprintf("%s restore-command --serve-addr=%s %%f %%p", bin, address))
			after, _ := usage(b, pid)
			s.cpu += after - before
			return s
		})
	}
}

// serve starts the server that pgrwl's restore_command asks. It gets its own view of the
// segments, beside which it makes a directory.
func (w *history) serve(b *testing.B, bin string) (address string, pid int) {
	b.Helper()
	dir, port := pgtest.TempDir(b), pgtest.Port(b)
	for _, path := range w.files(b) {
		if err := os.Symlink(path, filepath.Join(dir, filepath.Base(path))); err != nil {
			b.Fatal(err)
		}
	}
	p := pgtest.Command(b, bin, "daemon", "--mode", "serve")
	p.Env = []string{
		"PGRWL_MAIN_DIRECTORY=" + dir, fmt.Sprintf("PGRWL_MAIN_LISTEN_PORT=%d", port),
		"PGRWL_RECEIVER_SLOT=bench", "PGRWL_BACKUP_CRON=0 0 1 1 *", // wanted by its configuration, not used
	}
	p.Start()
	address = fmt.Sprintf("127.0.0.1:%d", port)
	pgtest.Eventually(b, patience, func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	}, "pgrwl does not listen")
	return address, p.PID()
}

// push gives every segment to a program.
func (w *history) push(b *testing.B, env []string, command ...string) {
	b.Helper()
	for _, path := range w.files(b) {
		tool(b, env, append(slices.Clone(command), path)...)
	}
}

// files are the segments as they are.
func (w *history) files(b *testing.B) []string {
	b.Helper()
	paths, err := filepath.Glob(w.plain + "/*")
	if err != nil {
		b.Fatal(err)
	}
	return paths
}

// tool runs a program to its end.
func tool(b *testing.B, env []string, command ...string) {
	b.Helper()
	p := pgtest.Command(b, command[0], command[1:]...)
	p.Env = env
	if code := p.Start().Wait(patience); code != 0 {
		b.Fatalf("%v ended with %d: %s%s", command, code, p.Stdout(), p.Stderr())
	}
}
