package monitor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeReceiver is a receiver whose state a test sets.
type fakeReceiver struct {
	mu    sync.Mutex
	state State
	proof Proof // set before it is used
	slot  Slot  // the same
}

func (f *fakeReceiver) get() State {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state
}

func (f *fakeReceiver) set(change func(*State)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.state)
}

// busy is a state in which everything is known.
func busy() State {
	return State{
		Streaming: true, Cluster: segment.Cluster{Identity: segment.Identity{SystemID: 7001}}, Timeline: 3,
		Received: 900, Written: 900, Flushed: 800, Sealed: 700, Archived: 600, Server: 1000,
		LastMessage: time.Now(), WALBytes: 12345, Reconnects: 2, VerifyFailures: 1,
		ArchiveReached: true, OldestUnarchived: time.Now(), SpoolMax: 8192,
	}
}

func newMonitor(archive bool, s State) (*Monitor, *fakeReceiver) {
	f := &fakeReceiver{state: s}
	return New(Options{
		Slot:    func() (Slot, bool) { return f.slot, f.slot != Slot{} },
		State:   f.get,
		Spool:   func() (Spool, bool) { return Spool{Bytes: 4096, Gaps: 1}, true },
		Proof:   func() (Proof, bool) { return f.proof, !f.proof.LastBackup.IsZero() || !f.proof.LastDrill.IsZero() },
		Archive: archive, ReadyLag: time.Minute, Version: "1.2.3", Commit: "abc",
	}), f
}

// everything is a Monitor of which every metric is there.
func everything() *Monitor {
	m, f := newMonitor(true, busy())
	f.proof = Proof{LastBackup: time.Unix(1000, 0), LastDrill: time.Unix(2000, 5e8), DrillSuccess: true}
	f.slot = Slot{Status: SlotExtended, Active: true, Retained: 5000, Safe: new(int64(7000))}
	m.Synced(time.Millisecond)
	m.Uploaded("segment", time.Second, nil)
	m.Requested(storage.OpPut, nil)
	return m
}

// watch runs the Monitor's Watch for the rest of the test, which is virtual.
func watch(t *testing.T, m *Monitor) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); m.Watch(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

// scrape is what /metrics answers.
func scrape(t *testing.T, m *Monitor) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Metrics().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("/metrics answers %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

var sampleLine = regexp.MustCompile(`(?m)^(walrecv_[a-z_]+)({[^}]*})? (\S+)$`)

// values are the metrics of this program, by name and labels as they are written.
func values(t *testing.T, m *Monitor) map[string]float64 {
	t.Helper()
	values := map[string]float64{}
	for _, line := range sampleLine.FindAllStringSubmatch(scrape(t, m), -1) {
		value, err := strconv.ParseFloat(line[3], 64)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(line[1], "_bucket") {
			values[strings.TrimPrefix(line[1]+line[2], "walrecv_")] = value
		}
	}
	return values
}

func expectValues(t *testing.T, m *Monitor, want map[string]float64) {
	t.Helper()
	got := values(t, m)
	for name, value := range want {
		if v, ok := got[name]; !ok || v != value {
			t.Errorf("%s: %v (there: %v), want %v", name, v, ok, value)
		}
	}
}

func TestLint(t *testing.T) {
	problems, err := testutil.GatherAndLint(everything().registry)
	if err != nil || len(problems) != 0 {
		t.Error(problems, err)
	}
}

// TestDocumented compares docs/metrics.md with the registry, both ways.
func TestDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `walrecv_.*$").FindAllString(string(doc), -1) {
		documented[row] = true
	}
	page := scrape(t, everything())
	for _, head := range regexp.MustCompile(`(?m)^# HELP (walrecv_\S+) (.*)\n# TYPE \S+ (\S+)\n\S+?({\S*})? `).FindAllStringSubmatch(page, -1) {
		var labels []string
		for _, l := range regexp.MustCompile(`([a-z_]+)="`).FindAllStringSubmatch(head[4], -1) {
			if l[1] != "le" {
				labels = append(labels, "`"+l[1]+"`")
			}
		}
		row := fmt.Sprintf("| `%s` | %s | %s | %s |", head[1], head[3], strings.Join(labels, ", "), head[2])
		if !documented[row] {
			t.Errorf("docs/metrics.md lacks this row:\n%s", row)
		}
		delete(documented, row)
	}
	for row := range documented {
		t.Errorf("docs/metrics.md has this row of a metric that there is not:\n%s", row)
	}
}

func TestValues(t *testing.T) {
	m := everything()
	m.look(time.Now())
	m.Uploaded("history", time.Second, errors.New("no"))
	for _, err := range []error{
		nil, context.Canceled, context.DeadlineExceeded, fmt.Errorf("x: %w", fs.ErrNotExist), fs.ErrExist, errors.New("no"),
	} {
		m.Requested(storage.OpOpen, err)
	}
	expectValues(t, m, map[string]float64{
		"received_lsn": 900, "written_lsn": 900, "flushed_lsn": 800, "sealed_lsn": 700, "archived_lsn": 600, "server_lsn": 1000,
		`lag_bytes{stage="received"}`: 100, `lag_bytes{stage="written"}`: 100, `lag_bytes{stage="flushed"}`: 200, `lag_bytes{stage="archived"}`: 400,
		"spool_bytes": 4096, "spool_max_bytes": 8192, "paused": 0, "gaps": 1, "timeline": 3, "streaming": 1,
		"last_backup_timestamp_seconds": 1000, "last_drill_timestamp_seconds": 2000.5, "last_drill_success": 1,
		`cluster_info{system_identifier="7001"}`: 1, "waiting_for_slot": 0,
		"slot_known": 1, "slot_active": 1, "slot_retained_bytes": 5000, "slot_safe_wal_bytes": 7000,
		`slot_wal_status{status="reserved"}`: 0, `slot_wal_status{status="extended"}`: 1, `slot_wal_status{status="unreserved"}`: 0,
		`slot_wal_status{status="lost"}`: 0, `slot_wal_status{status="missing"}`: 0,
		"wal_bytes_total": 12345, "wal_verify_failures_total": 1, "reconnects_total": 2,
		"sync_seconds_count":                           1,
		"upload_seconds_count":                         1,
		`uploads_total{kind="segment",result="ok"}`:    1,
		`uploads_total{kind="history",result="error"}`: 1,
		`store_requests_total{op="put",result="ok"}`:   1, `store_requests_total{op="open",result="ok"}`: 1,
		`store_requests_total{op="open",result="canceled"}`: 1, `store_requests_total{op="open",result="timeout"}`: 1,
		`store_requests_total{op="open",result="absent"}`: 1, `store_requests_total{op="open",result="taken"}`: 1,
		`store_requests_total{op="open",result="error"}`: 1,
	})
	if got := values(t, m); len(got) != 52 {
		t.Errorf("%d metrics: %v", len(got), got)
	}
}

// TestUnknownIsAbsent: a position that is not known is not 0, and a receiver
// without an archive has no metrics of one.
func TestUnknownIsAbsent(t *testing.T) {
	m := New(Options{State: func() State { return State{} }, Spool: func() (Spool, bool) { return Spool{}, false }, Archive: true})
	for name := range values(t, m) {
		switch base, _, _ := strings.Cut(name, "{"); base {
		case "streaming", "waiting_for_slot", "paused", "wal_bytes_total", "wal_verify_failures_total", "reconnects_total", "build_info",
			"sync_seconds_sum", "sync_seconds_count", "upload_seconds_sum", "upload_seconds_count":
		default:
			t.Errorf("%s is there and cannot be known", name)
		}
	}
	m, _ = newMonitor(false, busy())
	for name := range values(t, m) {
		if strings.Contains(name, "archive") || strings.Contains(name, "upload") || strings.Contains(name, "store") {
			t.Errorf("%s is there without an archive", name)
		}
	}
}

// TestLag follows a stage that falls behind, catches up, and loses its server.
func TestLag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := newMonitor(true, State{Streaming: true, LastMessage: time.Now(), Server: 1000, Received: 1000, Written: 1000, Flushed: 1000, Archived: 500, ArchiveReached: true})
		watch(t, m)
		time.Sleep(10*time.Second + interval/2) // between two looks
		expectValues(t, m, map[string]float64{
			`lag_seconds{stage="received"}`: 0, `lag_seconds{stage="flushed"}`: 0, `lag_bytes{stage="flushed"}`: 0,
			`lag_seconds{stage="archived"}`: 10.5, `lag_bytes{stage="archived"}`: 500,
		})
		f.set(func(s *State) { s.Server, s.Received, s.Written = 2000, 2000, 2000 })
		time.Sleep(20 * time.Second)
		expectValues(t, m, map[string]float64{
			`lag_seconds{stage="received"}`: 0, `lag_seconds{stage="written"}`: 0, `lag_seconds{stage="flushed"}`: 19.5,
			`lag_bytes{stage="flushed"}`: 1000, `lag_seconds{stage="archived"}`: 30.5,
		})
		f.set(func(s *State) { s.Flushed, s.Archived, s.LastMessage = 2000, 1000, time.Now() })
		expectValues(t, m, map[string]float64{`lag_seconds{stage="flushed"}`: 0, `lag_seconds{stage="archived"}`: 19.5})

		f.set(func(s *State) { s.Streaming = false }) // what the server does now is not known
		time.Sleep(time.Hour)
		expectValues(t, m, map[string]float64{
			`lag_seconds{stage="flushed"}`: 3600, `lag_bytes{stage="flushed"}`: 0, `lag_seconds{stage="archived"}`: 3619.5,
		})
		f.set(func(s *State) { s.Streaming, s.Server, s.Flushed, s.LastMessage = true, 3000, 2500, time.Now() })
		time.Sleep(5 * time.Second)
		expectValues(t, m, map[string]float64{`lag_seconds{stage="flushed"}`: 4.5, `lag_bytes{stage="flushed"}`: 500, `lag_seconds{stage="received"}`: 4.5})
	})
}

func TestOldestUnarchived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := newMonitor(true, State{})
		time.Sleep(time.Hour)
		if waits, known := values(t, m)["oldest_unarchived_seconds"]; known {
			t.Errorf("%v seconds, and the archive was not asked yet", waits)
		}
		f.set(func(s *State) { s.ArchiveAsked = time.Now() })
		time.Sleep(time.Minute)
		expectValues(t, m, map[string]float64{"oldest_unarchived_seconds": 60}) // it has never answered
		f.set(func(s *State) { s.ArchiveReached = true })
		expectValues(t, m, map[string]float64{"oldest_unarchived_seconds": 0})
		f.set(func(s *State) { s.OldestUnarchived = time.Now().Add(-3 * time.Second) })
		expectValues(t, m, map[string]float64{"oldest_unarchived_seconds": 3})
		f.set(func(s *State) { s.OldestUnarchived = time.Now().Add(time.Hour) }) // a file from the future
		expectValues(t, m, map[string]float64{"oldest_unarchived_seconds": 0})
	})
}
