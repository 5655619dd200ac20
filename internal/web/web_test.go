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

// TestHosts: a name that leads here need not be meant to. See [Server.meant].
func TestHosts(t *testing.T) {
	for host, want := range map[string]int{
		"127.0.0.1": 200, "127.0.0.1:9187": 200, "192.0.2.7:9187": 200, "[::1]": 200, "[::1]:9187": 200, "[::ffff:127.0.0.1]": 200,
		"localhost": 200, "LOCALHOST:9187": 200, "localhost.:9187": 200, "walrecv:9187": 200, "": 200,
		"db1.example.org": 200, "DB1.example.org:9187": 200, "db1.example.org.": 200,
		"example.org": 421, "evil.example:9187": 421, "db1.example.org.evil.example": 421, "127.0.0.1.evil.example:9187": 421, "evil.localhost:80": 421, "a.b.": 421,
	} {
		ask := func(s *Server, path string, want int) {
			t.Helper()
			r := httptest.NewRequest("GET", path, nil)
			r.Host = host
			w := httptest.NewRecorder()
			if s.Handler().ServeHTTP(w, r); w.Code != want {
				t.Errorf("%s of %q: %d, want %d", path, host, w.Code, want)
			}
		}
		guarded := New(Options{Monitor: streaming(false), Host: "db1.example.org"})
		for _, path := range []string{"/", "/metrics", "/api/live", "/api/hour", "/api/status"} {
			ask(guarded, path, want)
			ask(simple(), path, 200)
		}
		ask(guarded, "/healthz", 200)
		ask(guarded, "/readyz", 200)
		ask(guarded, "/elsewhere", 404)
	}
}

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
