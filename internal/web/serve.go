package web

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// maxConnections bounds what clients can take of the process's file
	// descriptors, which receiving needs.
	maxConnections = 64

	// A client gets readTimeout for its request, and writeTimeout from then on
	// to take the answer.
	readTimeout  = 5 * time.Second
	writeTimeout = 10 * time.Second

	maxHeader = 16 << 10 // bytes

	// farewell is how long answers under way may take once it has to end.
	farewell = 500 * time.Millisecond
)

// Serve answers requests that come to l until ctx ends, and has the monitor watch the
// receiver meanwhile. It closes l, and leaves nothing running but a look at an archive
// that does not answer.
func (s *Server) Serve(ctx context.Context, l net.Listener, log *slog.Logger) error {
	server := &http.Server{
		Handler:        s.Handler(),
		ReadTimeout:    readTimeout,
		WriteTimeout:   writeTimeout,
		MaxHeaderBytes: maxHeader,
		ErrorLog:       slog.NewLogLogger(newComplaints(log), slog.LevelWarn),
	}
	// A scrape is one request in many seconds, and a connection that is kept
	// would keep others out.
	server.SetKeepAlivesEnabled(false)
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { s.monitor.Watch(ctx) })
	running.Go(func() {
		<-ctx.Done()
		last, done := context.WithTimeout(context.WithoutCancel(ctx), farewell)
		defer done()
		if server.Shutdown(last) != nil {
			_ = server.Close() // of the listener, which is closed
		}
	})
	err := server.Serve(s.access.listener(&bounded{Listener: l}))
	cancel()
	s.archive.close()
	running.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// handshakesEvery is how often it is told that there was no TLS with a client. Whoever
// reaches the address can bring that about, as often as he likes.
const handshakesEvery = time.Hour

// complaints is what an [http.Server] logs with, one record at a time.
type complaints struct {
	slog.Handler
	often  rate.Sometimes
	untold int // handshakes that failed since that was told
}

func newComplaints(log *slog.Logger) *complaints {
	return &complaints{Handler: log.Handler(), often: rate.Sometimes{Interval: handshakesEvery}}
}

// Handle implements [slog.Handler].
func (c *complaints) Handle(ctx context.Context, r slog.Record) error {
	failure, ok := strings.CutPrefix(r.Message, "http: TLS handshake error from ")
	if !ok {
		return c.Handler.Handle(ctx, r)
	}
	log := slog.New(c.Handler)
	log.Debug("there is no TLS with a client", "client", failure)
	c.untold++
	c.often.Do(func() {
		log.Warn("there is no TLS with a client: one that should get in has to trust the certificate of --listen-config, and to show its own if one is asked for; others knock, too, and do no harm. It is told again in an hour at the earliest", "client", failure, "failed", c.untold)
		c.untold = 0
	})
	return nil
}

// bounded is a listener with maxConnections open connections at most. One more ends the
// oldest: whoever holds them all without asking keeps nobody out, and a probe, which is
// answered at once, comes through.
type bounded struct {
	net.Listener

	mu   sync.Mutex
	open []*counted // the oldest first
}

// Accept implements [net.Listener].
func (b *bounded) Accept() (net.Conn, error) {
	conn, err := b.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &counted{conn, b}
	if oldest := b.add(c); oldest != nil {
		oldest.Close()
	}
	return c, nil
}

// add returns the connection that has to go for c.
func (b *bounded) add(c *counted) (oldest *counted) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.open) == maxConnections {
		oldest = b.open[0]
	}
	b.open = append(b.open, c)
	return oldest
}

func (b *bounded) remove(c *counted) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open = slices.DeleteFunc(b.open, func(o *counted) bool { return o == c })
}

type counted struct {
	net.Conn
	among *bounded
}

// Close implements [net.Conn].
func (c *counted) Close() error {
	c.among.remove(c)
	return c.Conn.Close()
}
