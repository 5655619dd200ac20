package monitor

import (
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func expectReady(t *testing.T, m *Monitor, want bool, wantText string) {
	t.Helper()
	if r := m.Ready(); r.Ready != want || r.Text() != wantText {
		t.Errorf("ready: %v %q, want %v %q", r.Ready, r.Text(), want, wantText)
	}
}

func TestReadyStreaming(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := newMonitor(false, State{})
		watch(t, m)
		expectReady(t, m, false, "not ready: not streaming yet, for 0s")
		f.set(func(s *State) { s.Waiting = "connection refused" })
		time.Sleep(2500 * time.Millisecond)
		expectReady(t, m, false, "not ready: not streaming yet, for 2.5s")

		f.set(func(s *State) { *s = State{Streaming: true, Server: 100, Flushed: 100, Written: 100} })
		expectReady(t, m, true, "ready: streaming")
		time.Sleep(time.Second)
		f.set(func(s *State) { s.Streaming, s.Waiting = false, "connection refused" })
		time.Sleep(time.Minute - interval/2) // it was seen streaming half a second ago
		expectReady(t, m, true, "ready: not streaming for 1m0s")
		time.Sleep(time.Second)
		expectReady(t, m, false, "not ready: not streaming for 1m1s")

		f.set(func(s *State) { s.ForSlot, s.Waiting = true, `the slot "walrecv" is in use` })
		expectReady(t, m, true, "ready: waiting for its replication slot")
		time.Sleep(time.Hour + interval/2)
		expectReady(t, m, true, "ready: waiting for its replication slot")

		f.set(func(s *State) { *s = State{Streaming: true, Server: 900, Flushed: 100, Written: 100} })
		time.Sleep(time.Minute)
		expectReady(t, m, true, "ready: streaming")
		time.Sleep(2 * time.Second)
		expectReady(t, m, false, "not ready: streaming, 1m2s behind the server")
		f.set(func(s *State) { s.PausedSince = time.Now() })
		time.Sleep(1500 * time.Millisecond)
		expectReady(t, m, false, "not ready: paused for 1.5s, 1m3s behind the server: the spool has reached --spool-max")
		m.SetReadyLag(2 * time.Minute)
		expectReady(t, m, true, "ready: paused for 1.5s, 1m3s behind the server: the spool has reached --spool-max")
		m.SetReadyLag(time.Minute)
		f.set(func(s *State) { s.Flushed = 900 })
		expectReady(t, m, true, "ready: paused for 1.5s, 0s behind the server: the spool has reached --spool-max")
		f.set(func(s *State) { s.PausedSince = time.Time{} })
		expectReady(t, m, true, "ready: streaming")
	})
}

func TestReadyArchiving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := newMonitor(true, State{Waiting: "connection refused"})
		watch(t, m)
		time.Sleep(2 * time.Minute)
		expectReady(t, m, false, "not ready: not streaming yet, for 2m0s") // for which cluster is not known
		if waits := m.Ready().OldestUnarchived; waits != nil {
			t.Errorf("the oldest waits for %v s, and there is none", *waits)
		}
		f.set(func(s *State) { *s = State{Streaming: true, ArchiveAsked: time.Now()} })
		expectReady(t, m, true, "ready: streaming\nthe archive was not reached yet, for 0s")
		time.Sleep(61 * time.Second)
		expectReady(t, m, false, "not ready: streaming\nthe archive was not reached yet, for 1m1s")
		f.set(func(s *State) { s.ArchiveReached = true })
		expectReady(t, m, true, "ready: streaming")
		f.set(func(s *State) { s.OldestUnarchived = time.Now() })
		time.Sleep(time.Minute)
		expectReady(t, m, true, "ready: streaming\narchiving is 1m0s behind")
		time.Sleep(time.Second)
		expectReady(t, m, false, "not ready: streaming\narchiving is 1m1s behind")
		f.set(func(s *State) { s.Streaming, s.ForSlot = false, true })
		expectReady(t, m, false, "not ready: waiting for its replication slot\narchiving is 1m1s behind")
	})
}

func TestReadyJSON(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _ := newMonitor(true, State{
			Streaming: true, ArchiveReached: true, Server: 300, Received: 300, Written: 300, Flushed: 200, Archived: 100,
			OldestUnarchived: time.Now(),
		})
		watch(t, m)
		time.Sleep(1500 * time.Millisecond)
		text, err := json.Marshal(m.Ready())
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[string]any{
			"ready": true, "streaming": true, "oldest_unarchived_seconds": 1.5,
			"lag_seconds": map[string]any{"received": 0., "written": 0., "flushed": 1.5, "archived": 1.5},
			"status":      []any{"streaming", "archiving is 1.5s behind"},
		}, got); diff != "" {
			t.Error(diff)
		}
	})
}
