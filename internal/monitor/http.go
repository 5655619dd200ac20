package monitor

import (
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Handler answers /metrics, /healthz and /readyz, for GET and HEAD, and nothing
// else.
func (m *Monitor) Handler() http.Handler {
	pages := map[string]http.Handler{
		// What one collector cannot tell must not hide what the others can.
		"/metrics": promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}),
		"/healthz": http.HandlerFunc(healthz),
		"/readyz":  http.HandlerFunc(m.readyz),
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		page, ok := pages[r.URL.Path]
		switch {
		case !ok:
			http.NotFound(w, r)
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		default:
			page.ServeHTTP(w, r)
		}
	})
}

// healthz says that the process works: that it answers is the proof.
func healthz(w http.ResponseWriter, r *http.Request) {
	answer(w, r, http.StatusOK, "ok", map[string]bool{"healthy": true})
}

func (m *Monitor) readyz(w http.ResponseWriter, r *http.Request) {
	ready := m.Ready()
	code, word := http.StatusOK, "ready"
	if !ready.Ready {
		code, word = http.StatusServiceUnavailable, "not ready"
	}
	answer(w, r, code, word+": "+strings.Join(ready.Status, "\n"), ready)
}

// answer writes text, or data as JSON to those who ask for it.
func answer(w http.ResponseWriter, r *http.Request, code int, text string, data any) {
	body, kind := []byte(text), "text/plain; charset=utf-8"
	if wantsJSON(r) {
		kind = "application/json"
		var err error
		if body, err = json.Marshal(data); err != nil {
			http.Error(w, fmt.Sprint(err), http.StatusInternalServerError)
			return
		}
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = w.Write(append(body, '\n')) // to whoever is still there
}

func wantsJSON(r *http.Request) bool {
	for _, value := range r.Header.Values("Accept") {
		for part := range strings.SplitSeq(value, ",") {
			if kind, _, err := mime.ParseMediaType(part); err == nil && kind == "application/json" {
				return true
			}
		}
	}
	return false
}
