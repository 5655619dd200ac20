package bench

import (
	"fmt"
	"regexp"
	"strconv"
	"syscall"
	"testing"

	"github.com/walrecv/walrecv/internal/pgtest"
)

// BenchmarkCommit commits synchronously: every commit waits until a standby, or what
// stands in for one, says that it is durable there. The primary itself does not sync,
// so that nothing else is waited for.
func BenchmarkCommit(b *testing.B) {
	c := source(b, map[string]string{"synchronous_standby_names": "bench"})
	c.Set(map[string]string{"wal_keep_size": "2GB", "synchronous_commit": "local"})
	c.Reload()
	runPgbench(b, c, "-i", "-q", "-s", "10")
	backup := pgtest.TempDir(b) + "/backup"
	c.BaseBackup(b, backup)
	// No contender is the one that meets the first change of a page, which is logged whole.
	runPgbench(b, c, "-n", "-N", "-M", "prepared", "-c", "8", "-j", "2", "-t", "10000")
	c.Set(map[string]string{"synchronous_commit": "on"})
	c.Reload()

	standby := prepare(b, c, backup, pgtest.StandbySignal, nil)
	for _, load := range []struct{ clients, transactions int }{{1, 8000}, {8, 24000}, {32, 24000}} {
		b.Run(strconv.Itoa(load.clients), func(b *testing.B) {
			w := &commits{b: b, c: c.With(b), clients: load.clients, transactions: load.transactions}
			w.measure(standby)
		})
	}
}

// commits is the work of some clients.
type commits struct {
	b                     *testing.B
	c                     *pgtest.Cluster
	clients, transactions int
}

func (w *commits) measure(standby *server) {
	const receivewal, real, walrecv = "pg_receivewal --synchronous", "standby", "walrecv --synchronous"
	r := newRow(fmt.Sprintf("synchronous commits, %d clients", w.clients), receivewal)
	r.add(receivewal, func() sample {
		dir := pgtest.TempDir(w.b)
		return w.beside(pgtest.Command(w.b, pgtest.Client(w.b, "pg_receivewal"), "-d", w.c.ReplConn()+" application_name=bench", "-D", dir, "--synchronous"))
	})
	r.add(real, func() sample { return w.beside(pgtest.Command(w.b, standby.program(), standby.args...)) })
	r.add(walrecv, func() sample {
		dir := pgtest.TempDir(w.b)
		return w.beside(pgtest.Command(w.b, pgtest.Build(w.b), "receive", "-d", w.c.ReplConn()+" application_name=bench", "-D", dir, "--synchronous"))
	})
	r.measure(w.b)
	better := receivewal
	if r.median(real) > r.median(receivewal) {
		better = real
	}
	r.reference = better
	r.wants(walrecv, "not slower than the better one", r.speed(walrecv, better) >= notSlower)
	r.wantsMemory(walrecv, receiveMemory)
}

var tps = regexp.MustCompile(`(?m)^tps = ([0-9.]+)`)

// beside commits while a program is the synchronous standby.
func (w *commits) beside(p *pgtest.Process) sample {
	w.b.Helper()
	p.Start()
	w.c.WaitFor("select sync_state from pg_stat_replication where application_name = 'bench' and flush_lsn = pg_current_wal_flush_lsn()",
		"sync", patience)
	before, _ := usage(w.b, p.PID())
	each := strconv.Itoa(w.transactions / w.clients)
	said := runPgbench(w.b, w.c, "-n", "-N", "-M", "prepared", "-c", strconv.Itoa(w.clients), "-j", strconv.Itoa(min(w.clients, 2)), "-t", each)
	after, rss := usage(w.b, p.PID())
	p.Signal(syscall.SIGINT)
	if code := p.Wait(patience); code != 0 {
		w.b.Fatalf("%s ended with %d: %s", p.Path, code, p.Stderr())
	}
	w.c.WaitFor("select count(*) from pg_stat_replication", "0", patience)
	match := tps.FindStringSubmatch(said)
	if match == nil {
		w.b.Fatalf("pgbench says %q", said)
	}
	rate, err := strconv.ParseFloat(match[1], 64)
	if err != nil {
		w.b.Fatal(err)
	}
	return sample{rate: rate, cpu: after - before, rss: rss}
}
