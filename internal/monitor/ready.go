package monitor

import (
	"fmt"
	"strings"
	"time"
)

// Readiness is whether a receiver does what it is there for, or has not for at
// most Options.ReadyLag. JSON uses the words of the metrics.
type Readiness struct {
	Ready            bool               `json:"ready"`
	Streaming        bool               `json:"streaming"`
	LagSeconds       map[string]float64 `json:"lag_seconds"` // by stage
	OldestUnarchived *float64           `json:"oldest_unarchived_seconds,omitempty"`

	// Status are one to three lines for people: how streaming is, and, if it is in
	// danger, the slot, and, if it is behind, archiving. Probes show them to everybody,
	// so there is nothing in them that errors tell: no hosts, users, databases, files.
	Status []string `json:"status"`

	archivingStatus string // of these the one that says how archiving is; "" if nothing waits
}

// statusStreaming is how streaming is if nothing is wrong with it.
const statusStreaming = "streaming"

// Ready says whether the receiver streams and archives. A receiver that waits
// for its slot is ready: another one uses it, and this one takes over. At the
// start it is not before it has streamed.
//
// Archiving is measured by the files that wait for it, not by its position: on a
// server that writes little, a segment may take hours until it is complete.
func (m *Monitor) Ready() Readiness {
	now, s := time.Now(), m.o.State()
	return m.readiness(s, m.lags(s, now), now)
}

func (m *Monitor) readiness(s State, lags []lag, now time.Time) Readiness {
	r := Readiness{Ready: true, Streaming: s.Streaming, LagSeconds: map[string]float64{}}
	for _, l := range lags {
		r.LagSeconds[l.stage] = l.seconds
	}
	r.judge(m.streamingStatus(s, r.LagSeconds[stageFlushed], now))
	if slot, _, known := m.slot(); known {
		if danger := slot.Danger(); danger != "" {
			r.judge(danger, true) // to restart walrecv, or to send nobody there, does not help
		}
	}
	if waits, known := s.unarchived(now); known && m.o.Archive {
		seconds := waits.Seconds()
		r.OldestUnarchived = &seconds
		if r.archivingStatus = archivingStatus(s, waits); r.archivingStatus != "" {
			r.judge(r.archivingStatus, waits <= m.readyLag())
		}
	}
	return r
}

// Text says it to people.
func (r Readiness) Text() string {
	word := "ready"
	if !r.Ready {
		word = "not ready"
	}
	return word + ": " + strings.Join(r.Status, "\n")
}

func (r *Readiness) judge(status string, ok bool) {
	r.Status = append(r.Status, status)
	r.Ready = r.Ready && ok
}

func (m *Monitor) streamingStatus(s State, flushedLag float64, now time.Time) (status string, ok bool) {
	m.mu.Lock()
	streamed := m.streamed
	m.mu.Unlock()
	behind := time.Duration(flushedLag * float64(time.Second))
	switch {
	case !s.PausedSince.IsZero():
		return fmt.Sprintf("paused for %s, %s behind the server: the spool has reached --spool-max", about(now.Sub(s.PausedSince)), about(behind)), behind <= m.readyLag()
	case s.Streaming && behind <= m.readyLag():
		return statusStreaming, true
	case s.Streaming:
		return fmt.Sprintf("streaming, %s behind the server", about(behind)), false
	case s.ForSlot:
		return "waiting for its replication slot", true
	case streamed.IsZero():
		return fmt.Sprintf("not streaming yet, for %s", about(now.Sub(m.began))), false
	default:
		away := now.Sub(streamed)
		return fmt.Sprintf("not streaming for %s", about(away)), away <= m.readyLag()
	}
}

// archivingStatus is empty if nothing waits.
func archivingStatus(s State, waits time.Duration) string {
	switch {
	case !s.ArchiveReached:
		return fmt.Sprintf("the archive was not reached yet, for %s", about(waits))
	case s.OldestUnarchived.IsZero():
		return ""
	}
	return fmt.Sprintf("archiving is %s behind", about(waits))
}

// about is a duration for people.
func about(d time.Duration) time.Duration {
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Second)
}
