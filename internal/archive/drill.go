package archive

import (
	"time"

	"github.com/walrecv/walrecv/segment"
)

// DrillResult is what is kept of a restore drill, as it stands in the archive
// (docs/format.md). It has no text of a server and no SQL: what is archived can be
// encrypted, and this is not. Times are UTC, durations seconds.
type DrillResult struct {
	Format   int       `json:"format"`
	ID       string    `json:"id"` // its key; time of the start
	Started  time.Time `json:"started"`
	Finished time.Time `json:"finished"`

	// Success says that the archive was restored to the target and that all
	// checks were passed. Failures are the kinds of what was wrong otherwise.
	Success  bool     `json:"success"`
	Failures []string `json:"failures"`

	Major    int    `json:"postgresql_major,omitzero"`
	Backup   string `json:"backup,omitzero"` // ID of the one that was restored
	Target   string `json:"target"`          // kind: latest, immediate, time, lsn, xid, name
	Timeline uint32 `json:"timeline,omitzero"`

	// ReachedLSN is where replay ended, ReachedTime when what was replayed last was
	// committed.
	ReachedLSN  segment.LSN `json:"reached_lsn,omitzero"`
	ReachedTime time.Time   `json:"reached_time,omitzero"`

	DownloadSeconds    float64 `json:"download_seconds,omitzero"`
	ConsistencySeconds float64 `json:"consistency_seconds,omitzero"` // from the server's start
	TargetSeconds      float64 `json:"target_seconds,omitzero"`      // from the server's start
	RestoreSeconds     float64 `json:"restore_seconds,omitzero"`     // from the first byte to a server that can be used: RTO
	TotalSeconds       float64 `json:"total_seconds"`                // with the checks

	// ArchivedLSN is the end of what could be recovered when the drill began, and
	// ArchivedCommit the time of the last commit before it that is known.
	ArchivedLSN    segment.LSN `json:"archived_lsn,omitzero"`
	ArchivedCommit time.Time   `json:"archived_commit,omitzero"`

	// ServerLSN is how far the server was at that moment, if it was asked, and
	// LostBytes what of that the archive did not have: RPO.
	ServerLSN segment.LSN `json:"server_lsn,omitzero"`
	LostBytes *int64      `json:"lost_bytes,omitempty"`

	Checks       int `json:"checks"` // that were made
	FailedChecks int `json:"failed_checks"`
}
