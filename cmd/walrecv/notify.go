package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/walrecv/walrecv/receiver"
	"github.com/walrecv/walrecv/segment"
)

// stuckAfter is how long a stream may stand still. The receiver itself ends one on
// which nothing came for a minute, so after two its loop does not turn any more.
const stuckAfter = 2 * time.Minute

// toldWithin is how long a message waits for room in the service manager's queue. A
// stop waits for two of them at most, and has 10 s.
const toldWithin = time.Second

// notifier tells the service manager how a receiver is, over the socket that systemd
// names in NOTIFY_SOCKET. A nil one tells nobody.
//
// READY comes once the first try has shown that there is nothing to refuse: the
// receiver streams, or waits for something that may come by itself, as a server that
// is down. What ends the receiver instead is a start that failed.
//
// WATCHDOG comes as long as the receiver moves. Before it streams, and while it waits,
// everything it does has a deadline of its own. A store that does not answer holds up
// nothing, and starting anew would not help it.
type notifier struct {
	log      *slog.Logger
	socket   *net.UnixAddr
	changed  chan struct{}
	watchdog time.Duration // longest time between two signs of life; 0: nobody waits for them
	patience atomic.Int64  // how long what was received may stay unsynced, as a time.Duration
	ready    atomic.Bool   // that was told

	flushed segment.LSN // as it was seen last
	since   time.Time   // and since when
	failed  atomic.Bool // to tell, and that was logged
}

// newNotifier is nil if nobody wants to know.
func newNotifier(c receiveConfig, log *slog.Logger) *notifier {
	socket := os.Getenv("NOTIFY_SOCKET")
	if socket == "" {
		return nil
	}
	n := &notifier{log: log, socket: &net.UnixAddr{Name: socket, Net: "unixgram"}, changed: make(chan struct{}, 1)}
	n.setFlushInterval(time.Duration(c.flushInterval))
	var err error
	if n.watchdog, err = daemon.SdWatchdogEnabled(false); err != nil {
		log.Warn("there will be no signs of life for the service manager's watchdog: correct WatchdogSec= of the unit, or leave it out", "error", err)
	}
	return n
}

// change is told that a receiver streams, or waits.
func (n *notifier) change() {
	if n == nil {
		return
	}
	select {
	case n.changed <- struct{}{}:
	default:
	}
}

// setFlushInterval says how long what was received waits to be synced.
func (n *notifier) setFlushInterval(d time.Duration) {
	if n != nil {
		n.patience.Store(int64(stuckAfter + d))
	}
}

// reloading tells that the configuration is read again by work, and that it was. What
// is not ready yet is not made to seem so.
func (n *notifier) reloading(work func()) {
	if n == nil || !n.ready.Load() {
		work()
		return
	}
	n.tell(daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec())
	work()
	n.tell(daemon.SdNotifyReady)
}

// follow tells of a receiver, and of trouble with the archive, until the returned function is called.
func (n *notifier) follow(ctx context.Context, progress func() receiver.Progress, trouble func() string) (stop func()) {
	if n == nil {
		return func() {}
	}
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		n.run(ctx, progress, trouble, end)
	}()
	return func() {
		close(end)
		<-done
	}
}

func (n *notifier) run(ctx context.Context, progress func() receiver.Progress, trouble func() string, end <-chan struct{}) {
	var signs <-chan time.Time
	if n.watchdog > 0 {
		ticker := time.NewTicker(n.watchdog / 3)
		defer ticker.Stop()
		signs = ticker.C
	}
	for ctx.Err() == nil {
		select {
		case <-n.changed:
			n.ready.Store(true)
			n.tell(daemon.SdNotifyReady + "\nSTATUS=" + statusLine(progress(), trouble()))
		case now := <-signs:
			if p := progress(); n.ready.Load() && n.moves(p, now) {
				n.tell(daemon.SdNotifyWatchdog + "\nSTATUS=" + statusLine(p, trouble()))
			}
		case <-ctx.Done():
		case <-end:
			return
		}
	}
	n.tell(daemon.SdNotifyStopping + "\nSTATUS=stopping: what was received is synced and archived")
	<-end
}

// moves says whether a receiver does what it has to, or waits for something that it
// may wait for.
func (n *notifier) moves(p receiver.Progress, now time.Time) bool {
	if p.Flushed != n.flushed || p.Flushed == p.Written || !p.Streaming {
		n.flushed, n.since = p.Flushed, now
	}
	switch {
	case !p.Streaming:
		return true
	case now.Sub(n.since) > time.Duration(n.patience.Load()):
		return false
	}
	return !p.PausedSince.IsZero() || now.Sub(p.LastMessage) <= stuckAfter
}

// statusLine is what "systemctl status" shows.
func statusLine(p receiver.Progress, trouble string) string {
	at := fmt.Sprintf("timeline %d, flushed up to %s", uint32(p.Timeline), p.Flushed)
	switch {
	case p.Streaming && !p.PausedSince.IsZero():
		return "paused, the spool has reached --spool-max: " + at
	case p.Streaming && trouble != "":
		return "streaming: " + at + "; not archiving: " + trouble
	case p.Streaming:
		return "streaming: " + at
	case p.ForSlot:
		return "waiting for the replication slot: " + oneLine(p.Waiting)
	case p.Waiting != "":
		return "not streaming, trying again: " + oneLine(p.Waiting)
	default:
		return "connecting"
	}
}

// tell sends a message. If it cannot, systemd will say what it missed. For READY it
// waits, so one that was not taken is told again.
func (n *notifier) tell(message string) {
	err := n.send(message)
	if errors.Is(err, os.ErrDeadlineExceeded) && strings.HasPrefix(message, daemon.SdNotifyReady) {
		n.change()
	}
	if err != nil && !n.failed.Swap(true) {
		n.log.Warn("the service manager cannot be told how it is here: see that it reads what comes to NOTIFY_SOCKET, or leave Type=notify out of the unit", "error", err)
	}
}

// send is daemon.SdNotify for a service manager that may not read: its queue is full
// then, and that of a datagram socket has no end to wait for.
func (n *notifier) send(message string) error {
	conn, err := net.DialUnix(n.socket.Net, nil, n.socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetWriteDeadline(time.Now().Add(toldWithin)); err != nil {
		return err
	}
	_, err = conn.Write([]byte(message))
	return err
}
