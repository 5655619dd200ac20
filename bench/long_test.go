package bench

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/internal/s3test"
)

// BenchmarkIdle stands beside a primary that writes nothing.
func BenchmarkIdle(b *testing.B) {
	const watched = 20 * time.Second
	c := source(b, nil)
	proxy := s3test.Start(b).Proxy(b)
	runs := 0
	idle := func(bin string, args ...string) sample {
		p := pgtest.Command(b, bin, append(args, "-d", c.ReplConn()+" application_name=bench", "-D", pgtest.TempDir(b))...)
		p.Env = proxy.Environ()
		p.Start()
		c.WaitFor("select state from pg_stat_replication where application_name = 'bench'", "streaming", patience)
		quiet(b, c, proxy)
		proxy.ResetCounts()
		before, _ := usage(b, p.PID())
		<-time.After(watched)
		after, rss := usage(b, p.PID())
		requests := proxy.Counts()
		p.Signal(syscall.SIGINT)
		if code := p.Wait(patience); code != 0 {
			b.Fatalf("%s ended with %d: %s", p.Path, code, p.Stderr())
		}
		return sample{took: watched, cpu: after - before, rss: rss, requests: requests}
	}
	r := newRow("idle primary, 20 s", "") // all take as long
	r.add("pg_receivewal", func() sample { return idle(pgtest.Client(b, "pg_receivewal")) })
	const walrecv = "walrecv, S3"
	r.add(walrecv, func() sample {
		runs++
		return idle(pgtest.Build(b), "receive", "--archive", proxy.URL(strconv.Itoa(runs)))
	})
	r.measure(b)
	r.wants(walrecv, "1 % of a core", r.cpu(walrecv) < watched/100)
	r.wants(walrecv, "no request", !slices.ContainsFunc(r.samples[walrecv], func(s sample) bool { return s.total() > 0 }))
}

// quiet waits until the last that a server has to say is archived. A while after its
// last change it says once what transactions run, and then nothing.
func quiet(b *testing.B, c *pgtest.Cluster, proxy *s3test.Proxy) {
	b.Helper()
	const position = "select pg_current_wal_insert_lsn()"
	c.Exec("select pg_logical_emit_message(true, 'bench', 'the last')")
	said := c.Query(position)
	pgtest.Eventually(b, patience, func() bool { return c.Query(position) != said }, "the server says nothing more")
	c.WaitFor("select sent_lsn = pg_current_wal_lsn() from pg_stat_replication where application_name = 'bench'", "t", patience)
	since, requests := time.Now(), proxy.Total()
	pgtest.Eventually(b, patience, func() bool {
		if n := proxy.Total(); n != requests {
			since, requests = time.Now(), n
		}
		return time.Since(since) > 3*time.Second // three times the tail interval
	}, "the store is not left alone")
}

// BenchmarkFailover kills a primary with clients on it and promotes its standby. It
// takes from the promotion until WAL is streamed again, from the new primary.
func BenchmarkFailover(b *testing.B) {
	r := newRow("failover, from the promotion until it streams", "standby")
	r.add("pg_receivewal", func() sample {
		return failover(b, func(_ *pgtest.Cluster, conn string) (*pgtest.Process, string) {
			dir := pgtest.TempDir(b)
			return pgtest.Command(b, pgtest.Client(b, "pg_receivewal"), "-d", conn, "-D", dir), dir
		})
	})
	r.add("standby", func() sample {
		return failover(b, func(c *pgtest.Cluster, conn string) (*pgtest.Process, string) {
			backup := filepath.Join(pgtest.TempDir(b), "backup")
			c.BaseBackup(b, backup)
			s := prepare(b, c, backup, pgtest.StandbySignal, map[string]string{"primary_conninfo": conn})
			return pgtest.Command(b, s.program(), s.args...), ""
		})
	})
	const walrecv = "walrecv"
	r.add(walrecv, func() sample {
		return failover(b, func(_ *pgtest.Cluster, conn string) (*pgtest.Process, string) {
			dir := pgtest.TempDir(b)
			return pgtest.Command(b, pgtest.Build(b), "receive", "-d", conn, "-D", dir), dir
		})
	})
	r.measure(b)
	r.wants(walrecv, "3 s, no gap", r.median(walrecv) <= 3)
}

// failover is one, with a receiver that knows both servers, and the directory that it
// keeps segments in.
func failover(b *testing.B, receiver func(c *pgtest.Cluster, conn string) (p *pgtest.Process, dir string)) sample {
	b.Helper()
	primary := source(b, map[string]string{"synchronous_commit": "on"})
	runPgbench(b, primary, "-i", "-q")
	standby := primary.Standby(b, map[string]string{"synchronous_standby_names": ""})
	standby.Upstream(primary) // under its name
	standby.Reload()
	primary.Set(map[string]string{"synchronous_standby_names": standby.Name()})
	primary.Reload()
	p, dir := receiver(primary, fmt.Sprintf("host=127.0.0.1,127.0.0.1 port=%d,%d user=postgres target_session_attrs=primary application_name=bench",
		primary.Port, standby.Port))
	p.Start()
	const streams = "select state from pg_stat_replication where application_name = 'bench'"
	primary.WaitFor(streams, "streaming", patience)
	for range 3 {
		primary.SwitchWAL()
	}
	load := primary.Command(b, "pgbench", "-n", "-c", "4", "-R", "300", "-T", "3600").Start()
	primary.WaitFor("select count(*) > 300 from pgbench_history", "t", patience)
	// A standby that has more than the one that is promoted could not follow it.
	load.Kill()
	primary.WaitFor("select count(*) from pg_stat_activity where application_name = 'pgbench'", "0", patience)
	primary.WaitFor("select bool_and(sent_lsn >= pg_current_wal_flush_lsn()) from pg_stat_replication", "t", patience)
	primary.Kill9()
	standby.Promote()
	promoted := time.Now()
	pgtest.Eventually(b, patience, func() bool {
		rows, err := standby.TryQuery(context.Background(), streams)
		return err == nil && len(rows) == 1 && rows[0][0] == "streaming"
	}, "it does not stream")
	took := time.Since(promoted)
	standby.SwitchWAL()
	standby.WaitFor("select sent_lsn >= pg_current_wal_flush_lsn() from pg_stat_replication where application_name = 'bench'", "t", patience)
	p.Kill()
	standby.Destroy()
	primary.Destroy()
	if dir != "" {
		contiguous(b, dir)
	}
	return sample{took: took}
}

// contiguous ends the benchmark if a segment is missing in a directory, on all
// timelines.
func contiguous(b *testing.B, dir string) {
	b.Helper()
	files, _ := filepath.Glob(dir + "/????????????????????????*") // the pattern is right
	numbers := map[uint64]bool{}
	for _, path := range files {
		var timeline, log, number uint64
		if _, err := fmt.Sscanf(filepath.Base(path), "%8x%8x%8x", &timeline, &log, &number); err != nil {
			b.Fatalf("%s: %v", path, err)
		}
		numbers[log<<8|number] = true
	}
	var all []uint64
	for n := range numbers {
		all = append(all, n)
	}
	if len(all) < 4 || slices.Max(all)-slices.Min(all) != uint64(len(all)-1) {
		b.Fatalf("a gap: %v", files)
	}
}
