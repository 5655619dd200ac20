package bench

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/walrecv/walrecv/internal/pgtest"
)

// WAL-G and pgBackRest take part in recoveries where these name their programs. They
// get an archive on the disk, which holds the same segments, and what their manuals
// recommend for speed.
const (
	walgVariable       = "WALRECV_BENCH_WALG"
	pgbackrestVariable = "WALRECV_BENCH_PGBACKREST"
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
}

// push gives every segment to a program.
func (w *history) push(b *testing.B, env []string, command ...string) {
	b.Helper()
	segments, err := filepath.Glob(w.plain + "/*")
	if err != nil {
		b.Fatal(err)
	}
	for _, path := range segments {
		tool(b, env, append(slices.Clone(command), path)...)
	}
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
