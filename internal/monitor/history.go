package monitor

import (
	"slices"
	"time"

	"github.com/walrecv/walrecv/segment"
)

// history remembers when the server passed which position. It is as exact as
// it is looked at often; of what is long ago it keeps less, so that it stays
// small however far behind somebody is.
type history struct {
	samples []sample // ascending in both
}

type sample struct {
	at   segment.LSN
	when time.Time // it was seen there first
}

const (
	// maxSamples bounds a history: see thin.
	maxSamples = 4096

	// precision is the share of a sample's age, as 1/precision, that thinning
	// may take from a lag.
	precision = 64
)

// add notes where the server is now. A position that goes back is one on another
// branch: what was noted beyond it never happened there.
func (h *history) add(at segment.LSN, now time.Time) {
	if at == 0 {
		return
	}
	beyond, _ := slices.BinarySearchFunc(h.samples, at, func(s sample, at segment.LSN) int {
		if s.at <= at {
			return -1
		}
		return 1
	})
	h.samples = h.samples[:beyond]
	if n := len(h.samples); n > 0 && h.samples[n-1].at == at {
		return
	}
	h.samples = append(h.samples, sample{at, now})
	if len(h.samples) > maxSamples {
		h.thin(now)
	}
}

// since is how long ago the server passed a position, 0 if it has not.
func (h *history) since(at segment.LSN, now time.Time) time.Duration {
	for _, s := range h.samples {
		if s.at > at {
			return now.Sub(s.when)
		}
	}
	return 0
}

// forget drops what nobody will ask for: whatever is not beyond a position.
func (h *history) forget(at segment.LSN) {
	n := 0
	for n < len(h.samples) && h.samples[n].at <= at {
		n++
	}
	h.samples = slices.Delete(h.samples, 0, n)
}

// thin drops samples whose neighbours are close together for their age. What
// remains grows with the logarithm of the age: less than 2000 for ten years of
// one sample a second.
func (h *history) thin(now time.Time) {
	kept := h.samples[:1]
	for i := 1; i < len(h.samples)-1; i++ {
		s, next := h.samples[i], h.samples[i+1]
		if next.when.Sub(kept[len(kept)-1].when) > now.Sub(s.when)/precision {
			kept = append(kept, s)
		}
	}
	h.samples = append(kept, h.samples[len(h.samples)-1])
}
