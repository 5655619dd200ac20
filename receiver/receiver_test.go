package receiver_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/fakepg"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/receiver"
	"github.com/walrecv/walrecv/segment"
)

const (
	mib      = 1 << 20
	spoolDir = "/spool"
	patience = 20 * time.Second // for what takes milliseconds
)

// keeper keeps WAL in a spool on a disk in memory.
type keeper struct {
	*segment.Spool
	unsure *atomic.Bool // an archive does not answer; nil: it does
	wrap   func(receiver.Sink) receiver.Sink
	looks  *atomic.Int64 // calls of Held; nil: not counted
}

func (k *keeper) Identify(_ context.Context, c segment.Cluster) error {
	if err := k.Spool.Identify(c); err != nil {
		return err
	}
	return k.Prepare()
}

func (k *keeper) Held(context.Context) (segment.Held, error) {
	if k.looks != nil {
		k.looks.Add(1)
	}
	held, err := k.Spool.Held()
	held.Unsure = k.unsure != nil && k.unsure.Load()
	return held, err
}

func (k *keeper) Open(at segment.Position) (receiver.Sink, error) {
	w, err := k.NewWriter(at)
	if err != nil || k.wrap == nil {
		return w, err
	}
	return k.wrap(w), nil
}

// rig is a fake server, a disk, and a receiver between them.
type rig struct {
	t      *testing.T
	server *fakepg.Server
	addr   string
	others []string // addresses to try after addr
	fsys   vfs.FS
	o      receiver.Options
	wrap   func(receiver.Sink) receiver.Sink
	logs   lockedBuffer
	unsure atomic.Bool
	looks  atomic.Int64

	recv *receiver.Receiver // that was started last
	stop context.CancelFunc
	done chan error
}

// lockedBuffer is a log that a test can read meanwhile.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newDisk(t *testing.T) *vfs.Mem {
	t.Helper()
	disk := vfs.NewMem()
	must(t, disk.Mkdir(spoolDir, 0o700))
	must(t, disk.SyncDir("/"))
	return disk
}

func newRig(t *testing.T, c fakepg.Config) *rig {
	t.Helper()
	slot := ""
	if c.Slots == nil {
		slot = "archive"
		c.Slots = map[string]fakepg.Slot{slot: {RestartLSN: max(c.Begin, mib)}}
	}
	s := fakepg.New(c)
	t.Cleanup(s.Close)
	addr, err := s.Listen()
	must(t, err)
	r := &rig{t: t, server: s, addr: addr, fsys: newDisk(t)}
	r.o = receiver.Options{Slot: slot, FlushInterval: 20 * time.Millisecond, StatusInterval: 10 * time.Second}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of the receiver:\n%s", r.logs.String())
		}
	})
	return r
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (r *rig) conn() *receiver.ConnConfig {
	r.t.Helper()
	host, port, err := net.SplitHostPort(r.addr)
	must(r.t, err)
	for _, other := range r.others {
		h, p, err := net.SplitHostPort(other)
		must(r.t, err)
		host, port = host+","+h, port+","+p
	}
	c, err := receiver.ParseConnInfo(receiver.ConnOptions{
		Conninfo: fmt.Sprintf("host=%s port=%s user=replicator sslmode=disable", host, port),
		Getenv:   func(string) string { return "" },
	})
	must(r.t, err)
	return c
}

// start runs a receiver in the background.
func (r *rig) start() {
	r.t.Helper()
	must(r.t, r.tryStart())
}

// tryStart fails where the spool cannot be opened.
func (r *rig) tryStart() error {
	r.t.Helper()
	log := slog.New(slog.NewTextHandler(&r.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	spool, err := segment.OpenSpool(r.fsys, spoolDir, log, segment.SpoolOptions{})
	if err != nil {
		return err
	}
	r.o.Conn = r.conn()
	ctx, cancel := context.WithCancel(context.Background())
	r.stop, r.done = cancel, make(chan error, 1)
	r.recv = receiver.New(r.o, &keeper{Spool: spool, unsure: &r.unsure, wrap: r.wrap, looks: &r.looks}, log)
	go func(recv *receiver.Receiver, done chan<- error) {
		err := recv.Run(ctx)
		done <- errors.Join(err, spool.Close())
	}(r.recv, r.done)
	r.t.Cleanup(cancel)
	return nil
}

// wait waits for the end of the receiver.
func (r *rig) wait() error {
	r.t.Helper()
	select {
	case err := <-r.done:
		return err
	case <-time.After(patience):
		r.t.Fatal("the receiver did not end")
		return nil
	}
}

func (r *rig) halt() {
	r.t.Helper()
	r.stop()
	must(r.t, r.wait())
}

func (r *rig) flushed(tli uint32, lsn uint64) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := r.server.WaitFlush(ctx, tli, lsn); err != nil {
		r.t.Fatalf("waiting for a flush of %s on timeline %d: %v", segment.LSN(lsn), tli, err)
	}
}

// compare compares the spool with the server's WAL of one timeline.
func (r *rig) compare(tli segment.TimelineID, from, to segment.LSN) {
	r.t.Helper()
	const size = segment.Size(mib)
	for at := from; at < to; {
		name := segment.Name{Timeline: tli, Number: size.Number(at)}
		base := name.Format(size)
		end := min(to, name.End(size))
		data, err := vfs.ReadFile(r.fsys, path.Join(spoolDir, base))
		if err != nil {
			data, err = vfs.ReadFile(r.fsys, path.Join(spoolDir, base+".partial"))
		}
		must(r.t, err)
		want := make([]byte, end-at)
		r.server.ReadWAL(uint32(tli), uint64(at), want)
		if off := size.Offset(at); !bytes.Equal(data[off:off+int64(len(want))], want) {
			r.t.Errorf("%s differs from the server's WAL", base)
		}
		at = end
	}
}

// sound checks what every status of every test must keep to.
func (r *rig) sound() {
	r.t.Helper()
	for _, s := range r.server.Statuses() {
		if s.Apply != 0 || s.Flush > s.Write {
			r.t.Errorf("status %+v", s)
		}
	}
	for _, p := range r.server.Problems() {
		r.t.Error(p)
	}
}

func (r *rig) spooled() string {
	r.t.Helper()
	entries, err := r.fsys.ReadDir(spoolDir)
	must(r.t, err)
	var names []string
	for _, e := range entries {
		if e.Name != "walrecv.json" {
			names = append(names, e.Name)
		}
	}
	return strings.Join(names, " ")
}

func TestStreamsEverything(t *testing.T) {
	for _, synchronous := range []bool{false, true} {
		r := newRig(t, fakepg.Config{End: 4*mib + 12345})
		r.o.Synchronous = synchronous
		r.start()
		r.flushed(1, 4*mib+12345)
		end := r.server.Append(100)
		r.flushed(1, end)
		r.halt()
		r.compare(1, mib, segment.LSN(end))
		r.sound()
		if got := r.spooled(); got != "000000010000000000000001 000000010000000000000002 000000010000000000000003 000000010000000000000004.partial" {
			t.Errorf("spool: %s", got)
		}
	}
}

// The first status comes at once, and says nothing that was not received.
func TestFirstStatus(t *testing.T) {
	r := newRig(t, fakepg.Config{End: 2*mib + 100})
	r.start()
	r.flushed(1, 2*mib+100)
	r.halt()
	first := r.server.Statuses()[0]
	if first.Write < mib || first.Write > 2*mib+100 || first.Flush > first.Write {
		t.Errorf("first status: %+v", first)
	}
	last := r.server.Statuses()[len(r.server.Statuses())-1]
	if last.Write != 2*mib+100 || last.Flush != 2*mib+100 {
		t.Errorf("last status: %+v", last)
	}
}

// Before the server has sent anything it may still say that the WAL is gone. A
// flush position would revive a slot that it has invalidated for that.
func TestFirstStatusLeavesTheSlotAlone(t *testing.T) {
	r := newRig(t, fakepg.Config{End: mib})
	r.start()
	r.flushed(1, mib) // once it has answered
	r.halt()
	if first := r.server.Statuses()[0]; first.Write != mib || first.Flush != 0 {
		t.Errorf("first status: %+v", first)
	}
}

// A server that shuts down wants its last byte flushed, exactly.
func TestServerShutdown(t *testing.T) {
	for _, synchronous := range []bool{false, true} {
		r := newRig(t, fakepg.Config{End: 2*mib + 777})
		r.o.Synchronous, r.o.FlushInterval, r.o.StatusInterval = synchronous, time.Hour, 0
		r.start()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		must(t, r.server.WaitStreaming(ctx, 1, 2*mib+777))
		must(t, r.server.Shutdown(ctx))
		r.server.Restart()
		end := r.server.Append(5000)
		eventually(t, func() bool {
			r.server.Keepalive(true) // without it nothing is flushed for an hour
			return slices.ContainsFunc(r.server.Statuses(), func(s fakepg.Status) bool { return s.Flush == end })
		})
		r.halt()
		r.compare(1, mib, segment.LSN(end))
		r.sound()
	}
}

// Whatever a bad connection does to the stream, what is kept is the server's.
func TestBadConnections(t *testing.T) {
	release := make(chan struct{})
	close(release)
	faults := map[string]fakepg.Fault{
		"cut":          fakepg.Cut(),
		"cut inside":   fakepg.CutInside(1000),
		"cut in head":  fakepg.CutInside(7),
		"stall":        fakepg.StallInside(2000, release),
		"shifted":      fakepg.Shift(8192),
		"shifted back": fakepg.Shift(-8192),
		"repeated":     fakepg.Repeat(),
		"skipped":      fakepg.Skip(),
		"no CopyDone":  fakepg.EndWithoutCopyDone(),
		"error":        fakepg.Fail(fakepg.Error{Code: "57P01", Message: "terminating connection due to administrator command"}),
		"empty":        fakepg.Raw([]byte{'d', 0, 0, 0, 4}),
		"unknown":      fakepg.Raw([]byte{'d', 0, 0, 0, 5, '?'}),
		"short":        fakepg.Raw([]byte{'d', 0, 0, 0, 6, 'w', 1}),
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, fakepg.Config{End: 4*mib + 12345})
			for _, after := range []uint64{0, 100_000, mib + 3, 700_000} {
				r.server.Inject(after, fault)
			}
			r.start()
			r.flushed(1, 4*mib+12345)
			if n := r.server.FaultsHit(); n == 0 {
				t.Error("no fault happened")
			}
			r.halt()
			r.compare(1, mib, 4*mib+12345)
			r.sound()
		})
	}
}
