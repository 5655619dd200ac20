package integration

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/pgtest"
)

const patience = time.Minute

// receiver is a "walrecv receive" under test.
type receiver struct {
	*pgtest.Process
	t       testing.TB
	bin     string
	cluster *pgtest.Cluster
	spool   string
	args    []string
	env     []string // NAME=value
}

// newReceiver prepares "walrecv receive" from a slot that reserves WAL.
func newReceiver(t testing.TB, c *pgtest.Cluster, args ...string) *receiver {
	t.Helper()
	r := &receiver{t: t, bin: pgtest.Build(t), cluster: c, spool: filepath.Join(pgtest.TempDir(t), "spool")}
	if err := os.Mkdir(r.spool, 0o700); err != nil {
		t.Fatal(err)
	}
	pgtest.Give(t, r.spool)
	r.args = append([]string{"receive", "-D", r.spool, "-d", c.ReplConn(), "-S", "walrecv", "--ensure-slot"}, args...)
	return r
}

// start starts it and waits until it streams.
func (r *receiver) start() *receiver {
	r.t.Helper()
	r.launch()
	r.WaitOutput(`"msg":"streaming"`, patience)
	return r
}

// launch starts it without waiting for anything.
func (r *receiver) launch() {
	r.t.Helper()
	r.Process = pgtest.Command(r.t, r.bin, r.args...)
	r.Env = r.env
	r.Start()
}

// flushed waits until the server knows that its WAL so far is flushed.
func (r *receiver) flushed() {
	r.t.Helper()
	lsn := r.cluster.Query("select pg_current_wal_flush_lsn()")
	r.cluster.WaitFor(fmt.Sprintf("select coalesce(max(flush_lsn), '0/0') >= '%s' from pg_stat_replication where application_name = 'walrecv'", lsn), "t", patience)
}

// stop ends it in order.
func (r *receiver) stop() {
	r.t.Helper()
	r.Signal(syscall.SIGTERM)
	if code := r.Wait(15 * time.Second); code != 0 {
		r.t.Errorf("receive ended with %d", code)
	}
}

// sealedNames are the complete segments in a directory.
func sealedNames(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if len(e.Name()) == 24 && strings.Trim(e.Name(), "0123456789ABCDEF") == "" {
			names = append(names, e.Name())
		}
	}
	return names
}

// sameAsServer compares every complete segment of a directory with the server's.
func sameAsServer(t testing.TB, c *pgtest.Cluster, dir string, atLeast int) {
	t.Helper()
	names := sealedNames(t, dir)
	for _, name := range names {
		ours, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := os.ReadFile(filepath.Join(c.WALDir(), name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(ours, theirs) {
			t.Errorf("%s differs from the server's", name)
		}
	}
	if len(names) < atLeast {
		t.Errorf("only %d complete segments, expected %d or more", len(names), atLeast)
	}
}

// fill writes that many MB of WAL of all kinds.
func fill(c *pgtest.Cluster, mb int) {
	c.Exec("create table if not exists filling(i int primary key, t text)")
	c.Exec(fmt.Sprintf(`
		insert into filling select i, repeat(md5(i::text), 4) from generate_series(1, %d) i on conflict (i) do update set t = excluded.t || 'x';
		select count(pg_logical_emit_message(i %% 2 = 0, 'fill', pg_read_binary_file('/dev/urandom', 0, 262144))) from generate_series(1, %d) i`, mb*100, mb*3+1))
}

// Every sealed segment is the server's own, through reconnects and kills.
func TestByteParity(t *testing.T) {
	for _, major := range pgtest.Versions(t) {
		for _, mb := range []int{1, 16, 64} {
			t.Run(fmt.Sprintf("pg%d/%dMB", major, mb), func(t *testing.T) {
				seed := rand.Uint64()
				t.Logf("seed %d", seed)
				byteParity(t, major, mb, rand.New(rand.NewPCG(seed, 0)))
			})
		}
	}
}

func byteParity(t *testing.T, major, mb int, rng *rand.Rand) {
	c := pgtest.New(t, pgtest.Options{
		Major: major, WALSegmentSize: int64(mb) << 20,
		Settings: map[string]string{"wal_keep_size": "10GB", "max_wal_size": "10GB", "min_wal_size": "200MB"},
	})
	c.Start()
	r := newReceiver(t, c).start()
	r.flushed()
	const rounds = 6
	for round := range rounds {
		fill(c, max(1, mb/2))
		switch rng.IntN(3) {
		case 0:
			r.Kill()
			fill(c, max(1, mb/4))
			r.start()
		case 1:
			c.Exec("select pg_terminate_backend(pid) from pg_stat_replication")
		case 2:
			c.Exec("select pg_switch_wal()")
		}
		if round == rounds/2 {
			r.stop()
			fill(c, mb)
			r.start()
		}
	}
	fill(c, mb)
	c.Exec("select pg_switch_wal()")
	c.Exec("checkpoint")
	r.flushed()
	r.stop()
	sameAsServer(t, c, r.spool, 3)
}

// The server's fast shutdown waits for nothing, idle or under load, and what it
// reports is what is synced.
func TestFastShutdown(t *testing.T) {
	for _, major := range pgtest.Versions(t) {
		for _, mode := range [][]string{nil, {"--synchronous"}} {
			t.Run(fmt.Sprintf("pg%d%v", major, mode), func(t *testing.T) {
				c := pgtest.New(t, pgtest.Options{Major: major})
				c.Start()
				r := newReceiver(t, c, mode...).start()
				r.flushed()
				if got := c.Query("select replay_lsn is null from pg_stat_replication"); got != "t" {
					t.Errorf("replay_lsn is not empty")
				}
				if d := c.Stop(pgtest.Fast); d > time.Second {
					t.Errorf("idle: the shutdown took %v", d)
				}
				c.Start()
				r.flushed()
				load := startPgbench(t, c)
				pgtest.Eventually(t, patience, func() bool {
					return c.Query("select count(*) > 500 from pgbench_history") == "t"
				}, "pgbench does not come on")
				if d := c.Stop(pgtest.Fast); d > time.Second {
					t.Errorf("under load: the shutdown took %v", d)
				}
				load.Kill()
				r.stop()
			})
		}
	}
}

// startPgbench runs pgbench until it is killed or the server is gone.
func startPgbench(t testing.TB, c *pgtest.Cluster) *pgtest.Process {
	t.Helper()
	if code := c.Command(t, "pgbench", "-i", "-q", "postgres").Start().Wait(patience); code != 0 {
		t.Fatalf("pgbench -i ended with %d", code)
	}
	return c.Command(t, "pgbench", "-c", "4", "-j", "2", "-T", "600", "-n", "postgres").Start()
}
