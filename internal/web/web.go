// Package web is what a receiver answers over HTTP: metrics, probes, and the status
// page with what it shows. Nothing here changes anything, and no file is served.
package web

import (
	"encoding/json"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/walrecv/walrecv/internal/monitor"
)

// Options say what is told.
type Options struct {
	Monitor *monitor.Monitor
	Report  Find    // nil without an archive
	Access  *Access // nil: everybody sees everything

	// Host is the name that it listens on, if nothing but that keeps others away: a
	// request for another name is refused then. "": any name will do.
	Host string
}

// Server answers for one receiver.
type Server struct {
	monitor *monitor.Monitor
	archive *lookout // nil without an archive
	access  *Access
	host    string
}

// New prepares a Server. Nothing is answered before [Server.Serve].
func New(o Options) *Server {
	s := &Server{monitor: o.Monitor, access: o.Access, host: o.Host}
	if o.Report != nil {
		s.archive = newLookout(o.Report)
	}
	return s
}

// probes are answered to everybody.
var probes = []string{"/healthz", "/readyz"}

// Handler answers a fixed set of paths, for GET and HEAD, and nothing else.
func (s *Server) Handler() http.Handler {
	paths := map[string]http.Handler{
		"/metrics":    s.monitor.Metrics(),
		"/healthz":    http.HandlerFunc(healthz),
		"/readyz":     http.HandlerFunc(s.readyz),
		"/":           http.HandlerFunc(page),
		"/api/live":   http.HandlerFunc(s.live),
		"/api/hour":   http.HandlerFunc(s.hour),
		"/api/status": http.HandlerFunc(s.status),
	}
	answers := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, ok := paths[r.URL.Path]
		switch {
		case !ok:
			http.Error(w, "there is no such page", http.StatusNotFound)
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "only GET and HEAD are answered", http.StatusMethodNotAllowed)
		case !s.meant(r.Host) && !slices.Contains(probes, r.URL.Path):
			http.Error(w, "ask for an IP address, for localhost, or for the name in --listen; with --listen-insecure any name will do", http.StatusMisdirectedRequest)
		default:
			answer.ServeHTTP(w, r)
		}
	})
	return secured(s.access.guard(answers, probes...))
}

// meant tells whether a request is for this machine. Who owns a name can make it lead
// here, and a browser gives the page that it got under that name before all that it asks
// for under it. A name without a dot is nobody's out there.
func (s *Server) meant(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.Trim(host, "[]") // there is no port
	}
	name = strings.TrimSuffix(name, ".")
	_, err = netip.ParseAddr(name)
	return s.host == "" || err == nil || !strings.Contains(name, ".") || strings.EqualFold(name, s.host)
}

// secured makes browsers take an answer for no more than it is.
func secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		next.ServeHTTP(w, r)
	})
}

// healthz says that the process works: that it answers is the proof.
func healthz(w http.ResponseWriter, r *http.Request) {
	probe(w, r, http.StatusOK, "ok", map[string]bool{"healthy": true})
}

func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	ready := s.monitor.Ready()
	code := http.StatusOK
	if !ready.Ready {
		code = http.StatusServiceUnavailable
	}
	probe(w, r, code, ready.Text(), ready)
}

// probe writes text, or data as JSON to those who ask for it.
func probe(w http.ResponseWriter, r *http.Request, code int, text string, data any) {
	if wantsJSON(r) {
		writeJSON(w, code, data)
		return
	}
	write(w, code, "text/plain; charset=utf-8", []byte(text+"\n"))
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

// live is the receiver at this moment.
func (s *Server) live(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, s.monitor.Live())
}

// hour is how it went lately.
func (s *Server) hour(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, s.monitor.Hour())
}

func writeJSON(w http.ResponseWriter, code int, data any) {
	body, err := json.Marshal(data)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	write(w, code, "application/json", append(body, '\n'))
}

func write(w http.ResponseWriter, code int, kind string, body []byte) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(code)
	_, _ = w.Write(body) // to whoever is still there
}
