package monitor

import (
	"encoding/json"
	"math"
	"time"
)

const (
	hourStep  = 10 * time.Second
	hourSteps = int(time.Hour / hourStep)
)

// Hour is how the last hour went, in steps that are over, oldest first.
type Hour struct {
	End         time.Time `json:"end"` // of the last step
	StepSeconds float64   `json:"step_seconds"`

	WALBytes   []uint64            `json:"wal_bytes"`   // that were received in a step
	Streaming  []bool              `json:"streaming"`   // for most of it
	LagSeconds map[string][]figure `json:"lag_seconds"` // by stage, the largest in a step
}

// figure is a number that need not be known.
type figure float64

// unknown is a figure that is not known; JSON has null for it.
var unknown = figure(math.NaN())

// MarshalJSON implements json.Marshaler.
func (f figure) MarshalJSON() ([]byte, error) {
	if f != f {
		return []byte("null"), nil
	}
	return json.Marshal(math.Round(float64(f)*1000) / 1000)
}

// hour collects an Hour. However long it runs, it takes the same room.
type hour struct {
	steps [hourSteps]step
	first int64  // number of the first step, counted from the start of the process
	now   int64  // of the one that is not over
	wal   uint64 // received when it was looked at last
	begun bool
}

type step struct {
	wal               uint64
	streaming         int // looks that saw it stream, less those that did not
	flushed, archived figure
}

// add notes what was seen at a moment, some time after the process began.
func (h *hour) add(since time.Duration, s State, lags []lag) {
	now := int64(since / hourStep)
	if !h.begun {
		h.begun, h.first, h.now, h.wal = true, now, now, s.WALBytes
		*h.step(now) = step{flushed: unknown, archived: unknown}
	}
	for h.now < now { // what was not looked at is not known
		h.now++
		*h.step(h.now) = step{flushed: unknown, archived: unknown}
	}
	at := h.step(h.now)
	at.wal += s.WALBytes - h.wal
	h.wal = s.WALBytes
	if s.Streaming {
		at.streaming++
	} else {
		at.streaming--
	}
	for _, l := range lags {
		switch l.stage {
		case stageFlushed:
			at.flushed = larger(at.flushed, l.seconds)
		case stageArchived:
			at.archived = larger(at.archived, l.seconds)
		}
	}
}

func (h *hour) step(number int64) *step { return &h.steps[number%int64(hourSteps)] }

func larger(known figure, seconds float64) figure {
	if known != known || known < figure(seconds) {
		return figure(seconds)
	}
	return known
}

// Hour tells how the last hour went.
func (m *Monitor) Hour() Hour {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := &m.hour
	hour := Hour{
		End: m.began.Add(time.Duration(h.now) * hourStep).UTC(), StepSeconds: hourStep.Seconds(),
		WALBytes: []uint64{}, Streaming: []bool{}, LagSeconds: map[string][]figure{stageFlushed: {}},
	}
	if m.o.Archive {
		hour.LagSeconds[stageArchived] = []figure{}
	}
	for n := max(h.first, h.now-int64(hourSteps)+1); n < h.now; n++ {
		at := h.step(n)
		hour.WALBytes = append(hour.WALBytes, at.wal)
		hour.Streaming = append(hour.Streaming, at.streaming > 0)
		hour.LagSeconds[stageFlushed] = append(hour.LagSeconds[stageFlushed], at.flushed)
		if m.o.Archive {
			hour.LagSeconds[stageArchived] = append(hour.LagSeconds[stageArchived], at.archived)
		}
	}
	return hour
}
