package receiver_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/walrecv/walrecv/internal/fakepg"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/receiver"
	"github.com/walrecv/walrecv/segment"
)

// slack is by how much something that takes no time may be late, or a deadline
// that is not moved for every message be early.
const slack = time.Second

// quiet is a receiver and its server in virtual time, with a pipe between them.
type quiet struct {
	t      *testing.T
	server *fakepg.Server
	disk   *vfs.Mem
	spool  *segment.Spool
	recv   *receiver.Receiver
	logs   lockedBuffer
	stop   func()

	synchronous bool

	delay atomic.Int64 // how long a sync takes
	syncs atomic.Int64 // how many have begun
}

// inQuiet runs a test in virtual time, from when everything so far is flushed: once
// as it is, and once where commits wait for it.
func inQuiet(t *testing.T, c fakepg.Config, interval time.Duration, test func(q *quiet)) {
	t.Helper()
	inQuietSpool(t, c, interval, 0, test)
}

// inQuietSpool is inQuiet with a limit of the spool.
func inQuietSpool(t *testing.T, c fakepg.Config, interval time.Duration, limit int64, test func(q *quiet)) {
	t.Helper()
	o := receiver.Options{Slot: "archive", FlushInterval: 10 * time.Millisecond, StatusInterval: interval}
	t.Run("lazy", func(t *testing.T) { inQuietWith(t, c, o, limit, test) })
	o.Synchronous = true
	t.Run("synchronous", func(t *testing.T) { inQuietWith(t, c, o, limit, test) })
}

func inQuietWith(t *testing.T, c fakepg.Config, o receiver.Options, limit int64, test func(q *quiet)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c.Slots = map[string]fakepg.Slot{"archive": {RestartLSN: mib}}
		c.End = mib + 5000
		q := &quiet{t: t, synchronous: o.Synchronous, server: fakepg.New(c), disk: newDisk(t)}
		defer q.server.Close()
		log := slog.New(slog.NewTextHandler(&q.logs, nil))
		conn, err := receiver.ParseConnInfo(receiver.ConnOptions{
			Conninfo: "host=primary user=replicator sslmode=disable", Dial: q.server.Dial,
		})
		must(t, err)
		q.spool, err = segment.OpenSpool(q.disk, spoolDir, log, segment.SpoolOptions{Max: limit})
		must(t, err)
		defer q.spool.Close()
		o.Conn = conn
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		q.recv = receiver.New(o, &keeper{Spool: q.spool, wrap: q.slow}, log)
		go func() { done <- q.recv.Run(ctx) }()
		q.stop = sync.OnceFunc(func() {
			q.delay.Store(0)
			stop()
			if err := <-done; err != nil {
				t.Errorf("Run = %v", err)
			}
		})
		defer q.stop()
		q.within("the first flush", time.Minute, func(ctx context.Context) error { return q.server.WaitFlush(ctx, 1, c.End) })
		test(q)
		for _, s := range q.server.Statuses() {
			if s.Apply != 0 || s.Flush > s.Write {
				t.Errorf("status %+v", s)
			}
		}
		if t.Failed() {
			t.Logf("log of the receiver:\n%s", q.logs.String())
		}
	})
}

// slowSink takes its time to sync.
type slowSink struct {
	receiver.Sink
	q *quiet
}

func (q *quiet) slow(s receiver.Sink) receiver.Sink { return slowSink{s, q} }

func (s slowSink) Sync() (segment.LSN, error) {
	s.q.syncs.Add(1)
	time.Sleep(time.Duration(s.q.delay.Load()))
	return s.Sink.Sync()
}

// within waits for something and returns how long that took.
func (q *quiet) within(what string, limit time.Duration, wait func(context.Context) error) time.Duration {
	q.t.Helper()
	begin := time.Now()
	ctx, cancel := context.WithTimeout(q.t.Context(), limit)
	defer cancel()
	if err := wait(ctx); err != nil {
		q.t.Fatalf("%s: %v", what, err)
	}
	return time.Since(begin)
}

// status waits for the next status that is accepted, and returns how long that
// took.
func (q *quiet) status(what string, accept func(fakepg.Status) bool) time.Duration {
	q.t.Helper()
	n := len(q.server.Statuses())
	return q.within(what, time.Hour, func(ctx context.Context) error {
		seen := 0
		_, err := q.server.WaitStatus(ctx, func(s fakepg.Status) bool {
			seen++
			return seen > n && accept(s)
		})
		return err
	})
}

func (q *quiet) took(what string, d, want time.Duration) {
	q.t.Helper()
	if d < want-slack || d > want+slack {
		q.t.Errorf("%s after %v, want %v", what, d, want)
	}
}

// A server that goes silent is asked for a sign of life after 30 s, and given up
// after 60 s.
func TestServerGoesSilent(t *testing.T) {
	for _, interval := range []time.Duration{0, 10 * time.Second, time.Hour} {
		t.Run(interval.String(), func(t *testing.T) {
			inQuiet(t, fakepg.Config{}, interval, func(q *quiet) {
				q.server.Inject(0, fakepg.Silence())
				end := q.server.Append(1000) // is never sent
				begin := time.Now()
				q.took("the question", q.status("a question", func(s fakepg.Status) bool { return s.ReplyRequested }), 30*time.Second)
				q.within("another connection", time.Hour, func(ctx context.Context) error { return q.server.WaitConnections(ctx, 2) })
				q.took("the end of the connection", time.Since(begin), 60*time.Second)
				if !strings.Contains(q.logs.String(), "nothing was heard from the server for 1m0s") {
					t.Error("the log does not tell of the silence")
				}
				q.within("the rest", time.Minute, func(ctx context.Context) error { return q.server.WaitFlush(ctx, 1, end) })
			})
		})
	}
}

// A server that has nothing to say, but answers, is asked every 30 s and kept.
func TestIdleServerIsKept(t *testing.T) {
	inQuiet(t, fakepg.Config{}, 10*time.Second, func(q *quiet) {
		before := len(q.server.Statuses())
		time.Sleep(10 * time.Minute)
		asked, all := 0, 0
		for _, s := range q.server.Statuses()[before:] {
			all++
			if s.ReplyRequested {
				asked++
			}
		}
		if asked < 18 || asked > 21 {
			t.Errorf("asked %d times in 10 minutes", asked)
		}
		if all < 58 || all > 62+asked {
			t.Errorf("%d statuses in 10 minutes, one every 10 s is due", all)
		}
		if n := q.server.Connections(); n != 1 {
			t.Errorf("%d connections", n)
		}
	})
}

// A reply that the server asks for while something is being synced waits for
// that, so that it is exact; but not longer than 10 s. Where commits wait, who would
// hear the server syncs, so it is told of us all the time instead. However long it
// takes, the exact one follows.
func TestReplyDuringASlowSync(t *testing.T) {
	const patience = 10 * time.Second
	for _, interval := range []time.Duration{0, 7 * time.Second, time.Hour} {
		for _, sync := range []time.Duration{3 * time.Second, 9 * time.Second, 45 * time.Second, 5 * time.Minute} {
			// In no fixed relation to whatever goes on at intervals.
			for _, idle := range []time.Duration{0, 1500 * time.Millisecond, 9900 * time.Millisecond} {
				t.Run(fmt.Sprintf("%v/%v/%v", interval, sync, idle), func(t *testing.T) {
					inQuiet(t, fakepg.Config{SenderTimeout: time.Minute}, interval, func(q *quiet) {
						time.Sleep(idle)
						replyDuringASlowSync(q, interval, sync, patience)
					})
				})
			}
		}
	}
}

func replyDuringASlowSync(q *quiet, interval, sync, patience time.Duration) {
	q.delay.Store(int64(sync))
	syncs := q.syncs.Load()
	end := q.server.Append(1000)
	for q.syncs.Load() == syncs {
		time.Sleep(time.Millisecond)
	}
	begin, before := time.Now(), len(q.server.Statuses())
	q.server.Keepalive(true)
	first := q.status("a reply", func(fakepg.Status) bool { return true })
	want := min(sync, patience)
	if q.synchronous {
		want = 0
	}
	if interval > 0 && interval < want {
		if first > want+slack {
			q.t.Errorf("the first status after %v, want it within %v", first, want)
		}
	} else {
		q.took("the reply", first, want)
	}
	if q.synchronous {
		for time.Since(begin) < sync-slack {
			if gap := q.status("a sign of life", func(fakepg.Status) bool { return true }); gap > slack/2 {
				q.t.Errorf("silent for %v: a server with a wal_sender_timeout of 1 s gave us up", gap)
			}
		}
	}
	q.within("the exact status", time.Hour, func(ctx context.Context) error { return q.server.WaitFlush(ctx, 1, end) })
	if q.synchronous && slices.ContainsFunc(q.server.Statuses()[before:], func(s fakepg.Status) bool { return s.ReplyRequested }) {
		q.t.Error("a server that nobody listened to was asked for a sign of life")
	}
	q.took("the exact status", time.Since(begin), sync)
	for _, s := range q.server.Statuses() {
		if s.Flush > end {
			q.t.Errorf("status %+v", s)
		}
	}
	if n := q.server.Connections(); n != 1 {
		q.t.Errorf("%d connections: the server gave one up", n)
	}
}
