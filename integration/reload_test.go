package integration

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/walrecv/walrecv/internal/pgtest"
)

// SIGHUP reads the configuration file again. What can change does, over the connection
// that there is; a broken file changes nothing; the service manager is told.
func TestReload(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Major: pgtest.Version(t), WALSegmentSize: 1 << 20})
	c.Start()
	c.Exec("alter system set wal_sender_timeout = 0") // the server never asks, so that nothing is synced early
	c.Exec("select pg_reload_conf()")
	dir := pgtest.TempDir(t)
	file := filepath.Join(dir, "walrecv.toml")
	write := func(text string) { writeAll(t, map[string]string{file: text}); pgtest.Give(t, dir) }
	write("[receive]\nflush_interval = \"1h\"\nstatus_interval = 1\n")
	m := newManager(t)
	r := m.manages(newReceiver(t, c, "--config", file)).start()
	walsender := c.Query("select pid from pg_stat_replication")

	c.Exec("create table t()")
	lsn := c.Query("select pg_current_wal_flush_lsn()")
	c.WaitFor(fmt.Sprintf("select write_lsn >= '%s' from pg_stat_replication", lsn), "t", patience)
	write("[receive]\nflush_interval = \"broken\"\nstatus_interval = 2\n")
	r.Signal(syscall.SIGHUP)
	r.WaitOutput("flush_interval: invalid duration", patience)
	if got := c.Query(fmt.Sprintf("select flush_lsn >= '%s' from pg_stat_replication", lsn)); got != "f" {
		t.Errorf("flushed: %s, before the interval was changed", got)
	}
	write("[receive]\nflush_interval = \"10ms\"\nstatus_interval = 1\nlog_level = \"debug\"\n")
	r.Signal(syscall.SIGHUP)
	r.WaitOutput(`"changed":"flush-interval: 1h -> 10ms, log-level: info -> debug"`, patience)
	r.flushed()
	if now := c.Query("select pid from pg_stat_replication"); now != walsender {
		t.Errorf("another connection: walsender %s, before %s", now, walsender)
	}
	r.stop()
	kinds := m.kinds()
	if at := slices.Index(kinds, "RELOADING=1"); at < 1 || !slices.Contains(kinds[at:], "READY=1") {
		t.Errorf("told %q", kinds)
	}
	for _, message := range m.messages {
		if message[0] == "RELOADING=1" && (len(message) < 2 || !strings.HasPrefix(message[1], "MONOTONIC_USEC=")) {
			t.Errorf("told %q", message)
		}
	}
	if log := r.Stderr(); strings.Count(log, "SIGHUP") != 1 {
		t.Errorf("want one line for a broken file:\n%s", log)
	}
}
