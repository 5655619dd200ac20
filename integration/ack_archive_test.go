package integration

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/internal/s3test"
)

// archiveAcknowledges is a receiver whose server hears of what a store far away has.
func archiveAcknowledges(t testing.TB, c *pgtest.Cluster, latency time.Duration, args ...string) (*receiver, *s3test.Proxy) {
	t.Helper()
	proxy := s3test.Start(t).Proxy(t)
	proxy.SetLatency(latency)
	r := newReceiver(t, c, append([]string{"--archive", proxy.URL(""), "--ack", "archive"}, args...)...)
	r.env = proxy.Environ()
	return r.start(), proxy
}

// A server that is stopped waits until the archive has its last byte, and no longer.
// So does a receiver that is stopped, and one with an end position.
func TestAckArchiveStops(t *testing.T) {
	t.Parallel()
	for _, major := range pgtest.FewVersions(t) {
		t.Run(fmt.Sprintf("pg%d", major), func(t *testing.T) {
			c := small(t, major, nil)
			r, proxy := archiveAcknowledges(t, c, 100*time.Millisecond)
			for range 2 {
				emit(c, 200)
				took := c.Stop(pgtest.Fast)
				t.Logf("the server stopped within %v", took)
				if took > pgtest.Allow(2*time.Second) {
					t.Errorf("the server took %v to stop", took)
				}
				c.Start()
				c.WaitFor("select count(*) from pg_stat_replication where flush_lsn is not null", "1", patience)
			}
			emit(c, 100)
			end := c.FlushLSN()
			c.WaitFor(fmt.Sprintf("select coalesce(max(flush_lsn), '0/0') >= '%s' from pg_stat_replication", end), "t", patience)
			emit(c, 100)
			end = c.FlushLSN()
			c.WaitFor(fmt.Sprintf("select coalesce(max(write_lsn), '0/0') >= '%s' from pg_stat_replication", end), "t", patience)
			r.stop()
			archiveEnds(t, r.env, option(r.args, "--archive"), end)
			r.start()
			proxy.SetOutage(s3test.Hang)
			emit(c, 100)
			r.ask(syscall.SIGTERM) // in time, also without a store
		})
	}
}

// option is the value of an option of a command line.
func option(args []string, name string) string {
	for i, arg := range args {
		if arg == name {
			return args[i+1]
		}
	}
	return ""
}

// BenchmarkAckArchive commits, while every commit waits until a store 20 ms away has
// it, with 1 and with 32 clients.
func BenchmarkAckArchive(b *testing.B) {
	for _, n := range []int{1, 32} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c := pgtest.New(b, pgtest.Options{Major: pgtest.Version(b), Settings: map[string]string{"max_connections": "60"}})
			c.Start()
			c.Exec("create table acked(row text primary key, filler text)")
			r, _ := archiveAcknowledges(b, c, 20*time.Millisecond, "--synchronous")
			r.flushed()
			c.Set(map[string]string{"synchronous_standby_names": "walrecv"})
			c.Reload()
			c.WaitFor("select sync_state from pg_stat_replication", "sync", patience)
			const d = 5 * time.Second
			for b.Loop() {
				cs := startClients(b, c, n)
				time.Sleep(time.Second)
				cs.mu.Lock()
				before := len(cs.acknowledged)
				cs.mu.Unlock()
				time.Sleep(d)
				cs.mu.Lock()
				commits := len(cs.acknowledged) - before
				cs.mu.Unlock()
				cs.stop()
				b.ReportMetric(float64(commits)/d.Seconds(), "commits/s")
				b.ReportMetric(float64(n)*d.Seconds()*1000/float64(max(commits, 1)), "ms/commit")
			}
		})
	}
}
