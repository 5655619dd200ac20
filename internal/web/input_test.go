package web

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// raw sends bytes to a server and returns the whole answer.
func raw(t *testing.T, address, request string) string {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	// It need not take all of it.
	_, _ = io.WriteString(c, request)
	answer, _ := io.ReadAll(c)
	return string(answer)
}

// TestBadInput is what a browser does not send. The server answers in one line, or closes,
// and goes on.
func TestBadInput(t *testing.T) {
	address := guarded(t, nil)
	for _, c := range []struct{ request, want string }{
		{"GET /healthz HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK\r\n"},
		{"GET http://elsewhere/healthz HTTP/1.1\r\nHost: elsewhere\r\n\r\n", "HTTP/1.1 200 OK\r\n"},
		{"GET /healthz HTTP/1.1\r\n\r\n", "HTTP/1.1 400 Bad Request"},
		{"GET /healthz HTTP/3.0\r\nHost: x\r\n\r\n", "HTTP/1.1 505 "},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/1.1 404 "},
		{"GET /\x00\x01 HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 400 "},
		{"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 what TLS begins with\r\n\r\n", "HTTP/1.1 400 "},
		{"\x00\xff\xfe\r\n\r\n", "HTTP/1.1 400 "},
		{strings.Repeat("A", 1<<20), "HTTP/1.1 431 "},
		{"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("y", 64<<10) + "\r\n\r\n", "HTTP/1.1 431 "},
		{"GET /healthz HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X: y\r\n", 20_000) + "\r\n", "HTTP/1.1 431 "},
		{"GET /" + strings.Repeat("x", 64<<10) + " HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 431 "},
		{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000\r\n\r\n", "HTTP/1.1 405 "},
		{"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.1 200 "},
		{"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 "},
		{"CONNECT elsewhere:80 HTTP/1.1\r\nHost: elsewhere:80\r\n\r\n", "HTTP/1.1 404 "},
		{"TRACE / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 405 "},
		{"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 "},
		{"GET //healthz HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 404 "},
		{"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 404 "},
		{"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 404 "},
		{"GET /page/page.js HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 404 "},
		{"GET /api/status/../live HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 404 "},
		{"GET /%00 HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 404 "},
		{"GET /api%2Flive HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 "}, // the same path
		{"GET /healthz HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nRange: bytes=0-0\r\n\r\n", "HTTP/1.1 200 "},
	} {
		answer := raw(t, address, c.request)
		if !strings.HasPrefix(answer, c.want) {
			t.Errorf("%.80q: %.200q, want %q", c.request, answer, c.want)
		}
		if n := strings.Count(answer, "HTTP/1."); n > 1 || strings.Contains(answer, "root:") {
			t.Errorf("%.80q: %d answers: %.500q", c.request, n, answer)
		}
	}
	if answer := raw(t, address, "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"); !strings.HasSuffix(answer, "ready: streaming\n") {
		t.Error(answer)
	}
}

// TestFlood: many who ask at once are answered or closed, and afterwards all is as before.
func TestFlood(t *testing.T) {
	address := guarded(t, nil)
	var clients sync.WaitGroup
	for i := range 4 * maxConnections {
		clients.Go(func() {
			c, err := net.Dial("tcp", address)
			if err != nil {
				return
			}
			defer c.Close()
			if i%4 == 0 {
				return // without a word
			}
			_, _ = fmt.Fprintf(c, "GET /%s HTTP/1.1\r\nHost: x\r\n\r\n", []string{"metrics", "api/status", "nothing"}[i%3])
			if i%5 == 0 {
				return // before the answer
			}
			if line, err := bufio.NewReader(c).ReadString('\n'); err == nil && !strings.HasPrefix(line, "HTTP/1.1 200") && !strings.HasPrefix(line, "HTTP/1.1 404") {
				t.Errorf("%q", line)
			}
		})
	}
	clients.Wait()
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		resp, err := http.Get("http://" + address + "/readyz")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		if time.Now().After(end) {
			t.Fatalf("after the flood: %v", err)
		}
	}
}
