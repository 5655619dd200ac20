package receiver_test

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/fakepg"
	"github.com/walrecv/walrecv/segment"
)

// takeOver is how long a receiver may take to go on with a slot that is free.
func takeOver() time.Duration {
	if os.Getenv("WALRECV_TEST_LONG") != "" {
		return 3 * time.Second
	}
	return 15 * time.Second
}

// slotTable answers what a receiver asks pg_replication_slots, as far as it
// matters to it.
func slotTable(t *testing.T, server **fakepg.Server) func(c *fakepg.Conn, command string) (bool, error) {
	return func(c *fakepg.Conn, command string) (bool, error) {
		if !strings.HasPrefix(command, "SELECT") {
			return false, nil
		}
		if !strings.HasSuffix(command, "s.slot_name = 'archive'") {
			t.Errorf("unexpected query %s", command)
		}
		slot, there := (*server).Slot("archive")
		columns := make([]string, 12)
		row := make([]*string, len(columns))
		row[0], row[1], row[2] = fakepg.Text("physical"), fakepg.Text("%s", fakepg.FormatLSN(slot.RestartLSN)), fakepg.Text("reserved")
		if slot.Active() {
			row[4], row[5], row[6] = fakepg.Text("4711"), fakepg.Text("walrecv"), fakepg.Text("192.0.2.7")
			row[7], row[8], row[9] = fakepg.Text("streaming"), fakepg.Text("0/200000"), fakepg.Text("1766000000.25")
		}
		rows := [][]*string{row}
		if !there {
			rows = nil
		}
		if err := c.Rows(columns, rows...); err != nil {
			return true, err
		}
		return true, c.Complete("SELECT 1")
	}
}

// A receiver whose slot is in use waits for it: it is the second one of a pair.
// It tells of it once, and looks at what is held again only when the slot is free.
func TestWaitsForItsSlot(t *testing.T) {
	for name, hba := range map[string]func(*fakepg.Conn, map[string]string) *fakepg.Error{
		"asking by SQL": nil,
		"let in for replication only": func(_ *fakepg.Conn, parameters map[string]string) *fakepg.Error {
			if parameters["replication"] == "" {
				return &fakepg.Error{Code: "28000", Message: "no pg_hba.conf entry"}
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var server *fakepg.Server
			first := newRig(t, fakepg.Config{End: 2 * mib, Startup: hba, Command: slotTable(t, &server)})
			server = first.server
			first.fill(2 * mib)
			first.start()
			eventually(t, func() bool { return first.recv.Progress().Streaming })
			second := &rig{t: t, server: server, addr: first.addr, fsys: newDisk(t), o: first.o}
			second.start()
			asks := func(command string) bool {
				return strings.HasPrefix(command, "SELECT") || strings.HasSuffix(command, "TIMELINE 4294967295")
			}
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			must(t, server.WaitCommand(ctx, 3, asks))
			if p := second.recv.Progress(); !p.ForSlot || !strings.Contains(p.Waiting, "active for PID") {
				t.Errorf("progress: %+v", p)
			}
			if n := second.looks.Load(); n != 1 {
				t.Errorf("%d looks at what is held while the slot is in use", n)
			}
			end := server.Append(3 * mib)
			first.flushed(1, end)
			first.halt()
			begin := time.Now()
			eventually(t, func() bool { p := second.recv.Progress(); return p.Streaming && !p.ForSlot && p.Waiting == "" })
			if took := time.Since(begin); took > takeOver() {
				t.Errorf("it took over after %v", took)
			}
			if n := second.looks.Load(); n != 2 {
				t.Errorf("%d looks at what is held, want one more before it streams", n)
			}
			second.flushed(1, server.Append(100))
			second.halt()
			second.compare(1, segment.LSN(end)/mib*mib, segment.LSN(end)+100)
			second.sound()
			log := second.logs.String()
			if n := strings.Count(log, "level=WARN msg=\"the replication slot is in use"); n != 1 {
				t.Errorf("%d warnings that it waits: %s", n, log)
			}
			if hba == nil && !strings.Contains(log, "pid=4711 application=walrecv address=192.0.2.7 since=2025-12-17T19:33:20Z") {
				t.Errorf("not said who has the slot: %s", log)
			}
		})
	}
}

// A slot that goes away while it is waited for, and a server that goes away, are
// what they are at any other time.
func TestWaitingForASlotEnds(t *testing.T) {
	var server *fakepg.Server
	first := newRig(t, fakepg.Config{End: 2 * mib, Command: slotTable(t, &server)})
	server = first.server
	first.start()
	first.flushed(1, 2*mib)
	second := &rig{t: t, server: server, addr: first.addr, fsys: newDisk(t), o: first.o}
	second.start()
	waits := func() bool { return second.recv.Progress().ForSlot }
	eventually(t, waits)
	server.CutAll()
	eventually(t, func() bool { // either of them has it now
		one, other := first.recv.Progress(), second.recv.Progress()
		return one.Streaming && other.ForSlot || other.Streaming && one.ForSlot
	})
	first.halt()
	eventually(t, func() bool { return second.recv.Progress().Streaming })
	second.halt()

	// Stopped while it waits.
	first.start()
	eventually(t, func() bool { return first.recv.Progress().Streaming })
	second.start()
	eventually(t, waits)
	second.halt()
	// With --no-loop it does not wait.
	second.o.NoLoop = true
	second.start()
	if err := second.wait(); err == nil || !strings.Contains(err.Error(), "55006") {
		t.Errorf("with --no-loop: %v", err)
	}
	first.halt()
}
