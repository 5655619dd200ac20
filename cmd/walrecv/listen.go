package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/monitor"
	"github.com/walrecv/walrecv/internal/web"
	"github.com/walrecv/walrecv/receiver"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
)

// loopback is where it listens if no host is given: what a receiver tells is
// nobody else's business unless somebody says so.
const loopback = "127.0.0.1"

// addressValue is HOST:PORT, :PORT, PORT or the path of a socket.
func addressValue(target *string) pflag.Value {
	return parsed[string]{target, "address", parseAddress, func(s string) string { return s }}
}

func parseAddress(text string) (string, error) {
	if strings.HasPrefix(text, "/") {
		return text, nil
	}
	host, port := "", text
	var err error
	if strings.Contains(text, ":") {
		host, port, err = net.SplitHostPort(text)
	}
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return "", fmt.Errorf("invalid address %q: want HOST:PORT, [IPV6]:PORT or PORT, with a port between 0 and 65535, or the path of a socket", text)
	}
	if host == "" {
		host = loopback
	}
	return net.JoinHostPort(host, port), nil
}

// listen takes the address that is to be answered on.
func listen(ctx context.Context, address string) (net.Listener, error) {
	network := "tcp"
	if strings.HasPrefix(address, "/") {
		network = "unix"
	}
	l, err := new(net.ListenConfig).Listen(ctx, network, address)
	if errors.Is(err, syscall.EADDRINUSE) && network == "unix" && abandoned(ctx, address) && os.Remove(address) == nil {
		l, err = new(net.ListenConfig).Listen(ctx, network, address)
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("the address %s is in use: is another walrecv running? Otherwise choose another one with --listen (%w)", address, err)
	case err != nil:
		return nil, fmt.Errorf("cannot listen on %s, as --listen says: %w", address, err)
	}
	return l, nil
}

// abandoned tells whether a socket is there on which nobody listens: a process that was
// killed has left it.
func abandoned(ctx context.Context, path string) bool {
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Type() != os.ModeSocket {
		return false
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err == nil {
		conn.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

// watch is what a receiver tells about itself over HTTP. A nil one tells nothing.
// It is made before the receiver is, and asks it only once it serves.
type watch struct {
	listener net.Listener
	monitor  *monitor.Monitor
	server   *web.Server
	log      *slog.Logger

	receiver  *receiver.Receiver
	spool     *segment.Spool
	archiving *archiving // nil without an archive
	gaps      openGaps
	slotStats bool
	slot      atomic.Pointer[monitor.Slot]    // nil: not known
	cluster   atomic.Pointer[segment.Cluster] // nil until the server has said which
	history   func() (segment.History, bool)  // of the timeline that is received
}

// newWatch listens; nil if it is not asked to.
func (c *receiveConfig) newWatch(ctx context.Context, log *slog.Logger) (*watch, error) {
	if c.listen == "" {
		return nil, nil //nolint:nilnil // a nil watch is a watch that tells nothing
	}
	access, err := webAccess(c.listenConfig, log)
	if err != nil {
		return nil, err
	}
	l, err := listen(ctx, c.listen)
	if err != nil {
		return nil, err
	}
	if err := c.checkReach(l.Addr(), access, log); err != nil {
		l.Close()
		return nil, err
	}
	log.Info("status page, metrics, health and readiness are served", "address", l.Addr().String(), "tls", access != nil && access.Encrypts())
	w := &watch{listener: l, log: log, slotStats: c.slotStats}
	w.history = monitor.Cached(w.readHistory)
	m := monitor.Options{
		State:    w.state,
		Spool:    monitor.Cached(w.scanSpool),
		Archive:  c.archive.given(),
		Proof:    monitor.Rarely(w.lookUpProof),
		ReadyLag: time.Duration(c.readyLag),
		Version:  version,
		Commit:   builtFrom(),
	}
	if c.slotStats {
		m.Slot = w.slotState
	}
	w.monitor = monitor.New(m)
	o := web.Options{Monitor: w.monitor, Access: access, Host: c.onlyHost(l.Addr(), access)}
	if c.archive.given() {
		o.Report = w.findReport(c.archive.location)
	}
	w.server = web.New(o)
	return w, nil
}

// serve answers until the returned function is called.
func (w *watch) serve(r *receiver.Receiver, spool *segment.Spool, bg background) (stop func()) {
	if w == nil {
		return func() {}
	}
	w.receiver, w.spool = r, spool
	w.archiving, _ = bg.(*archiving)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := w.server.Serve(ctx, w.listener, w.log); err != nil {
			w.log.Error("status page, metrics, health and readiness are not served any more; receiving goes on: restart the receiver to have them again", "error", err)
		}
	})
	if w.slotStats {
		running.Go(func() { r.WatchSlot(ctx, w.onSlot) })
	}
	return func() {
		cancel()
		running.Wait()
	}
}

// close gives up the address, also where nothing was served.
func (w *watch) close() {
	if w != nil {
		w.listener.Close() // a second time does no harm
	}
}

// setReadyLag changes --ready-lag.
func (w *watch) setReadyLag(d time.Duration) {
	if w != nil {
		w.monitor.SetReadyLag(d)
	}
}

// metered counts the requests to a store.
func (w *watch) metered(s storage.Store) storage.Store {
	if w == nil {
		return s
	}
	return storage.WithMeter(s, w.monitor.Requested)
}

// onSync and onUpload are told how long things took; nil if nobody asks.
func (w *watch) onSync() func(time.Duration) {
	if w == nil {
		return nil
	}
	return w.monitor.Synced
}

func (w *watch) onUpload() func(kind string, took time.Duration, err error) {
	if w == nil {
		return nil
	}
	return w.monitor.Uploaded
}

// noting sees which cluster it is, and which gaps there are.
func (w *watch) noting(k heldKeeper, spool *segment.Spool) receiver.Keeper {
	if w == nil {
		return k
	}
	return &gapKeeper{k, spool, &w.gaps, &w.cluster}
}

// state takes locks for a moment only: what needs the disk comes from monitor.Cached.
func (w *watch) state() monitor.State {
	p := w.receiver.Progress()
	s := monitor.State{
		Streaming: p.Streaming, Waiting: oneLine(p.Waiting), ForSlot: p.ForSlot, PausedSince: p.PausedSince,
		Timeline: p.Timeline, Received: p.Received, Written: p.Written, Flushed: p.Flushed, Server: p.Server,
		LastMessage: p.LastMessage, WALBytes: p.Bytes, Reconnects: p.Reconnects, VerifyFailures: p.VerifyFailures,
		SpoolMax: w.spool.Max(),
	}
	if cluster := w.cluster.Load(); cluster != nil {
		s.Cluster = *cluster
	}
	if at, ok := w.spool.Sealed(); ok {
		s.Sealed = w.onTimeline(p, at)
	}
	if w.archiving != nil {
		if asked := w.archiving.asked.Load(); asked != nil {
			s.ArchiveAsked = *asked
		}
		s.ArchiveTrouble = w.archiving.trouble()
		w.addArchive(&s, p, w.archiving.uploader.Load())
	}
	return s
}

// addArchive adds what the archive holds; u is nil until the archive answered.
func (w *watch) addArchive(s *monitor.State, p receiver.Progress, u *archive.Uploader) {
	if u == nil {
		return
	}
	s.ArchiveReached = true
	at, ok := u.Archived()
	s.OldestUnarchived, _ = u.Oldest()
	if tail := w.archiving.tail; tail != nil {
		if end, known := tail.Archived(); known {
			at, ok = end, true
		}
		if oldest, late := tail.Oldest(); late && (s.OldestUnarchived.IsZero() || oldest.Before(s.OldestUnarchived)) {
			s.OldestUnarchived = oldest
		}
	}
	if ok {
		s.Archived = w.onTimeline(p, at)
	}
}

// onTimeline is the position of something sealed as one of the timeline that is
// received: what lies on an ancestor counts up to where that was left. 0 if it is
// not known. It is never beyond what is flushed, which is noted a moment later.
func (w *watch) onTimeline(p receiver.Progress, at segment.Position) segment.LSN {
	if at.Timeline == p.Timeline {
		return min(at.LSN, p.Flushed)
	}
	h, ok := w.history()
	if !ok || h.Timeline != p.Timeline {
		return 0
	}
	_, end, ok := h.Bounds(at.Timeline)
	if !ok {
		return 0
	}
	return min(at.LSN, end, p.Flushed)
}

func (w *watch) readHistory() (segment.History, error) {
	t := w.receiver.Progress().Timeline
	content, err := w.spool.History(t)
	if err != nil {
		return segment.History{}, err
	}
	return segment.ParseHistory(t, content)
}

// scanSpool looks into the directory.
func (w *watch) scanSpool() (monitor.Spool, error) {
	entries, err := w.spool.FS().ReadDir(w.spool.Dir())
	if err != nil {
		return monitor.Spool{}, err
	}
	var s monitor.Spool
	var gaps []string
	for _, e := range entries {
		s.Bytes += e.Size
		if segment.IsGapName(e.Name) {
			gaps = append(gaps, e.Name)
		}
	}
	s.Gaps = w.gaps.count(gaps)
	return s, nil
}
