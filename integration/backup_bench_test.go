package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/internal/s3test"
)

// BenchmarkBackup takes base backups and restores them, beside pg_basebackup with zstd
// on the client's side, and beside zstd, tar and sync. All of them work one after the
// other in each round, so that whatever else the machine does falls on all: what
// counts are the medians of many rounds (-benchtime 9x) and how many times as fast as
// the other's they are.
func BenchmarkBackup(b *testing.B) {
	const scale = 40 // 630 MB
	c := pgtest.New(b, pgtest.Options{Major: pgtest.Version(b), Settings: map[string]string{"max_wal_size": "4GB"}})
	c.Start()
	if code := c.Command(b, "pgbench", "-i", "-q", "-s", strconv.Itoa(scale)).Start().Wait(10 * time.Minute); code != 0 {
		b.Fatal("no tables of pgbench")
	}
	c.Exec("checkpoint")
	store := s3test.Start(b)
	archives := map[string]*backups{"local": backupsOf(b, c), "s3": backupsInS3(b, c, store)}

	took := map[string][]time.Duration{}
	peak := map[string]int{}
	run := func(what string, p *pgtest.Process) {
		began := time.Now()
		memory := peakWhile(b, p.Start(), what)
		took[what] = append(took[what], time.Since(began))
		peak[what] = max(peak[what], memory)
	}
	for b.Loop() {
		dir := pgtest.TempDir(b)
		theirs := filepath.Join(dir, "theirs")
		run("pg_basebackup", pgtest.Command(b, pgtest.Client(b, "pg_basebackup"), "-d", c.ReplConn(), "-D", theirs,
			"-Ft", "-X", "none", "-c", "fast", "--compress=client-zstd"))
		for name, a := range archives {
			p := pgtest.Command(b, a.bin, "backup", "create", "-d", c.ReplConn(), "--archive", a.url)
			p.Env = a.env
			run("create-"+name, p)
		}
		unpack := fmt.Sprintf("mkdir %[1]s/tar && zstd -dc %[2]s/base.tar.zst | tar -xf - -C %[1]s/tar && sync -f %[1]s/tar", dir, theirs)
		run("tar", pgtest.Command(b, "/bin/sh", "-c", unpack))
		for name, a := range archives {
			// Without a restore_command, which would be tried, without the store's keys.
			p := pgtest.Command(b, a.bin, "backup", "restore", "--archive", a.url, "--target-dir", filepath.Join(dir, name),
				"--standby", "--primary-conninfo", c.ReplConn(), "--slot", "walrecv")
			p.Env = a.env
			run("restore-"+name, p)
		}
		if err := os.RemoveAll(dir); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(0, "ns/op")
	for what := range took {
		b.ReportMetric(median(took[what]).Seconds(), what+"-s")
		b.ReportMetric(float64(peak[what])/1024, what+"-MiB")
	}
	for name := range archives {
		b.ReportMetric(median(took["pg_basebackup"]).Seconds()/median(took["create-"+name]).Seconds(), "create-"+name+"-x")
		b.ReportMetric(median(took["tar"]).Seconds()/median(took["restore-"+name]).Seconds(), "restore-"+name+"-x")
	}
}

// backupsInS3 is backupsOf with an archive in a store.
func backupsInS3(t testing.TB, c *pgtest.Cluster, store *s3test.Server) *backups {
	t.Helper()
	b := &backups{t: t, bin: pgtest.Build(t), url: store.URL("x"), env: store.Environ(), c: c}
	r := newReceiver(t, c, "--archive", b.url, "-S", "walrecv_s3")
	r.env = b.env
	r.start()
	return b
}

// peakWhile waits for a program, and returns the most memory that was seen, in kB.
func peakWhile(t testing.TB, p *pgtest.Process, what string) (kB int) {
	t.Helper()
	for {
		if _, ended := p.Exited(); ended {
			break
		}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
		if match := peakLine.FindSubmatch(status); err == nil && match != nil {
			kB, _ = strconv.Atoi(string(match[1])) // digits
		}
		time.Sleep(5 * time.Millisecond)
	}
	if code := p.Wait(time.Second); code != 0 {
		t.Fatalf("%s ended with %d: %s", what, code, p.Stderr())
	}
	return kB
}

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}
