package integration

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/walrecv/walrecv/internal/pgtest"
)

// rewindOf is the pg_rewind of a major, which serves no other; "" where there is none
// beside the server.
func rewindOf(t testing.TB, major int) string {
	t.Helper()
	program := filepath.Join(pgtest.BinDir(t, major), "pg_rewind")
	if !exists(program) {
		return ""
	}
	return program
}

// TestPgRewind: pg_rewind runs restore_command from elsewhere, with an absolute
// path that ends in the segment's own name, and on a data directory that is
// neither a standby nor in recovery. It needs WAL of the abandoned branch.
func TestPgRewind(t *testing.T) {
	major := pgtest.Version(t)
	program := rewindOf(t, major)
	pgtest.Only(t, major, program != "", "no pg_rewind of it is here")
	old := pgtest.New(t, pgtest.Options{
		Major: major, WALSegmentSize: 1 << 20,
		Settings: map[string]string{"wal_keep_size": "1GB", "max_wal_size": "2GB", "autovacuum": "off", "wal_log_hints": "on"},
	})
	old.Start()
	old.Exec("create table mark(name text primary key)")
	w := newWAL(t, old)
	first := walFile(old)
	standby := old.Standby(t, quick)
	mark(old, "common")
	old.Exec("checkpoint")
	follows(standby, "common")
	disconnect(standby)
	standby.Promote()
	mark(standby, "child")
	mark(old, "abandoned")
	fill(old, 3)
	last := old.SwitchWAL()
	w.put(old, w.segments(first, last)...)
	old.Set(w.settings("--retry-for", "1s"))
	old.Stop(pgtest.Fast)
	standby.Stop(pgtest.Fast)
	for _, name := range w.segments(first, last) {
		if err := os.Remove(old.WALFile(name)); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	code, out, errOut := pgtest.Run(t, program, "--restore-target-wal",
		"--target-pgdata", old.DataDir, "--source-pgdata", standby.DataDir)
	if code != 0 {
		t.Fatalf("pg_rewind ended with %d:\n%s%s", code, out, errOut)
	}
	if ahead, err := filepath.Glob(filepath.Join(old.Dir, "walrecv-prefetch", "*")); err != nil || len(ahead) > 0 {
		t.Errorf("something was fetched ahead for pg_rewind: %v, %v", ahead, err)
	}
	// The configuration came along from the other server.
	old.Set(with(w.settings(), "primary_conninfo", standby.SocketConn("replication")))
	signal := filepath.Join(old.DataDir, string(pgtest.StandbySignal))
	if err := os.WriteFile(signal, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	pgtest.Give(t, signal)
	standby.Start()
	old.Start()
	follows(old, "child common")
	checkHeapAndIndexes(t, standby)
}
