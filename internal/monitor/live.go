package monitor

import (
	"time"

	"github.com/walrecv/walrecv/segment"
)

// Live is a receiver at one moment, in the words of the metrics. A position that is
// not known is left out, and so is what there is only with an archive.
type Live struct {
	Time    time.Time `json:"time"`
	Started time.Time `json:"started"` // the process
	Version string    `json:"version"`

	Readiness

	PausedSince time.Time   `json:"paused_since,omitzero"`
	SystemID    uint64      `json:"system_identifier,string,omitzero"`
	Major       int         `json:"postgresql_major,omitzero"`
	SegmentSize int64       `json:"wal_segment_size,omitzero"` // bytes
	Timeline    uint32      `json:"timeline,omitzero"`
	Server      segment.LSN `json:"server_lsn,omitzero"`
	Received    segment.LSN `json:"received_lsn,omitzero"`
	Written     segment.LSN `json:"written_lsn,omitzero"`
	Flushed     segment.LSN `json:"flushed_lsn,omitzero"`
	Sealed      segment.LSN `json:"sealed_lsn,omitzero"`
	Archived    segment.LSN `json:"archived_lsn,omitzero"`

	LagBytes map[string]uint64 `json:"lag_bytes"` // by stage

	Archive    bool   `json:"archive"`   // there is one
	Archiving  bool   `json:"archiving"` // into it, and nothing is in the way
	SpoolBytes *int64 `json:"spool_bytes,omitempty"`
	SpoolMax   int64  `json:"spool_max_bytes,omitzero"`
	Gaps       *int   `json:"gaps,omitempty"`
	Slot       *Slot  `json:"slot,omitempty"` // nil: nobody asked, or the server did not say

	WALBytes       uint64 `json:"wal_bytes_total"`
	VerifyFailures uint64 `json:"wal_verify_failures_total"`
	Reconnects     uint64 `json:"reconnects_total"`

	Problems []Problem `json:"problems"`
}

// Live tells what the receiver does now.
func (m *Monitor) Live() Live {
	now, s := time.Now(), m.o.State()
	lags := m.lags(s, now)
	l := Live{
		Time: now.UTC(), Started: m.began.UTC(), Version: m.o.Version,
		Readiness:   m.readiness(s, lags, now),
		PausedSince: s.PausedSince.UTC(),
		SystemID:    s.Cluster.SystemID, Major: s.Cluster.Major, SegmentSize: int64(s.Cluster.Size),
		Timeline: uint32(s.Timeline), Server: s.Server,
		Received: s.Received, Written: s.Written, Flushed: s.Flushed, Sealed: s.Sealed,
		LagBytes: map[string]uint64{},
		Archive:  m.o.Archive,
		WALBytes: s.WALBytes, VerifyFailures: s.VerifyFailures, Reconnects: s.Reconnects,
	}
	for _, lag := range lags {
		l.LagBytes[lag.stage] = lag.bytes
	}
	if m.o.Archive {
		l.Archived, l.SpoolMax, l.Archiving = s.Archived, s.SpoolMax, s.ArchiveTrouble == ""
	}
	if spool, known := m.o.Spool(); known {
		l.SpoolBytes, l.Gaps = &spool.Bytes, &spool.Gaps
	}
	if slot, _, known := m.slot(); known {
		l.Slot = &slot
	}
	l.Problems = m.problems(s, &l)
	return l
}
