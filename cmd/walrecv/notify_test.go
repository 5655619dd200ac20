package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/receiver"
	"github.com/walrecv/walrecv/segment"
)

func newTestNotifier(t *testing.T) *notifier {
	t.Setenv("NOTIFY_SOCKET", t.TempDir()+"/nobody")
	return newNotifier(receiveConfig{}, slog.New(slog.DiscardHandler))
}

// A receiver that stands still gives no sign of life, one that waits does.
func TestSignsOfLife(t *testing.T) {
	began := time.Now()
	const late = stuckAfter + time.Second
	streaming := receiver.Progress{Streaming: true, LastMessage: began, Written: 8, Flushed: 8}
	with := func(change func(*receiver.Progress)) receiver.Progress {
		p := streaming
		change(&p)
		return p
	}
	for name, c := range map[string]struct {
		then receiver.Progress
		want bool
	}{
		"nothing comes any more, and the loop does not say so": {streaming, false},
		"an idle server is heard":                              {with(func(p *receiver.Progress) { p.LastMessage = began.Add(late) }), true},
		"no room for more":                                     {with(func(p *receiver.Progress) { p.PausedSince = began }), true},
		"no server":                                            {with(func(p *receiver.Progress) { p.Streaming, p.Written = false, 9 }), true},
		"what came is not synced": {with(func(p *receiver.Progress) {
			p.LastMessage, p.Written = began.Add(late), 9
		}), false},
		"what came is not synced, and there is no room": {with(func(p *receiver.Progress) {
			p.PausedSince, p.Written = began, 9
		}), false},
		"syncs move": {with(func(p *receiver.Progress) {
			p.LastMessage, p.Written, p.Flushed = began.Add(late), 10, 9
		}), true},
	} {
		n := newTestNotifier(t)
		if !n.moves(streaming, began) {
			t.Error("a receiver that has just begun does not move")
		}
		if got := n.moves(c.then, began.Add(late)); got != c.want {
			t.Errorf("%s: moves %v, want %v", name, got, c.want)
		}
	}
}

// A receiver that is not ready yet gives no sign of life: it would be the first thing
// that the service manager hears.
func TestReadyComesFirst(t *testing.T) {
	socket := &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unixgram"}
	manager, err := net.ListenUnixgram(socket.Net, socket)
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	n := &notifier{log: slog.New(slog.DiscardHandler), socket: socket, changed: make(chan struct{}, 1), watchdog: 3 * time.Millisecond}
	looked := make(chan struct{})
	stop := n.follow(t.Context(), func() receiver.Progress {
		select {
		case looked <- struct{}{}:
		default:
		}
		return receiver.Progress{}
	}, func() string { return "" })
	defer stop()
	for range 3 {
		<-looked // to give a sign of life
	}
	n.change()
	message := make([]byte, 4096)
	if got, err := manager.Read(message); err != nil || !strings.HasPrefix(string(message[:got]), daemon.SdNotifyReady) {
		t.Errorf("first it tells %q, %v", message[:got], err)
	}
}

// WAL may stay unsynced for as long as it was asked for.
func TestSignsOfLifeBetweenSyncs(t *testing.T) {
	n := newTestNotifier(t)
	n.setFlushInterval(time.Hour)
	began := time.Now()
	p := receiver.Progress{Streaming: true, LastMessage: began, Written: 9, Flushed: 8}
	n.moves(p, began)
	p.LastMessage = began.Add(59 * time.Minute)
	if !n.moves(p, p.LastMessage) {
		t.Error("what may wait for an hour to be synced is taken for a hang")
	}
}

// A status is one line, or it would be another message.
func TestStatusLine(t *testing.T) {
	at := receiver.Progress{Timeline: 2, Flushed: segment.LSN(0x3000060)}
	with := func(change func(*receiver.Progress)) receiver.Progress {
		p := at
		change(&p)
		return p
	}
	for want, p := range map[string]receiver.Progress{
		"connecting": {},
		"streaming: timeline 2, flushed up to 0/3000060": with(func(p *receiver.Progress) { p.Streaming = true }),
		"paused, the spool has reached --spool-max: timeline 2, flushed up to 0/3000060": with(func(p *receiver.Progress) {
			p.Streaming, p.PausedSince = true, time.Now()
		}),
		"waiting for the replication slot: in use": with(func(p *receiver.Progress) { p.ForSlot, p.Waiting = true, "in use" }),
		"not streaming, trying again: a; READY=1":  with(func(p *receiver.Progress) { p.Waiting = "a\nREADY=1" }),
	} {
		if got := statusLine(p, ""); got != want || strings.Contains(got, "\n") {
			t.Errorf("%q, want %q", got, want)
		}
	}
	streaming := with(func(p *receiver.Progress) { p.Streaming = true })
	if got, want := statusLine(streaming, "the store is down"), "streaming: timeline 2, flushed up to 0/3000060; not archiving: the store is down"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// Without a service manager nobody is told anything, and nothing runs for it.
func TestNobodyToNotify(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("WATCHDOG_USEC", "1000")
	n := newNotifier(receiveConfig{}, slog.New(slog.DiscardHandler))
	if n != nil {
		t.Fatal("there is a notifier without a socket")
	}
	n.change()
	n.follow(t.Context(), nil, nil)()
}

// A service manager that does not read holds up nothing, and hears that the receiver is
// ready as soon as it reads.
func TestNobodyReadsWhatIsNotified(t *testing.T) {
	t.Parallel()
	path := filepath.Join(pgtest.TempDir(t), "notify")
	names := []string{path}
	if runtime.GOOS == "linux" {
		names = append(names, "@"+path) // abstract
	}
	for _, name := range names {
		t.Run(name[:1], func(t *testing.T) {
			t.Parallel()
			nobodyReads(t, &net.UnixAddr{Name: name, Net: "unixgram"})
		})
	}
}

func nobodyReads(t *testing.T, socket *net.UnixAddr) {
	manager, err := net.ListenUnixgram(socket.Net, socket)
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	fill := func() {
		t.Helper()
		for err = nil; err == nil; {
			conn, failed := net.DialUnix(socket.Net, nil, socket)
			if failed != nil {
				t.Fatal(failed)
			}
			if err = conn.SetWriteDeadline(time.Now().Add(time.Second)); err == nil {
				_, err = conn.Write([]byte("STATUS=old"))
			}
			conn.Close() // each has a buffer of its own
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("a full queue: %v", err)
		}
	}
	n := &notifier{log: slog.New(slog.DiscardHandler), socket: socket, changed: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stop := n.follow(ctx, func() receiver.Progress { return receiver.Progress{} }, nothing{}.trouble)
	fill()
	n.change()
	pgtest.Eventually(t, time.Minute, n.failed.Load, "a message waits for ever")

	if err := manager.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 4096)
	for told := ""; !strings.HasPrefix(told, daemon.SdNotifyReady); {
		length, err := manager.Read(buffer)
		if err != nil {
			t.Fatalf("it is not told that the receiver is ready: %v", err)
		}
		told = string(buffer[:length])
	}

	fill()
	cancel()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		stop()
	}()
	select {
	case <-stopped:
	case <-time.After(time.Minute):
		t.Fatal("a stop waits for somebody to read")
	}
}
