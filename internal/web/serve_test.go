package web

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener whose connections are in memory, so that their deadlines
// are virtual.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func newPipes() *pipes { return &pipes{make(chan net.Conn), make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.closed); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial() net.Conn {
	client, server := net.Pipe()
	p.conns <- server
	return client
}

// serving runs Serve for the rest of a virtual test; stop ends it and says how
// long that took.
func serving(t *testing.T, s *Server, l net.Listener) (stop func() time.Duration) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l, slog.New(slog.DiscardHandler)) }()
	return func() time.Duration {
		began := time.Now()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		return time.Since(began)
	}
}

// request sends a request and returns the first line of the answer.
func request(t *testing.T, c net.Conn, path string) string {
	t.Helper()
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// TestSlowClients: neither a client that does not ask nor one that does not
// listen is kept for long, and others are served meanwhile.
func TestSlowClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		stop := serving(t, simple(), p)
		began := time.Now()
		mute, half, deaf, good := p.dial(), p.dial(), p.dial(), p.dial()
		for _, c := range []struct {
			conn net.Conn
			text string
		}{{half, "GET /metrics HT"}, {deaf, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"}} {
			if _, err := io.WriteString(c.conn, c.text); err != nil {
				t.Fatal(err)
			}
		}
		if got := request(t, good, "/healthz"); got != "HTTP/1.1 200 OK" {
			t.Error(got)
		}
		good.Close()
		for _, c := range []struct {
			name  string
			conn  net.Conn
			limit time.Duration
		}{{"mute", mute, readTimeout}, {"half", half, readTimeout}} {
			if _, err := io.ReadAll(c.conn); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			if lasted := time.Since(began); lasted > c.limit {
				t.Errorf("the %s one was kept for %v", c.name, lasted)
			}
		}
		time.Sleep(writeTimeout)
		if text, err := io.ReadAll(deaf); err != nil || len(text) > 0 {
			t.Errorf("the deaf one gets %q, %v", text, err)
		}
		if took := stop(); took != 0 {
			t.Errorf("the end took %v with nobody there", took)
		}
	})
}

// TestServeEnds although somebody does not take his answer.
func TestServeEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		stop := serving(t, simple(), p)
		deaf := p.dial()
		if _, err := io.WriteString(deaf, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if took := stop(); took > farewell {
			t.Errorf("the end took %v", took)
		}
	})
}

// TestTooManyClients: those who only hold their connections keep nobody out, and the
// oldest of them goes for each that comes.
func TestTooManyClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		stop := serving(t, simple(), p)
		began := time.Now()
		var idle []net.Conn
		for range maxConnections {
			idle = append(idle, p.dial())
		}
		for i := range 3 {
			c := p.dial()
			if text, err := io.ReadAll(idle[i]); err != nil || len(text) > 0 || time.Since(began) > 0 {
				t.Errorf("the oldest gets %q, %v, after %v", text, err, time.Since(began))
			}
			if got := request(t, c, "/readyz"); got != "HTTP/1.1 200 OK" {
				t.Error(got)
			}
			c.Close()
			synctest.Wait()
			idle = append(idle, p.dial()) // in its place
		}
		if text, err := io.ReadAll(idle[len(idle)-1]); err != nil || len(text) > 0 || time.Since(began) < readTimeout {
			t.Errorf("the newest gets %q, %v, after %v", text, err, time.Since(began))
		}
		stop()
	})
}

// TestHandshakes that fail are told of once, however many they are. All else is told.
func TestHandshakes(t *testing.T) {
	s := newSettings(t)
	s.pair("server", nil)
	s.write("web.yml", "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n")
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		log := slog.New(slog.NewTextHandler(&text, nil))
		p := newPipes()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- New(Options{Monitor: streaming(false), Access: s.access()}).Serve(ctx, p, log) }()
		knock := func(times int, want string) {
			t.Helper()
			text.Reset()
			for range times {
				p.dial().Close()
			}
			synctest.Wait()
			if got := strings.Count(text.String(), "\n"); got != strings.Count(want, "\n") || !strings.Contains(text.String(), strings.TrimSpace(want)) {
				t.Errorf("%d clients: %s, want %s", times, &text, want)
			}
		}
		knock(50, `client="pipe: EOF" failed=1`+"\n")
		knock(50, "")
		time.Sleep(handshakesEvery)
		knock(50, "failed=100\n")
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		text.Reset()
		server := slog.NewLogLogger(newComplaints(log), slog.LevelWarn)
		for range 2 {
			server.Print("http: panic serving 127.0.0.1:1: oh")
		}
		if n := strings.Count(text.String(), `level=WARN msg="http: panic serving 127.0.0.1:1: oh"`); n != 2 {
			t.Error(&text)
		}
	})
}

// TestServeFails where the listener does.
func TestServeFails(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := simple().Serve(t.Context(), l, slog.New(slog.DiscardHandler)); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

// TestServeOverTCP is a scrape as Prometheus does it.
func TestServeOverTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	stop := serving(t, simple(), l)
	for _, encoding := range []string{"", "gzip"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+l.Addr().String()+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		if encoding != "" {
			r.Header.Set("Accept-Encoding", encoding)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != 200 || len(body) == 0 || resp.Header.Get("Content-Encoding") != encoding {
			t.Errorf("%d, %d bytes, encoding %q, %v", resp.StatusCode, len(body), resp.Header.Get("Content-Encoding"), err)
		}
		resp.Body.Close()
	}
	stop()
}
