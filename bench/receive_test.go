package bench

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/internal/s3test"
)

// BenchmarkCatchUp receives 1 GiB that does not compress, durably.
func BenchmarkCatchUp(b *testing.B) {
	c := source(b, nil)
	backup := filepath.Join(pgtest.TempDir(b), "backup")
	w := record(b, c, func() {
		c.BaseBackup(b, backup)
		c.Exec(fmt.Sprintf(incompressible, 1024))
	})
	r := newRow("catch-up, 1 GiB that does not compress", "pg_receivewal")
	r.add("pg_receivewal", func() sample { return w.receive(pgtest.Client(b, "pg_receivewal")) })
	r.add("pg_receivewal --no-sync", func() sample { return w.receive(pgtest.Client(b, "pg_receivewal"), "--no-sync") })
	r.add("standby", func() sample { return w.follow(backup) })
	r.add("walrecv", func() sample { return w.receive(pgtest.Build(b), "receive") })
	r.measure(b)
	cpu := r.cpu("walrecv").Seconds() / r.cpu("pg_receivewal").Seconds()
	r.wants("walrecv", "3 x, at 0.7 of the CPU", r.speed("walrecv", "pg_receivewal") >= 3 && cpu <= 0.7)
	r.wantsMemory("walrecv", receiveMemory)
}

// receive runs a receiver from the beginning of the stretch to its end.
func (w *stretch) receive(bin string, args ...string) sample {
	w.b.Helper()
	dir := pgtest.TempDir(w.b)
	s := w.receiveInto(dir, nil, bin, args...)
	w.complete(filepath.Join(dir, "????????????????????????*"))
	w.same(dir)
	w.clear(dir)
	return s
}

func (w *stretch) receiveInto(dir string, env []string, bin string, args ...string) sample {
	w.b.Helper()
	slot := w.slot()
	p := meter(w.b, bin, append(args, "-d", w.ReplConn(), "-D", dir, "-S", slot, "-n", "-E", w.end)...)
	p.Env = env
	p.Start()
	s := p.sample()
	w.Exec(fmt.Sprintf("select pg_drop_replication_slot('%s')", slot))
	return s
}

// follow lets a standby receive the stretch. It replays it, too.
func (w *stretch) follow(backup string) sample {
	w.b.Helper()
	s := prepare(w.b, w.Cluster, backup, pgtest.StandbySignal, nil)
	defer s.remove()
	syscall.Sync() // its copy of the base backup
	p := meter(w.b, s.program(), s.args...)
	began := time.Now()
	p.Start()
	w.WaitFor(fmt.Sprintf("select flush_lsn > '%s' from pg_stat_replication where application_name = 'bench'", w.end), "t", patience)
	took := time.Since(began)
	p.Signal(syscall.SIGQUIT)
	got := p.sample()
	got.took, got.rss = took, 0 // with the memory that its processes share
	return got
}

// same ends the benchmark unless the last segment, where it is kept as it is, is the
// server's own.
func (w *stretch) same(dir string) {
	w.b.Helper()
	name := w.Query(fmt.Sprintf("select pg_walfile_name('%s')", w.end))
	ours, err := os.ReadFile(filepath.Join(dir, name))
	if os.IsNotExist(err) {
		return
	}
	theirs, err2 := os.ReadFile(w.WALFile(name))
	if err != nil || err2 != nil || !bytes.Equal(ours, theirs) {
		w.b.Fatalf("%s is not what the server has: %v, %v", name, err, err2)
	}
}

// clear gives the disk its room back.
func (w *stretch) clear(dir string) {
	w.b.Helper()
	if err := os.RemoveAll(dir); err != nil {
		w.b.Fatal(err)
	}
}

// BenchmarkArchive receives what pgbench writes, with whole pages after every
// checkpoint and with hardly any, until the last of it is durable in an archive.
func BenchmarkArchive(b *testing.B) {
	c := source(b, map[string]string{"checkpoint_timeout": "30s"})
	runPgbench(b, c, "-i", "-q", "-s", "50")
	b.Run("pages", func(b *testing.B) {
		w := record(b, c.With(b), func() { writeMiB(b, c, 570, "-N") })
		w.archive("archive, 570 MiB of pgbench")
	})
	c.Set(map[string]string{"checkpoint_timeout": "1h", "wal_compression": "zstd"})
	c.Reload()
	b.Run("records", func(b *testing.B) {
		w := record(b, c.With(b), func() { writeMiB(b, c, 128) })
		w.archive("archive, 128 MiB of pgbench with few whole pages")
	})
}

// archive measures the ways to a compressed archive.
func (w *stretch) archive(work string) {
	b := w.b
	store := s3test.Start(b)
	runs := 0 // each with an archive of its own
	const reference = "pg_receivewal -Z lz4"
	r := newRow(work, reference)
	for _, compression := range []string{"none", "gzip:1", "lz4"} {
		r.add("pg_receivewal -Z "+strings.TrimSuffix(compression, ":1"), func() sample {
			return w.receive(pgtest.Client(b, "pg_receivewal"), "-Z", compression)
		})
	}
	r.add(local, func() sample {
		archive := pgtest.TempDir(b)
		defer w.clear(archive)
		s := w.archiveTo(archive, nil)
		w.complete(filepath.Join(archive, "*", "wal", "*", "*.zst"))
		return s
	})
	for _, latency := range latencies {
		r.add(inS3(latency), func() sample {
			proxy := store.Proxy(b)
			proxy.SetLatency(latency)
			runs++
			s := w.archiveTo(proxy.URL(strconv.Itoa(runs)), proxy.Environ())
			s.requests, s.bytes = proxy.Counts(), proxy.Bytes()
			if n := s.requests["PutObject"]; n < w.segments {
				b.Fatalf("%d objects for %d segments", n, w.segments)
			}
			return s
		})
	}
	r.measure(b)
	r.wants(local, "not slower than "+reference, r.speed(local, reference) >= notSlower)
	r.wantsMemory(local, receiveMemory)
}

// latencies are those of the stores.
var latencies = []time.Duration{0, 30 * time.Millisecond, 100 * time.Millisecond}

func (w *stretch) archiveTo(archive string, env []string) sample {
	w.b.Helper()
	spool := pgtest.TempDir(w.b)
	defer w.clear(spool)
	return w.receiveInto(spool, env, pgtest.Build(w.b), "receive", "--archive", archive)
}
