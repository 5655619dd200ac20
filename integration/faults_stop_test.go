package integration

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/segment"
)

// stopWithin is how long a receiver has to end in order.
const stopWithin = 10 * time.Second

// ask sends a signal and expects an end in order, soon.
func (r *receiver) ask(sig syscall.Signal) {
	r.t.Helper()
	begin := time.Now()
	r.Signal(sig)
	code := r.Wait(patience)
	if d := time.Since(begin); code != 0 || d > stopWithin {
		r.t.Errorf("after %v: exit code %d after %v, want 0 within %v", sig, code, d, stopWithin)
	}
}

// hang stops a server and its walsenders, which then hang until goOn.
func hang(t testing.TB, c *pgtest.Cluster) (goOn func()) {
	t.Helper()
	pids := []int{c.PID()}
	for _, row := range c.QueryRows("select pid from pg_stat_replication") {
		var pid int
		if _, err := fmt.Sscan(row[0], &pid); err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	send := func(sig syscall.Signal) {
		for _, pid := range pids {
			if err := syscall.Kill(pid, sig); err != nil {
				t.Errorf("%v to process %d of the server: %v", sig, pid, err)
			}
		}
	}
	send(syscall.SIGSTOP)
	goOn = func() { send(syscall.SIGCONT) }
	t.Cleanup(func() {
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGCONT) // may have ended meanwhile
		}
	})
	return goOn
}

// Both signals end the receiver in order, whatever the server does. What was
// received before is synced.
func TestFaultsSignals(t *testing.T) {
	t.Parallel()
	c := small(t, pgtest.Version(t), nil)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(sig.String(), func(t *testing.T) {
			c := c.With(t)
			t.Run("streaming", func(t *testing.T) {
				c := c.With(t)
				r := fresh(t, c, "--flush-interval=1h", "-s", "1").start()
				emit(c, 300)
				end := c.FlushLSN()
				c.WaitFor(fmt.Sprintf("select count(*) from pg_stat_replication where write_lsn >= '%s' and flush_lsn < write_lsn", end), "1", patience)
				r.ask(sig)
				isWhole(t, c, r.spool, end)
			})
			t.Run("server down", func(t *testing.T) {
				down := pgtest.New(t, pgtest.Options{Major: pgtest.Version(t), WALSegmentSize: fileSize})
				r := fresh(t, down, "-v")
				r.launch()
				r.retries(2, "cannot be reached")
				r.ask(sig)
			})
			t.Run("server hangs", func(t *testing.T) {
				c := c.With(t)
				r := fresh(t, c).start()
				goOn := hang(t, c)
				r.ask(sig)
				goOn()
			})
			t.Run("server hangs from the start", func(t *testing.T) {
				c := c.With(t)
				goOn := hang(t, c)
				r := fresh(t, c, "-v")
				r.launch()
				connects(t, r)
				r.ask(sig)
				goOn()
			})
			t.Run("twice", func(t *testing.T) {
				c := c.With(t)
				r := fresh(t, c).start()
				goOn := hang(t, c)
				r.Signal(sig)
				begin := time.Now()
				pgtest.Eventually(t, patience, func() bool {
					r.Signal(sig) // two at once may come as one
					_, ended := r.Exited()
					return ended
				}, "it does not end")
				if code, d := r.Wait(patience), time.Since(begin); code != 1 || d > 2*time.Second {
					t.Errorf("exit code %d after %v, want 1 at once", code, d)
				}
				if !strings.Contains(r.Stderr(), "stopped at once by a second signal") {
					t.Errorf("stderr: %s", r.Stderr())
				}
				goOn()
			})
		})
	}
}

// connects waits until a process has a connection to the server.
func connects(t testing.TB, r *receiver) {
	t.Helper()
	port := fmt.Sprintf(":%04X 01 ", r.cluster.Port) // state 01: established
	pgtest.Eventually(t, patience, func() bool {
		return strings.Contains(string(readFile(t, fmt.Sprintf("/proc/%d/net/tcp", r.PID()))), port)
	}, "no connection to the server")
}

// With --no-loop any disconnect is the end, and so is a server that is down.
func TestFaultsNoLoop(t *testing.T) {
	t.Parallel()
	c := small(t, pgtest.Version(t), nil)
	for _, tc := range []struct {
		name string
		do   func(c *pgtest.Cluster)
		text string
	}{
		{"terminated", func(c *pgtest.Cluster) { c.Exec("select pg_terminate_backend(pid) from pg_stat_replication") }, "terminating connection due to administrator command"},
		{"fast shutdown", func(c *pgtest.Cluster) { c.Stop(pgtest.Fast) }, "the server ended the stream: it is shutting down"},
		{"crash", func(c *pgtest.Cluster) { c.Kill9() }, "connection to the server lost"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := c.With(t)
			if !c.Running() {
				c.Start()
			}
			r := fresh(t, c, "-n").start()
			emit(c, 100)
			tc.do(c)
			r.ended(1, tc.text)
		})
	}
	t.Run("down", func(t *testing.T) { fresh(t, c.With(t), "-n").ends(1, "cannot be reached") })
}

// --endpos ends with 0 just behind a position, with all WAL before it, in the
// archive if there is one.
func TestFaultsEndpos(t *testing.T) {
	t.Parallel()
	for _, major := range pgtest.Versions(t) {
		t.Run(fmt.Sprintf("pg%d", major), func(t *testing.T) {
			c := small(t, major, nil)
			archive := newDir(t)
			modes := []string{"--synchronous", "--flush-interval=1h", "--archive=" + archive}
			for i := range modes {
				c.Exec(fmt.Sprintf("select pg_create_physical_replication_slot('s%d', true)", i))
			}
			first := c.Query("select pg_walfile_name(restart_lsn) from pg_replication_slots")
			emit(c, 3300)
			end := c.FlushLSN()
			emit(c, 100)
			for i, mode := range modes {
				r := fresh(t, c, "-n", "-E", end, "-S", fmt.Sprintf("s%d", i), mode)
				r.ends(0)
				r.stoppedAt(end)
				isWhole(t, c, r.spool, end)
				only(t, filepath.Join(r.spool, "*.partial"))
			}
			last, err := segment.ParseLSN(end)
			if err != nil {
				t.Fatal(err)
			}
			const size = segment.Size(fileSize)
			archiveIsWhole(t, c, archive, first, segment.Name{Timeline: 1, Number: size.Number(last) - 1}.Format(size))
		})
	}
}

// stoppedAt looks for the line in the log that says how far all is durable.
func (r *receiver) stoppedAt(least string) {
	r.t.Helper()
	said := regexp.MustCompile(`"msg":"stopped","timeline":1,"flushed_lsn":"([^"]+)"`).FindStringSubmatch(r.Stderr())
	if said == nil {
		r.t.Fatalf("it does not say where it stopped: %s", r.Stderr())
	}
	at, err := segment.ParseLSN(said[1])
	if want, wantErr := segment.ParseLSN(least); err != nil || wantErr != nil || at < want {
		r.t.Errorf("it says that it stopped at %s, want %s or more", said[1], least)
	}
}

// wal_sender_timeout=0: the server never asks, and is told all the same.
func TestFaultsNoSenderTimeout(t *testing.T) {
	t.Parallel()
	c := small(t, pgtest.Version(t), map[string]string{"wal_sender_timeout": "0"})
	r := fresh(t, c, "-S", "walrecv", "--ensure-slot", "-s", "1").start()
	emit(c, 1500)
	r.flushed()
	slot, err := segment.ParseLSN(c.Query("select restart_lsn from pg_replication_slots"))
	if err != nil {
		t.Fatal(err)
	}
	if end, err := segment.ParseLSN(c.FlushLSN()); err != nil || slot < end-fileSize {
		t.Errorf("the slot is at %s of %s, %v", slot, end, err)
	}
	// Idle, the status still comes at its interval.
	seen := c.Query("select reply_time from pg_stat_replication")
	for range 2 {
		c.WaitFor(fmt.Sprintf("select reply_time > '%s' from pg_stat_replication", seen), "t", patience)
		seen = c.Query("select reply_time from pg_stat_replication")
	}
	r.stop()
}
