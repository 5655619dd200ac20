package monitor

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestHour streams, is away, and goes on for longer than an hour.
func TestHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := newMonitor(true, State{Streaming: true, LastMessage: time.Now(), Server: 1000, Received: 1000, Written: 1000, Flushed: 1000, WALBytes: 500})
		watch(t, m)
		time.Sleep(hourStep - time.Second/2)
		if h := m.Hour(); len(h.WALBytes) != 0 || len(h.Streaming) != 0 {
			t.Errorf("before anything is over: %+v", h)
		}
		f.set(func(s *State) { s.WALBytes += 100 }) // seen in the second step
		time.Sleep(hourStep)
		f.set(func(s *State) { s.Streaming = false })
		time.Sleep(2 * hourStep)
		f.set(func(s *State) {
			s.Streaming, s.WALBytes, s.Server, s.LastMessage = true, s.WALBytes+1000, 2000, time.Now()
		})
		time.Sleep(hourStep)
		h := m.Hour()
		text, err := json.Marshal(h)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range []string{
			`"step_seconds":10,"wal_bytes":[0,100,0,0]`, `"streaming":[true,true,false,false]`,
			`"lag_seconds":{"archived":[null,null,null,null],"flushed":[0,`,
		} {
			if !strings.Contains(string(text), part) {
				t.Errorf("%s is missing in %s", part, text)
			}
		}
		if lags := h.LagSeconds[stageFlushed]; lags[1] != 0 || lags[2] < 10 || lags[3] < 20 {
			t.Errorf("lags while it is away: %v", lags)
		}
		if !h.End.Equal(m.began.Add(4 * hourStep)) {
			t.Errorf("ends at %v", h.End)
		}
		time.Sleep(2 * time.Hour)
		h = m.Hour()
		if len(h.WALBytes) != hourSteps-1 || len(h.Streaming) != hourSteps-1 || len(h.LagSeconds[stageFlushed]) != hourSteps-1 {
			t.Errorf("%d steps", len(h.WALBytes))
		}
		if lags := h.LagSeconds[stageFlushed]; !h.Streaming[0] || h.WALBytes[0] != 0 || lags[0] < 3000 {
			t.Errorf("begins with %v, %v, %v", h.Streaming[0], h.WALBytes[0], lags[0])
		}
	})
}

// TestHourThatWasNotLookedAt: a process that was stopped knows nothing of that time.
func TestHourThatWasNotLookedAt(t *testing.T) {
	var h hour
	s := State{Streaming: true, WALBytes: 7}
	lags := []lag{{stage: stageFlushed, seconds: 3}, {stage: stageArchived, seconds: 4}}
	h.add(100*hourStep, s, lags)
	s.WALBytes = 17
	h.add(100*hourStep+5*time.Second, s, nil)
	h.add(110*hourStep, s, lags)
	if first := h.step(100); first.wal != 10 || first.flushed != 3 || first.archived != 4 || first.streaming != 2 {
		t.Errorf("%+v", first)
	}
	if middle := h.step(105); middle.flushed == middle.flushed || middle.streaming > 0 {
		t.Errorf("%+v", middle)
	}
	if h.first != 100 || h.now != 110 {
		t.Errorf("from %d to %d", h.first, h.now)
	}
}
