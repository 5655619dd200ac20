package bench

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/internal/s3test"
)

// BenchmarkRecovery recovers whole clusters: from the start of the server until it has
// asked for the last file and begins to be a primary. With fsync=on, as in production,
// it syncs every segment that it is given, which is most of the time that cp takes.
// Without, it shows what the calls themselves cost.
func BenchmarkRecovery(b *testing.B) {
	b.Run("empty", func(b *testing.B) {
		c := source(b, nil)
		w := recordAfterBackup(b, c, func() { c.Exec(fmt.Sprintf(nearlyEmpty, 150)) })
		for _, fsync := range []string{"on", "off"} {
			b.Run(fsync, func(b *testing.B) {
				r := w.recoveries(b, "recovery, 150 nearly empty segments, fsync="+fsync, fsync)
				r.wants(local, "1.2 x cp", r.speed(local, cp) >= 1.2)
				r.wants(inS3(30*time.Millisecond), "not slower than cp", r.speed(inS3(30*time.Millisecond), cp) >= notSlower)
			})
		}
	})
	b.Run("pgbench", func(b *testing.B) {
		// Whole pages come after a checkpoint, of which these settings make many.
		c := source(b, map[string]string{"max_wal_size": "400MB"})
		runPgbench(b, c, "-i", "-q", "-s", "30")
		w := recordAfterBackup(b, c, func() { writeMiB(b, c, 70*16, "-N") })
		for _, fsync := range []string{"on", "off"} {
			b.Run(fsync, func(b *testing.B) {
				r := w.recoveries(b, "recovery, 70 segments of pgbench, fsync="+fsync, fsync)
				r.wants(local, "not slower than cp", r.speed(local, cp) >= notSlower)
				r.wants(inS3(30*time.Millisecond), "not slower than cp", r.speed(inS3(30*time.Millisecond), cp) >= notSlower)
			})
		}
	})
}

// The contenders that goals are set for.
const (
	cp    = "cp"
	local = "walrecv, local"
)

func inS3(latency time.Duration) string { return "walrecv, S3 " + latency.String() }

// A history is a base backup and the WAL behind it, archived in all the ways.
type history struct {
	*stretch
	backup string
	plain  string         // a directory of segments
	local  string         // an archive
	store  *s3test.Server // with another one
}

func recordAfterBackup(b *testing.B, c *pgtest.Cluster, fill func()) *history {
	b.Helper()
	w := &history{backup: filepath.Join(pgtest.TempDir(b), "backup"), plain: pgtest.TempDir(b), local: pgtest.TempDir(b), store: s3test.Start(b)}
	w.stretch = record(b, c, func() {
		c.BaseBackup(b, w.backup)
		fill()
	})
	w.receiveInto(w.plain, nil, pgtest.Client(b, "pg_receivewal"))
	w.archiveTo(w.local, nil)
	w.archiveTo(w.store.URL("wal"), w.store.Environ())
	return w
}

// recoveries measures the ways that the WAL comes back.
func (w *history) recoveries(b *testing.B, work, fsync string) *row {
	b.Helper()
	r := newRow(work, cp)
	proxy := w.store.Proxy(b)
	from := func(archive string, options ...string) func() sample {
		return func() sample {
			proxy.ResetCounts()
			s := w.recover(b, proxy.Environ(), fsync, restoreCommand(b, archive, options...))
			s.requests, s.bytes = proxy.Counts(), proxy.Bytes()
			return s
		}
	}
	fromS3 := func(latency time.Duration, options ...string) func() sample {
		return func() sample {
			proxy.SetLatency(latency)
			return from(proxy.URL("wal"), options...)()
		}
	}
	r.add(cp, func() sample { return w.recover(b, nil, fsync, "cp "+w.plain+"/%f %p") })
	r.add(local, from(w.local))
	r.add(local+", no prefetch", from(w.local, "--prefetch", "0"))
	for _, latency := range latencies {
		r.add(inS3(latency), fromS3(latency))
	}
	r.add(inS3(30*time.Millisecond)+", no prefetch", fromS3(30*time.Millisecond, "--prefetch", "0"))
	w.addPeers(b, r, fsync)
	r.measure(b)
	return r
}

// restoreCommand is the documented one.
func restoreCommand(b *testing.B, archive string, options ...string) string {
	b.Helper()
	return fmt.Sprintf("answer() { r=$?; [ $r -le 1 ] || [ $r -ge 126 ] || r=200; exit $r; }; trap answer EXIT; %s restore --archive '%s' %s %%f %%p",
		pgtest.Build(b), archive, strings.Join(options, " "))
}

// recover is one whole recovery.
func (w *history) recover(b *testing.B, env []string, fsync, command string) sample {
	b.Helper()
	s := prepare(b, w.Cluster, w.backup, pgtest.RecoverySignal, map[string]string{"restore_command": command, "fsync": fsync})
	defer s.remove()
	syscall.Sync() // its copy of the base backup
	p := meter(b, s.program(), s.args...)
	p.Env = env
	p.Start()
	p.WaitOutput(recovered, patience)
	p.Signal(syscall.SIGQUIT) // without the checkpoint that comes now, of which everybody has the same
	got := p.sample()
	log := p.Stderr()
	if n := strings.Count(log, "restored log file"); n < w.segments {
		b.Fatalf("%d of %d segments are restored:\n%s", n, w.segments, log)
	}
	got.took = moment(b, log, recovered).Sub(moment(b, log, "starting PostgreSQL"))
	got.rss = 0 // that of the server
	return got
}

// recovered is what a server logs when it needs no more WAL.
const recovered = "archive recovery complete"

// moment is when a server logged something.
func moment(b *testing.B, log, what string) time.Time {
	b.Helper()
	for line := range strings.Lines(log) {
		if !strings.Contains(line, what) {
			continue
		}
		at, err := time.Parse("2006-01-02 15:04:05.000 MST", line[:min(len(line), len("2006-01-02 15:04:05.000 UTC"))])
		if err != nil {
			b.Fatal(err)
		}
		return at
	}
	b.Fatalf("the server has not logged %q:\n%s", what, log)
	return time.Time{}
}
