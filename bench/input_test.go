package bench

import (
	"fmt"
	"maps"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/walrecv/walrecv/internal/pgtest"
)

// The WAL that is worked on. Each kind is made once, by a server in memory that keeps
// all of it, so that no generator runs beside the contenders.
const (
	incompressible = `select pg_logical_emit_message(false, 'bench', pg_read_binary_file('/dev/urandom', 0, 1048576)) from generate_series(1, %d)`
	nearlyEmpty    = `do $$ begin for i in 1..%d loop perform pg_logical_emit_message(false, 'bench', 'x'); perform pg_switch_wal(); end loop; end $$`
)

// A stretch is WAL that a server has, from the beginning of a segment to the end of
// another one, and that a receiver with a copy of a slot gets as a whole.
type stretch struct {
	*pgtest.Cluster
	b        *testing.B
	segments int
	end      string // the position of its last byte
	copies   int    // of the slot
}

// source is a server that makes WAL and keeps it.
func source(b *testing.B, settings map[string]string) *pgtest.Cluster {
	b.Helper()
	all := map[string]string{
		"shared_buffers": "256MB", "synchronous_commit": "off", "autovacuum": "off", "checkpoint_timeout": "1h",
		"max_wal_size": "20GB", "wal_keep_size": "20GB", "max_wal_senders": "20", "max_connections": "100",
	}
	maps.Copy(all, settings)
	c := pgtest.New(b, pgtest.Options{Major: major, Settings: all})
	c.Start()
	return c
}

// record makes a stretch of what fill writes.
func record(b *testing.B, c *pgtest.Cluster, fill func()) *stretch {
	b.Helper()
	c.Exec("select pg_drop_replication_slot(slot_name) from pg_replication_slots")
	c.SwitchWAL()
	c.Exec("checkpoint") // where slots begin
	c.Exec("select pg_create_physical_replication_slot('origin', true)")
	w := &stretch{Cluster: c, b: b}
	begin := c.Query("select restart_lsn from pg_replication_slots")
	fill()
	c.SwitchWAL()
	w.end = c.Query(fmt.Sprintf("select insert - mod(insert - '0/0', %d) - 1 from pg_current_wal_insert_lsn() insert", c.SegmentSize))
	n := c.Query(fmt.Sprintf("select ceil((pg_lsn '%s' - '%s') / %d)", w.end, begin, c.SegmentSize))
	var err error
	if w.segments, err = strconv.Atoi(n); err != nil {
		b.Fatal(err)
	}
	c.Exec("checkpoint") // not beside the contenders
	return w
}

// slot makes a new slot at the beginning.
func (w *stretch) slot() string {
	w.copies++
	name := fmt.Sprintf("copy_%d", w.copies)
	w.Exec(fmt.Sprintf("select pg_copy_physical_replication_slot('origin', '%s')", name))
	return name
}

// complete ends the benchmark unless a directory has a file for every segment.
func (w *stretch) complete(pattern string) {
	w.b.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) < w.segments {
		w.b.Fatalf("%s: %d files for %d segments, %v", pattern, len(found), w.segments, err)
	}
}

// runPgbench runs pgbench to its end and returns what it says.
func runPgbench(b *testing.B, c *pgtest.Cluster, args ...string) string {
	b.Helper()
	p := c.Command(b, "pgbench", args...).Start()
	if code := p.Wait(patience); code != 0 {
		b.Fatalf("pgbench ended with %d: %s", code, p.Stderr())
	}
	return p.Stdout()
}

// writeMiB lets pgbench write WAL.
func writeMiB(b *testing.B, c *pgtest.Cluster, mib int, args ...string) {
	b.Helper()
	begin := c.FlushLSN()
	p := c.Command(b, "pgbench", append(args, "-n", "-M", "prepared", "-c", "4", "-j", "2", "-T", "3600")...).Start()
	c.WaitFor(fmt.Sprintf("select pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '%s') >= %d", begin, mib<<20), "t", patience)
	p.Kill()
}
