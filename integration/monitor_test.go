package integration

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/pgtest"
)

// watched adds what makes a receiver tell about itself.
func watched(r *receiver, args ...string) *receiver {
	r.args = append(append(r.args, "--listen", "127.0.0.1:0"), args...)
	return r
}

var servedAt = regexp.MustCompile(`are served","address":"([^"]+)"`)

// address is where a watched receiver that was started answers.
func (r *receiver) address() string {
	r.t.Helper()
	r.WaitOutput("are served", patience)
	found := servedAt.FindStringSubmatch(r.Stderr())
	if found == nil {
		r.t.Fatalf("no address in the log: %s", r.Stderr())
	}
	return found[1]
}

// page asks a watched receiver for one of its pages.
func (r *receiver) page(path string) (code int, body string) {
	r.t.Helper()
	client := http.Client{Timeout: patience}
	resp, err := client.Get("http://" + r.address() + path)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

var sampleLine = regexp.MustCompile(`(?m)^([a-z_]+)({[^}]*})? (\S+)$`)

// metrics are what a scrape gives, without the prefix walrecv_.
func (r *receiver) metrics() map[string]float64 {
	r.t.Helper()
	code, body := r.page("/metrics")
	if code != http.StatusOK {
		r.t.Fatalf("/metrics: %d %s", code, body)
	}
	values := map[string]float64{}
	for line := range strings.Lines(body) { // often: a regular expression takes most of the time
		if strings.HasPrefix(line, "#") {
			continue
		}
		at := strings.LastIndexByte(line, ' ') + 1
		value, err := strconv.ParseFloat(strings.TrimSpace(line[at:]), 64)
		if err != nil {
			r.t.Fatalf("%s: %v", line, err)
		}
		values[strings.TrimPrefix(strings.TrimSpace(line[:at]), "walrecv_")] = value
	}
	return values
}

// becomes waits until a page has a code and a text.
func (r *receiver) becomes(path string, code int, text string) {
	r.t.Helper()
	var gotCode int
	var got string
	pgtest.Eventually(r.t, patience, func() bool {
		gotCode, got = r.page(path)
		return gotCode == code && strings.Contains(got, text)
	}, "%s does not become %d %q", path, code, text)
	r.t.Logf("%d %s", gotCode, strings.TrimSpace(got))
}

// metricBecomes waits until a metric is there and has a value that will do.
func (r *receiver) metricBecomes(name string, will func(float64) bool) {
	r.t.Helper()
	pgtest.Eventually(r.t, patience, func() bool {
		value, ok := r.metrics()[name]
		return ok && will(value)
	}, "%s does not become what it should be", name)
}

func is(want float64) func(float64) bool { return func(v float64) bool { return v == want } }

// queryNumber is a number that the server gives.
func queryNumber(c *pgtest.Cluster, t testing.TB, sql string) float64 {
	t.Helper()
	n, err := strconv.ParseFloat(c.Query(sql), 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// positions are ordered: each is at most the next.
var positions = []string{"archived_lsn", "flushed_lsn", "written_lsn", "received_lsn", "server_lsn"}

// follow scrapes until enough segments are archived, and checks that positions
// are in order and never go back.
func follow(r *receiver, segments float64) {
	r.t.Helper()
	last := map[string]float64{}
	scrapes := 0
	pgtest.Eventually(r.t, patience, func() bool {
		now := r.metrics()
		scrapes++
		before := 0.
		for _, name := range positions {
			value, known := now[name]
			if value < last[name] {
				r.t.Errorf("%s went from %.0f to %.0f", name, last[name], value)
			}
			if known && value < before {
				r.t.Errorf("%s is %.0f, below the one before it: %v", name, value, now)
			}
			last[name], before = value, max(before, value)
		}
		if sealed := now["sealed_lsn"]; sealed > now["flushed_lsn"] || sealed < last["sealed_lsn"] {
			r.t.Errorf("sealed %.0f, flushed %.0f, sealed before %.0f", sealed, now["flushed_lsn"], last["sealed_lsn"])
		}
		last["sealed_lsn"] = now["sealed_lsn"]
		return now[`uploads_total{kind="segment",result="ok"}`] >= segments
	}, "%.0f segments are not archived", segments)
	r.t.Logf("%d scrapes, %v", scrapes, last)
}

// What is scraped under load is in order, at rest it is what the server and the
// archive say, and it tells of a server that is gone.
func TestMonitorMetrics(t *testing.T) {
	t.Parallel()
	c := small(t, pgtest.Version(t), nil)
	archive := newDir(t)
	r := watched(archiver(t, c, newDir(t), archive)).start()
	load := startPgbench(t, c)
	follow(r, 20)
	load.Kill()
	c.WaitFor("select count(*) from pg_stat_activity where application_name = 'pgbench'", "0", patience)
	last := c.SwitchWAL()
	r.flushed()

	const ours = " from pg_stat_replication where application_name = 'walrecv'"
	pgtest.Eventually(t, patience, func() bool {
		m := r.metrics()
		return m["flushed_lsn"] == queryNumber(c, t, "select flush_lsn - '0/0'"+ours) &&
			m["written_lsn"] == queryNumber(c, t, "select write_lsn - '0/0'"+ours) &&
			m["server_lsn"] == queryNumber(c, t, "select pg_current_wal_flush_lsn() - '0/0'")
	}, "the positions do not become the server's")
	end := float64((number(t, last) + 1) * fileSize)
	r.metricBecomes("sealed_lsn", is(end))
	r.metricBecomes("archived_lsn", is(end))
	names := archivedNames(t, c, archive)
	if newest := names[len(names)-1]; newest != last {
		t.Errorf("the archive ends with %s, and %s is reported", newest, last)
	}
	r.metricBecomes(`lag_seconds{stage="flushed"}`, is(0))
	r.metricBecomes("oldest_unarchived_seconds", is(0))
	r.metricBecomes("spool_bytes", is(sizeOf(t, r.spool)))
	m := r.metrics()
	for name, least := range map[string]float64{
		`uploads_total{kind="segment",result="ok"}`: float64(len(names)), "upload_seconds_count": float64(len(names)),
		`store_requests_total{op="put",result="ok"}`: float64(len(names)), "sync_seconds_count": 20, "wal_bytes_total": 20 * fileSize,
		"timeline": 1, "streaming": 1, "go_goroutines": 1, "process_open_fds": 1,
	} {
		if m[name] < least {
			t.Errorf("%s is %v, want at least %v", name, m[name], least)
		}
	}
	for _, name := range []string{"gaps", "wal_verify_failures_total", "reconnects_total"} {
		if value, ok := m[name]; !ok || value != 0 {
			t.Errorf("%s is %v (there: %v), want 0", name, value, ok)
		}
	}

	c.Stop(pgtest.Immediate)
	r.metricBecomes("streaming", is(0))
	r.metricBecomes(`lag_seconds{stage="flushed"}`, func(v float64) bool { return v > 1 })
	r.becomes("/healthz", http.StatusOK, "ok")
	c.Start()
	r.metricBecomes("streaming", is(1))
	r.metricBecomes("reconnects_total", is(1))
	r.metricBecomes(`lag_seconds{stage="flushed"}`, is(0))

	address := r.address()
	r.stop()
	if conn, err := net.DialTimeout("tcp", address, patience); err == nil {
		conn.Close()
		t.Error("it still answers")
	}
}

// sizeOf is the number of bytes in the files of a directory.
func sizeOf(t testing.TB, dir string) float64 {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	total := int64(0)
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		total += info.Size()
	}
	return float64(total)
}

// Neither a server that is away nor an archive that is away is noticed at once,
// and both are noticed after --ready-lag.
func TestMonitorReady(t *testing.T) {
	t.Parallel()
	c := small(t, pgtest.Version(t), nil)
	archive := newDir(t)
	r := watched(archiver(t, c, newDir(t), archive), "--ready-lag", "2s").start()
	emit(c, 1500)
	r.flushed()
	r.becomes("/readyz", http.StatusOK, "ready: streaming\n")
	pgtest.Eventually(t, patience, func() bool { return len(archivedNames(t, c, archive)) > 0 }, "nothing is archived")

	rename(t, archive, archive+".away")
	emit(c, 2500)
	r.flushed()
	r.becomes("/readyz", http.StatusServiceUnavailable, "not ready: streaming\narchiving is ")
	r.becomes("/healthz", http.StatusOK, "ok")
	if m := r.metrics(); m["oldest_unarchived_seconds"] < 2 || m[`store_requests_total{op="stat",result="error"}`] == 0 {
		t.Errorf("oldest %v, requests that failed %v", m["oldest_unarchived_seconds"], m[`store_requests_total{op="stat",result="error"}`])
	}
	rename(t, archive+".away", archive)
	r.becomes("/readyz", http.StatusOK, "ready: streaming\n")
	r.metricBecomes("oldest_unarchived_seconds", is(0))

	c.Stop(pgtest.Immediate)
	r.becomes("/readyz", http.StatusServiceUnavailable, "not ready: not streaming for ")
	c.Start()
	r.becomes("/readyz", http.StatusOK, "ready: streaming\n")
	r.stop()

	// An archive that is away at the start, of a spool that can do without.
	rename(t, archive, archive+".away")
	if err := os.Mkdir(archive, 0); err != nil {
		t.Fatal(err)
	}
	pgtest.Give(t, archive)
	r.start()
	r.becomes("/readyz", http.StatusServiceUnavailable, "the archive was not reached yet, for ")
	remove(t, archive)
	rename(t, archive+".away", archive)
	r.becomes("/readyz", http.StatusOK, "ready: streaming\n")
	r.stop()

	// A new spool of a server that is away: nobody knows which archive to ask for.
	c.Stop(pgtest.Immediate)
	r = watched(archiver(t, c, newDir(t), archive))
	r.launch()
	r.becomes("/readyz", http.StatusServiceUnavailable, "not ready: not streaming yet, for ")
	server := fmt.Sprintf("127.0.0.1:%d", c.Port)
	r.becomes("/api/live", http.StatusOK, server)
	if _, body := r.page("/readyz"); strings.Contains(body, "archive was not reached") || strings.Contains(body, server) {
		t.Error(body)
	}
	if seconds, there := r.metrics()["oldest_unarchived_seconds"]; there {
		t.Errorf("the oldest waits for %v s, and there is none", seconds)
	}
	r.stop()
}

// Of two receivers with one slot one streams. The other one is ready to.
func TestMonitorPair(t *testing.T) {
	t.Parallel()
	c := small(t, pgtest.Version(t), nil)
	pair := func() *receiver {
		return watched(fresh(t, c, "-v", "-S", "walrecv", "--ensure-slot"), "--ready-lag", "1s")
	}
	active := pair().start()
	standby := pair()
	standby.launch()
	standby.becomes("/readyz", http.StatusOK, "ready: waiting for its replication slot\n")
	m := standby.metrics()
	if m["streaming"] != 0 {
		t.Error("the standby streams")
	}
	for _, name := range []string{"archived_lsn", "oldest_unarchived_seconds", "upload_seconds_count"} {
		if _, there := m[name]; there {
			t.Errorf("%s is there without an archive", name)
		}
	}
	active.stop()
	standby.becomes("/readyz", http.StatusOK, "ready: streaming\n")
	standby.metricBecomes("streaming", is(1))
	standby.stop()
}

// An address that is taken is told of before anything else is done.
func TestMonitorAddressInUse(t *testing.T) {
	t.Parallel()
	c := small(t, pgtest.Version(t), nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r := fresh(t, c, "-S", "walrecv", "--ensure-slot", "--listen", l.Addr().String())
	r.ends(1, fmt.Sprintf("the address %s is in use", l.Addr()), "choose another one with --listen")
	if got := c.Query("select count(*) from pg_replication_slots"); got != "0" {
		t.Errorf("%s slots were made", got)
	}
}

// A gap that was accepted is reported, by the next receiver too.
func TestMonitorGap(t *testing.T) {
	t.Parallel()
	c := smallWith(t, pgtest.Options{Major: pgtest.Version(t), Settings: forgetful()})
	archive := newDir(t)
	r := watched(archiver(t, c, newDir(t), archive)).start()
	emit(c, 1500)
	r.flushed()
	r.metricBecomes("gaps", is(0))
	r.stop()
	dropSlot(c, "walrecv")
	forget(c)
	consents := watched(archiver(t, c, r.spool, archive), "--accept-gap").start()
	consents.metricBecomes("gaps", is(1))
	consents.metricBecomes(`uploads_total{kind="gap",result="ok"}`, is(1))
	consents.stop()
	r.start()
	r.metricBecomes("gaps", is(1))
	r.stop()
}
