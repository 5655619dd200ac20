// Package monitor knows what a receiver is doing: metrics for Prometheus, readiness,
// its positions now and how it went in the last hour. It asks for the [State] of the
// receiver and never holds it up.
package monitor

import (
	"context"
	"errors"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
)

// State is what a receiver does at one moment. A position that is 0 is not
// known.
type State struct {
	Streaming bool   // WAL or a keepalive has come on the current connection
	Waiting   string // why it does not stream, for people; may be empty
	ForSlot   bool   // it waits for its slot: it is the standby of a pair

	// PausedSince is since when nothing is read from the server, because the spool
	// is full; zero: it is not.
	PausedSince time.Time

	Cluster                                      segment.Cluster // zero: the server has not said
	Timeline                                     segment.TimelineID
	Received, Written, Flushed, Sealed, Archived segment.LSN
	Server                                       segment.LSN // how far the server said it is
	LastMessage                                  time.Time   // from the server; zero: none yet

	// Since the start of the process.
	WALBytes, Reconnects, VerifyFailures uint64

	// Only with an archive: when it was asked first, zero as long as nobody knows
	// for which cluster to ask; whether it has answered since; and since when the
	// oldest thing waits that it does not hold, zero if it holds all.
	ArchiveAsked     time.Time
	ArchiveReached   bool
	OldestUnarchived time.Time
	ArchiveTrouble   string // why archiving does not work; "" while it does

	SpoolMax int64 // bytes that the segments of the spool may take; 0: no limit
}

// Spool is what the spool directory holds.
type Spool struct {
	Bytes int64 // of all files
	Gaps  int   // ranges of WAL that are missing and were accepted
}

// Proof is what an archive says of restores. What is zero has not happened.
type Proof struct {
	LastBackup   time.Time // when the newest good base backup ended
	LastDrill    time.Time // when the last drill ended
	DrillSuccess bool      // it restored what it was to
}

// Options say what is monitored. The functions may be called from any goroutine.
type Options struct {
	State    func() State         // must not block
	Spool    func() (Spool, bool) // may take a moment; false: not known
	Archive  bool                 // there is one
	Proof    func() (Proof, bool) // must not block; false: not known. Asked for only with an archive
	Slot     func() (Slot, bool)  // must not block; false: not known. nil: nobody asks the server
	ReadyLag time.Duration        // see Ready
	Version  string
	Commit   string
}

// Monitor keeps what is needed beside the state of the moment. Its methods may
// be called from any goroutine.
type Monitor struct {
	o        Options
	registry *prometheus.Registry
	began    time.Time
	ready    atomic.Int64 // Options.ReadyLag, which can change

	syncs    prometheus.Histogram
	uploads  *prometheus.CounterVec
	uploaded prometheus.Histogram
	requests *prometheus.CounterVec

	mu       sync.Mutex
	streamed time.Time // when it was seen to stream last
	passed   history
	hour     hour
}

// New prepares a Monitor. It knows about lags only while [Monitor.Watch] runs.
func New(o Options) *Monitor {
	m := &Monitor{o: o, registry: prometheus.NewRegistry(), began: time.Now()}
	m.SetReadyLag(o.ReadyLag)
	m.register()
	return m
}

// SetReadyLag changes Options.ReadyLag, from now on.
func (m *Monitor) SetReadyLag(d time.Duration) { m.ready.Store(int64(d)) }

func (m *Monitor) readyLag() time.Duration { return time.Duration(m.ready.Load()) }

// Synced tells of a sync of the spool.
func (m *Monitor) Synced(took time.Duration) { m.syncs.Observe(took.Seconds()) }

// Uploaded tells of an upload to the archive.
func (m *Monitor) Uploaded(kind string, took time.Duration, err error) {
	m.uploads.WithLabelValues(kind, result(err)).Inc()
	if err == nil {
		m.uploaded.Observe(took.Seconds())
	}
}

// Requested tells of a request to the store of the archive.
func (m *Monitor) Requested(op storage.Op, err error) {
	m.requests.WithLabelValues(string(op), result(err)).Inc()
}

// result is an error as a label. That an object is absent, or its key taken, is
// an answer.
func result(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.Is(err, fs.ErrNotExist):
		return "absent"
	case errors.Is(err, fs.ErrExist):
		return "taken"
	default:
		return "error"
	}
}

// interval is how often the state is looked at for what a lag is made of.
const interval = time.Second

// Watch looks at the state until ctx ends.
func (m *Monitor) Watch(ctx context.Context) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		m.look(time.Now())
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

func (m *Monitor) look(now time.Time) {
	s := m.o.State()
	m.pass(s, now)
	lags := m.lags(s, now)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hour.add(now.Sub(m.began), s, lags)
}

func (m *Monitor) pass(s State, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s.Streaming {
		m.streamed = now
	}
	m.passed.add(s.Server, now)
	m.passed.forget(s.slowest(m.o.Archive))
}

// slowest is the position below which nobody will ask how old it is.
func (s State) slowest(archive bool) segment.LSN {
	at := min(s.Written, s.Flushed)
	if archive {
		at = min(at, s.Archived)
	}
	return at
}

// Stages are compared with the server's position.
const (
	stageReceived = "received"
	stageWritten  = "written"
	stageFlushed  = "flushed"
	stageArchived = "archived"
)

// lag is how far a stage is behind the server.
type lag struct {
	stage   string
	bytes   uint64
	seconds float64
}

// lags gives the lag of every stage whose position is known. What the server did
// since it was heard from last is not known: so without a connection a lag is at
// least that long ago.
func (m *Monitor) lags(s State, now time.Time) []lag {
	if s.Server == 0 {
		return nil
	}
	silence := time.Duration(0)
	if !s.Streaming && !s.LastMessage.IsZero() {
		silence = now.Sub(s.LastMessage)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var lags []lag
	add := func(stage string, at segment.LSN) {
		if at == 0 {
			return
		}
		l := lag{stage: stage, seconds: max(m.passed.since(at, now), silence, 0).Seconds()}
		if at < s.Server {
			l.bytes = uint64(s.Server - at)
		}
		lags = append(lags, l)
	}
	add(stageReceived, s.Received)
	add(stageWritten, s.Written)
	add(stageFlushed, s.Flushed)
	if m.o.Archive {
		add(stageArchived, s.Archived)
	}
	return lags
}

// unarchived is how long the oldest thing waits that the archive does not hold;
// an archive that has not answered yet counts from when it was asked. known is
// false as long as it was not.
func (s State) unarchived(now time.Time) (waits time.Duration, known bool) {
	switch {
	case !s.ArchiveReached:
		return now.Sub(s.ArchiveAsked), !s.ArchiveAsked.IsZero()
	case s.OldestUnarchived.IsZero():
		return 0, true
	}
	return max(0, now.Sub(s.OldestUnarchived)), true
}
