package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/internal/s3test"
)

// maxMemory is what a receiver may use, whatever happens.
const maxMemory = 64 << 20

var peakLine = regexp.MustCompile(`(?m)^VmHWM:\s+(\d+) kB$`)

// modest checks how much memory a receiver that runs has used at most.
func (r *receiver) modest() {
	r.t.Helper()
	status := readFile(r.t, fmt.Sprintf("/proc/%d/status", r.PID()))
	found := peakLine.FindSubmatch(status)
	if found == nil {
		r.t.Fatalf("no VmHWM: %s", status)
	}
	kb, err := strconv.Atoi(string(found[1]))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Logf("the receiver used up to %d MB", kb>>10)
	if kb<<10 > maxMemory {
		r.t.Errorf("the receiver used %d kB", kb)
	}
}

// spoolKeepsTo checks that the segments in a spool are within the limit.
func spoolKeepsTo(t testing.TB, dir string, limit int64) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	size := int64(0)
	for _, e := range entries {
		info, err := e.Info()
		if os.IsNotExist(err) || len(e.Name()) < 24 {
			continue
		}
		if ext := filepath.Ext(e.Name()); err == nil && (ext == "" || ext == ".partial") {
			size += info.Size()
		}
	}
	if size > limit {
		t.Errorf("%d bytes of segments in the spool, %d are allowed", size, limit)
	}
}

// outage is an archive that can be made to fail.
type outage struct {
	url     string
	env     []string
	restore func(bin string) string // the restore_command
	down    func()
	worse   func() // before the receiver is started again
	up      func()
}

// A long outage of the archive: the spool grows to its limit, then nothing is read
// any more. The server goes on, keeps the WAL and the connection; a restart in
// between, also one with --ack=archive, changes nothing. Afterwards everything gets
// into the archive.
func TestOutage(t *testing.T) {
	t.Parallel()
	t.Run("s3", func(t *testing.T) {
		s := s3test.Start(t)
		proxy := s.Proxy(t)
		survivesOutage(t, outage{
			url: proxy.URL(""), env: proxy.Environ(),
			down:    func() { proxy.SetOutage(s3test.Hang) },
			worse:   func() { proxy.SetOutage(s3test.Refuse) },
			up:      func() { proxy.SetOutage(s3test.None) },
			restore: func(bin string) string { return s3Command(bin, s, s.URL(""), "") },
		})
	})
	t.Run("local", func(t *testing.T) {
		if !pgtest.Long() {
			return
		}
		archive := newDir(t)
		survivesOutage(t, outage{
			url: archive, down: func() { chmod(t, archive, 0) }, worse: func() {}, up: func() { chmod(t, archive, 0o700) },
			restore: func(bin string) string { return restoreCommand(bin, "--archive "+archive) },
		})
	})
}

func survivesOutage(t *testing.T, o outage) {
	const limit = 8 << 20
	rows, mb, timeout := 100, 12, "10s"
	if pgtest.Long() {
		// A server that gives up who says nothing for a second.
		rows, mb, timeout = 20_000, 300, "1s"
	}
	c := small(t, pgtest.Version(t), map[string]string{"wal_sender_timeout": timeout})
	c.Exec("create table acked(row text primary key, filler text)")
	r := watched(archiver(t, c, newDir(t), o.url), "--spool-max", "8MB", "--ready-lag", "1s")
	r.env = o.env
	r.start()
	backup := filepath.Join(pgtest.TempDir(t), "backup")
	c.BaseBackup(t, backup)
	load := startClients(t, c, 4)
	emit(c, 3000)
	r.metricBecomes("archived_lsn", func(v float64) bool { return v > 0 })

	o.down()
	emit(c, 6000)
	r.metricBecomes("paused", is(1))
	// By then the uploads have ended that had got through before.
	r.metricBecomes("oldest_unarchived_seconds", func(v float64) bool { return v > 2 })
	r.becomes("/readyz", 503, "the spool has reached --spool-max")
	r.waitsWithin(limit, c, func() {
		emit(c, mb<<10)
		load.more(t, rows)
		// Longer than the server waits for a word, in the long form.
		begin := c.Query("select clock_timestamp()")
		c.WaitFor("select coalesce(max(reply_time) > timestamptz '"+begin+"' + interval '1.5 s', false) from pg_stat_replication", "t", patience)
	})
	if n := len(r.alarms("the spool is full")); n != 1 {
		t.Errorf("%d alarms about a full spool", n)
	}
	if n := len(r.alarms("cannot archive")); n > 1 { // a store that hangs is known to after minutes
		t.Errorf("%d alarms about the archive", n)
	}
	r.modest()
	r.ask(syscall.SIGTERM)
	o.worse()
	r.args = append(r.args, "--ack=archive")
	r.start()
	r.metricBecomes("paused", is(1))
	r.waitsWithin(limit, c, func() { load.more(t, rows) })

	begin := time.Now()
	o.up()
	pgtest.Eventually(t, 3*patience, func() bool { return r.metrics()["paused"] == 0 && len(r.logged("the spool has room again")) > 0 }, "the spool does not get room")
	load.stop()
	last := c.Query("select pg_current_wal_lsn()")
	c.SwitchWAL()
	r.flushed()
	pgtest.Eventually(t, patience, func() bool {
		m := r.metrics()
		return m["archived_lsn"] >= float64(parseLSN(t, last)) && m["archived_lsn"] == m["received_lsn"] && m["oldest_unarchived_seconds"] == 0
	}, "the archive does not catch up")
	t.Logf("caught up %v after the outage", time.Since(begin).Round(time.Millisecond))
	r.modest()
	spoolKeepsTo(t, r.spool, limit)
	checkRestored(t, c, backup, o.restore(r.bin), load.rows())
	r.stop()
}

// waitsWithin checks that a receiver whose spool is full takes and acknowledges
// nothing more while something happens, and stays connected.
func (r *receiver) waitsWithin(limit int64, c *pgtest.Cluster, happens func()) {
	r.t.Helper()
	const positions = "select write_lsn, flush_lsn, restart_lsn from pg_stat_replication, pg_replication_slots"
	// What came before is reported by then.
	begin := c.Query("select clock_timestamp()")
	c.WaitFor("select coalesce(max(reply_time) > timestamptz '"+begin+"' + interval '1 s' and max(write_lsn) is not null, false) from pg_stat_replication", "t", patience)
	before := c.QueryRows(positions)
	happens()
	spoolKeepsTo(r.t, r.spool, limit)
	if m := r.metrics(); m["reconnects_total"] != 0 || m["streaming"] != 1 || m["spool_max_bytes"] != float64(limit) {
		r.t.Errorf("metrics: %v", m)
	}
	if after := c.QueryRows(positions); !reflect.DeepEqual(before, after) {
		r.t.Errorf("written, flushed and kept up to %v before, %v now", before, after)
	}
}
