package s3test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"path"
	"sync"
	"testing"
	"time"
)

// Outage is how a store is out of order.
type Outage int

// The kinds of outage.
const (
	None   Outage = iota
	Refuse        // connections are broken off at once
	Hang          // requests are taken and never answered
)

// When says on which side of a request's effect it fails.
type When int

// Before: the server never sees it. After: the server has done it, and its answer
// is lost.
const (
	Before When = iota
	After
)

// Proxy stands between clients and a server. All can be changed at any time. It
// is safe for concurrent use.
type Proxy struct {
	Endpoint string

	server *Server
	http   *httptest.Server

	mu      sync.Mutex
	latency time.Duration
	outage  Outage
	changed chan struct{} // closed when an outage ends
	ignore  bool          // conditions
	counts  map[string]int
	gets    map[string]int
	total   int
	bytes   int64
	fails   map[int]When
}

// Proxy starts a proxy in front of the server, until the end of the test.
func (s *Server) Proxy(t testing.TB) *Proxy {
	t.Helper()
	p := &Proxy{server: s, changed: make(chan struct{}), counts: map[string]int{}, gets: map[string]int{}, fails: map[int]When{}}
	p.http = httptest.NewServer(p)
	p.Endpoint = p.http.URL
	t.Cleanup(func() {
		p.SetOutage(None)
		p.http.CloseClientConnections()
		p.http.Close()
	})
	return p
}

// URL is the archive URL of a prefix of the bucket, by way of the proxy.
func (p *Proxy) URL(prefix string) string { return bucketURL(p.server.Bucket, prefix, p.Endpoint) }

// Environ is what a program needs in its environment to use the bucket.
func (p *Proxy) Environ() []string { return p.server.Environ() }

// SetLatency makes every request take longer.
func (p *Proxy) SetLatency(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.latency = d
}

// SetOutage begins an outage, or ends it with None. Requests that hang are then
// broken off.
func (p *Proxy) SetOutage(o Outage) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.outage = o
	close(p.changed)
	p.changed = make(chan struct{})
}

// FailAt makes the k-th request from now fail, counted from 1, also several.
func (p *Proxy) FailAt(k int, when When) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fails[p.total+k] = when
}

// IgnoreConditions makes the server one that does not know If-None-Match.
func (p *Proxy) IgnoreConditions(ignore bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ignore = ignore
}

// Counts is the number of requests by operation: PutObject, GetObject,
// HeadObject, DeleteObject, ListObjects, those of multipart uploads (CreateUpload,
// UploadPart, CompleteUpload, AbortUpload, ListUploads), and Other.
func (p *Proxy) Counts() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.counts)
}

// Gets is how often each object was asked for as a whole, by the last part of its key.
func (p *Proxy) Gets() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.gets)
}

// Total is the number of all requests.
func (p *Proxy) Total() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.total
}

// Bytes is how much the bodies of requests and answers had in them.
func (p *Proxy) Bytes() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bytes
}

// ResetCounts begins to count anew.
func (p *Proxy) ResetCounts() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.counts)
	clear(p.gets)
	clear(p.fails)
	p.total, p.bytes = 0, 0
}

// plan is what becomes of one request.
type plan struct {
	latency time.Duration
	outage  Outage
	changed <-chan struct{}
	ignore  bool
	fail    bool
	when    When
}

func (p *Proxy) plan(r *http.Request) plan {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total++
	op := operation(r)
	p.counts[op]++
	if op == "GetObject" && r.Header.Get("Range") == "" {
		p.gets[path.Base(r.URL.Path)]++
	}
	p.bytes += max(r.ContentLength, 0)
	when, fail := p.fails[p.total]
	return plan{p.latency, p.outage, p.changed, p.ignore, fail, when}
}

func operation(r *http.Request) string {
	query := r.URL.Query()
	switch {
	case query.Get("list-type") == "2":
		return "ListObjects"
	case query.Has("uploads") || query.Has("uploadId"):
		return uploadOperation(r.Method, query.Has("uploads"))
	case r.Method == http.MethodPut:
		return "PutObject"
	case r.Method == http.MethodGet:
		return "GetObject"
	case r.Method == http.MethodHead:
		return "HeadObject"
	case r.Method == http.MethodDelete:
		return "DeleteObject"
	}
	return "Other"
}

// uploadOperation is that of a request for multipart uploads: for all of them, or for
// the one that it names.
func uploadOperation(method string, all bool) string {
	switch {
	case all && method == http.MethodPost:
		return "CreateUpload"
	case all && method == http.MethodGet:
		return "ListUploads"
	case method == http.MethodPut:
		return "UploadPart"
	case method == http.MethodPost:
		return "CompleteUpload"
	case method == http.MethodDelete:
		return "AbortUpload"
	}
	return "Other"
}

// ServeHTTP is for the HTTP server.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	plan := p.plan(r)
	switch {
	case plan.outage == Refuse, plan.fail && plan.when == Before:
		breakOff(w)
		return
	case plan.outage == Hang:
		// Read, or the server does not see that the client has gone.
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-r.Context().Done():
		case <-plan.changed:
		}
		breakOff(w)
		return
	}
	if !pause(r.Context(), plan.latency) {
		return
	}
	res, err := p.forward(r, plan.ignore)
	if err != nil {
		breakOff(w)
		return
	}
	defer res.Body.Close()
	if plan.fail {
		_, _ = io.Copy(io.Discard, res.Body) // it has happened
		breakOff(w)
		return
	}
	maps.Copy(w.Header(), res.Header)
	w.WriteHeader(res.StatusCode)
	n, _ := io.Copy(w, res.Body) // what is missing the client sees
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bytes += n
}

// forward hands a request on as it is signed: for the host that the client knows.
func (p *Proxy) forward(r *http.Request, ignore bool) (*http.Response, error) {
	body := r.Body
	switch {
	case r.ContentLength == 0:
		body = http.NoBody
	case ignore || r.ContentLength < 0:
		all, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		body = io.NopCloser(bytes.NewReader(all))
	}
	target := parsed(p.server.Endpoint)
	target.Path, target.RawPath, target.RawQuery = r.URL.Path, r.URL.RawPath, r.URL.RawQuery
	req, err := http.NewRequestWithContext(r.Context(), r.Method, target.String(), body)
	if err != nil {
		return nil, err
	}
	req.Header, req.Host, req.ContentLength = r.Header.Clone(), r.Host, r.ContentLength
	req.Header.Del("Expect")
	if ignore && req.Header.Get("If-None-Match") != "" {
		req.Header.Del("If-None-Match")
		req.Header.Del("Authorization")
		if err := sign(req, p.server.Keys, req.Header.Get("X-Amz-Content-Sha256")); err != nil {
			return nil, err
		}
	}
	return backend.RoundTrip(req)
}

// backend keeps connections to the servers, which are fewer than the proxies.
var backend = &http.Transport{MaxIdleConnsPerHost: 64, IdleConnTimeout: time.Second, DisableCompression: true}

// pause is false if nobody waits any more.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// breakOff ends a connection in the middle of a request.
func breakOff(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // so that the client sees a reset, not an end
	}
	if err := conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		panic(err)
	}
}
