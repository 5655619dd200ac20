package receiver_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/walrecv/walrecv/internal/fakepg"
	"github.com/walrecv/walrecv/receiver"
)

// heardOfSlot is what a watch of a slot has told last.
type heardOfSlot struct {
	mu    sync.Mutex
	state receiver.SlotState
	err   error
	times int
}

func (h *heardOfSlot) hear(s receiver.SlotState, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.state, h.err = s, err
	h.times++
}

func (h *heardOfSlot) last() (receiver.SlotState, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.state, h.err
}

func (h *heardOfSlot) often() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.times
}

// The slot is asked for when streaming begins and ends, on a new connection each time
// there is a new stream. That the server does not let the watch in is said once.
func TestWatchSlot(t *testing.T) {
	var server *fakepg.Server
	var refused, away atomic.Bool
	hba := func(_ *fakepg.Conn, parameters map[string]string) *fakepg.Error {
		if replication := parameters["replication"] != ""; !replication && refused.Load() || replication && away.Load() {
			return &fakepg.Error{Code: "28000", Message: "no pg_hba.conf entry"}
		}
		return nil
	}
	r := newRig(t, fakepg.Config{End: 2 * mib, Startup: hba, Command: slotTable(t, &server)})
	server = r.server
	r.start()
	var heard heardOfSlot
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); r.recv.WatchSlot(ctx, heard.hear) }()

	known := func() bool {
		state, err := heard.last()
		return err == nil && state.WALStatus == "reserved" && state.User.Application == "walrecv"
	}
	eventually(t, known)

	// Its connection breaks with the stream.
	often := heard.often()
	away.Store(true)
	server.CutAll()
	eventually(t, func() bool { return heard.often() > often })
	if _, err := heard.last(); err != nil {
		t.Errorf("the stream has ended, and the slot is not known: %v", err)
	}
	away.Store(false)
	eventually(t, func() bool { return r.recv.Progress().Streaming })

	refused.Store(true)
	for range 2 {
		server.CutAll()
		eventually(t, func() bool { _, err := heard.last(); return err != nil && r.recv.Progress().Streaming })
	}
	refused.Store(false)
	server.CutAll()
	eventually(t, known)
	stop()
	<-done
	r.halt()
	log := r.logs.String()
	for _, line := range []string{`level=WARN msg="the state of the replication slot is not known`, `level=INFO msg="the state of the replication slot is known again`} {
		if n := strings.Count(log, line); n != 1 {
			t.Errorf("%d times %s in the log: %s", n, line, log)
		}
	}
}
