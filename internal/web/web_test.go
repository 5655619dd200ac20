package web

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/walrecv/walrecv/internal/monitor"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// streaming is a monitor of a receiver that does what it should.
func streaming(archive bool) *monitor.Monitor {
	return monitor.New(monitor.Options{
		State: func() monitor.State {
			return monitor.State{Streaming: true, Timeline: 3, Received: 900, Written: 900, Flushed: 800, Archived: 600, Server: 900, ArchiveReached: true}
		},
		Spool:   func() (monitor.Spool, bool) { return monitor.Spool{Bytes: 4096}, true },
		Proof:   func() (monitor.Proof, bool) { return monitor.Proof{}, false },
		Archive: archive, ReadyLag: time.Minute, Version: "1.2.3",
	})
}

// simple is a server for a receiver without an archive.
func simple() *Server { return New(Options{Monitor: streaming(false)}) }

func TestPaths(t *testing.T) {
	h := simple().Handler()
	for _, c := range []struct {
		method, path, accept string
		code                 int
		kind, body           string
	}{
		{"GET", "/metrics", "", 200, "text/plain; version=0.0.4; charset=utf-8", "walrecv_flushed_lsn 800\n"},
		{"GET", "/metrics", "application/json", 200, "text/plain; version=0.0.4; charset=utf-8", "walrecv_flushed_lsn 800\n"},
		{"GET", "/metrics", "", 200, "text/plain; version=0.0.4; charset=utf-8", "go_goroutines "},
		{"HEAD", "/metrics", "", 200, "text/plain; version=0.0.4; charset=utf-8", ""},
		{"GET", "/healthz", "", 200, "text/plain; charset=utf-8", "ok\n"},
		{"GET", "/healthz?x=y", "", 200, "text/plain; charset=utf-8", "ok\n"},
		{"GET", "/healthz", "application/json", 200, "application/json", `{"healthy":true}`},
		{"HEAD", "/healthz", "", 200, "text/plain; charset=utf-8", ""},
		{"GET", "/readyz", "", 200, "text/plain; charset=utf-8", "ready: streaming\n"},
		{"GET", "/readyz", "text/html, application/json; q=0.9", 200, "application/json", `"status":["streaming"]`},
		{"HEAD", "/readyz", "", 200, "text/plain; charset=utf-8", ""},
		{"GET", "/api/live", "", 200, "application/json", `"flushed_lsn":"0/320"`},
		{"GET", "/api/status", "", 200, "application/json", `{"live":{"time":"`},
		{"POST", "/metrics", "", 405, "text/plain; charset=utf-8", ""},
		{"PUT", "/healthz", "", 405, "text/plain; charset=utf-8", ""},
		{"DELETE", "/readyz", "", 405, "text/plain; charset=utf-8", ""},
		{"OPTIONS", "/readyz", "", 405, "text/plain; charset=utf-8", ""},
		{"POST", "/api/status", "", 405, "text/plain; charset=utf-8", ""},
		{"POST", "/elsewhere", "", 404, "text/plain; charset=utf-8", ""},
		{"GET", "/metrics/", "", 404, "text/plain; charset=utf-8", ""},
		{"GET", "//metrics", "", 404, "text/plain; charset=utf-8", ""},
		{"GET", "/x/../metrics", "", 404, "text/plain; charset=utf-8", ""},
		{"GET", "/%2e%2e/etc/passwd", "", 404, "text/plain; charset=utf-8", ""},
		{"GET", "/debug/pprof/", "", 404, "text/plain; charset=utf-8", ""},
	} {
		r := httptest.NewRequest(c.method, c.path, nil)
		r.Header.Set("Accept", c.accept)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		kind, _, _ := strings.Cut(w.Header().Get("Content-Type"), "; escaping")
		if w.Code != c.code || kind != c.kind || !strings.Contains(w.Body.String(), c.body) {
			t.Errorf("%s %s: %d, %s, %.200q", c.method, c.path, w.Code, kind, w.Body)
		}
		if allow := w.Header().Get("Allow"); (allow == "GET, HEAD") != (c.code == 405) {
			t.Errorf("%s %s: %d with Allow %q", c.method, c.path, w.Code, allow)
		}
		if w.Header().Get("X-Frame-Options") != "DENY" || w.Header().Get("X-Content-Type-Options") != "nosniff" || w.Header().Get("Content-Security-Policy") == "" {
			t.Errorf("%s %s: %v", c.method, c.path, w.Header())
		}
	}
}
