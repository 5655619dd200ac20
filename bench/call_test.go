package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/pgtest"
)

// BenchmarkCall restores single segments that do not compress, as a server does whose
// files these are, and which waits for WAL meanwhile.
func BenchmarkCall(b *testing.B) {
	c := source(b, nil)
	w := recordAfterBackup(b, c, func() { c.Exec(fmt.Sprintf(incompressible, 20*16)) })
	s := prepare(b, c, w.backup, pgtest.StandbySignal, map[string]string{"primary_conninfo": ""})
	pgtest.Command(b, s.program(), s.args...).Start().WaitOutput("entering standby mode", patience)
	q := &caller{history: w, b: b, dir: filepath.Join(s.dir, "data")}
	segments, err := filepath.Glob(w.plain + "/*")
	if err != nil || len(segments) <= calls {
		b.Fatal(segments, err)
	}
	for _, path := range segments {
		q.names = append(q.names, filepath.Base(path))
	}
	proxy := w.store.Proxy(b)
	q.env = proxy.Environ()

	r := newRow("restore, one segment that does not compress", cp)
	r.add("true", func() sample { return q.each("/bin/true") })
	r.add(cp, func() sample {
		return q.median(q.names, func(name string) sample { return q.call("/bin/cp", filepath.Join(w.plain, name), q.target()) })
	})
	r.add(hit, func() sample { return q.hits() })
	r.add(local, func() sample { return q.each(pgtest.Build(b), "restore", "--prefetch", "0", "--archive", w.local) })
	for _, latency := range latencies {
		r.add(inS3(latency), func() sample {
			proxy.SetLatency(latency)
			return q.median(q.names, func(name string) sample {
				proxy.ResetCounts()
				s := q.call(pgtest.Build(b), "restore", "--prefetch", "0", "--archive", proxy.URL("wal"), name, q.target())
				s.requests, s.bytes = proxy.Counts(), proxy.Bytes()
				return s
			})
		})
	}
	r.measure(b)
	r.wants(hit, "10 ms", r.median(hit) < 0.010)
	for _, c := range r.contenders[2:] {
		r.wantsMemory(c.name, restoreMemory)
	}
}

// hit is a segment that was fetched before PostgreSQL asked for it.
const hit = "walrecv, prefetched"

// calls are as many as make one sample, their median: one alone is too short.
const calls = 9

// A caller asks for segments in the place of a server.
type caller struct {
	*history
	b     *testing.B
	dir   string // the server's
	env   []string
	names []string // of the segments, in order
}

// target is where a server wants a segment.
func (q *caller) target() string { return "pg_wal/RECOVERYXLOG" }

func (q *caller) call(bin string, args ...string) sample {
	q.b.Helper()
	p := meter(q.b, bin, args...)
	p.Env, p.Dir = q.env, q.dir
	p.Start()
	s := p.sample()
	q.take()
	return s
}

// take removes what was restored: a server gives it another name.
func (q *caller) take() {
	q.b.Helper()
	if err := os.Remove(filepath.Join(q.dir, q.target())); err != nil && !os.IsNotExist(err) {
		q.b.Fatal(err)
	}
}

// each calls a program that is given name and target of a segment.
func (q *caller) each(bin string, args ...string) sample {
	q.b.Helper()
	return q.median(q.names, func(name string) sample { return q.call(bin, append(args, name, q.target())...) })
}

func (q *caller) median(names []string, run func(name string) sample) sample {
	q.b.Helper()
	var all []sample
	for _, name := range names[:calls] {
		all = append(all, run(name))
	}
	s := all[len(all)-1] // for its requests
	s.took = medianOf(all, func(s sample) time.Duration { return s.took })
	s.cpu = medianOf(all, func(s sample) time.Duration { return s.cpu })
	for _, one := range all {
		s.rss = max(s.rss, one.rss)
	}
	return s
}

// hits asks for segments when they have been fetched.
func (q *caller) hits() sample {
	q.b.Helper()
	ahead := pgtest.TempDir(q.b)
	defer q.leave(ahead)
	options := []string{"restore", "--prefetch-dir", ahead, "--archive", q.local}
	// The first call, which starts what fetches the others, and is not measured.
	first := pgtest.Command(q.b, pgtest.Build(q.b), append(options, q.names[0], q.target())...)
	first.Dir = q.dir
	if code := first.Start().Wait(patience); code != 0 {
		q.b.Fatalf("restore ended with %d: %s", code, first.Stderr())
	}
	q.take()
	return q.median(q.names[1:], func(name string) sample {
		staged := filepath.Join(ahead, "*", name)
		pgtest.Eventually(q.b, patience, func() bool {
			found, _ := filepath.Glob(staged) // the pattern is right
			return len(found) > 0
		}, "%s is not fetched", name)
		return q.call(pgtest.Build(q.b), append(options, name, q.target())...)
	})
}

// leave ends what fetches ahead into a directory, and removes that.
func (q *caller) leave(ahead string) {
	q.b.Helper()
	for _, pid := range pgtest.Helpers(ahead) {
		_ = syscall.Kill(pid, syscall.SIGTERM) // it may have ended
	}
	pgtest.Eventually(q.b, patience, func() bool { return len(pgtest.Helpers(ahead)) == 0 }, "the helper stays")
	q.clear(ahead)
}
