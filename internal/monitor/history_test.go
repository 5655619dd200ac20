package monitor

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/walrecv/walrecv/segment"
)

var epoch = time.Unix(1700000000, 0)

func TestHistory(t *testing.T) {
	var h history
	at := func(s int) time.Time { return epoch.Add(time.Duration(s) * time.Second) }
	if got := h.since(5, at(0)); got != 0 {
		t.Errorf("without samples: %v", got)
	}
	h.add(0, at(0)) // not known
	h.add(100, at(10))
	h.add(100, at(20)) // first seen at 10
	h.add(200, at(30))
	h.add(300, at(40))
	for _, c := range []struct {
		pos  segment.LSN
		want int
	}{{50, 40}, {99, 40}, {100, 20}, {150, 20}, {200, 10}, {299, 10}, {300, 0}, {400, 0}} {
		if got := h.since(c.pos, at(50)); got != time.Duration(c.want)*time.Second {
			t.Errorf("since %d: %v, want %ds", c.pos, got, c.want)
		}
	}
	h.forget(150)
	if got := h.since(50, at(50)); got != 20*time.Second || len(h.samples) != 2 {
		t.Errorf("after forgetting: %v, %d samples", got, len(h.samples))
	}
	h.add(250, at(60)) // another branch: 300 was never passed on it
	if got := h.since(250, at(70)); got != 0 {
		t.Errorf("on the new branch: %v", got)
	}
	if got := h.since(200, at(70)); got != 10*time.Second {
		t.Errorf("before the end of the new branch: %v", got)
	}
	h.forget(250)
	h.add(250, at(80))
	if got := h.since(240, at(80)); got != 0 {
		t.Errorf("after all was forgotten: %v", got)
	}
}

// TestHistoryIsBounded looks once a second for ten days, with nothing ever
// forgotten: the history stays small, and no lag is off by more than its
// precision.
func TestHistoryIsBounded(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	const seconds = 10 * 24 * 3600
	var h history
	positions := make([]segment.LSN, seconds) // at every second
	pos := segment.LSN(1)
	for s := range positions {
		pos += segment.LSN(r.IntN(3) * r.IntN(1<<20)) // sometimes nothing
		positions[s] = pos
		h.add(pos, epoch.Add(time.Duration(s)*time.Second))
		if len(h.samples) > maxSamples {
			t.Fatalf("%d samples", len(h.samples))
		}
	}
	now := epoch.Add((seconds - 1) * time.Second)
	for range 10_000 {
		s := r.IntN(seconds - 1)
		if positions[s] == positions[s+1] {
			continue
		}
		exact := now.Sub(epoch.Add(time.Duration(s+1) * time.Second)) // the server passed positions[s] then
		got := h.since(positions[s], now)
		if got > exact || exact-got > 2*exact/precision+time.Second {
			t.Fatalf("a lag of %v is given as %v", exact, got)
		}
	}
	t.Logf("%d samples", len(h.samples))
}
