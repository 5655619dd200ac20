package archive

import (
	"context"
	"encoding/json"
	"time"

	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
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

// PutDrill archives what a drill found, under the ID of the time at which it began, or
// of a later second if that is taken. It returns what was put: with Format and ID.
func (a *Archive) PutDrill(ctx context.Context, r DrillResult) (DrillResult, error) {
	r.Format = formatNumber
	err := PutUnder(r.Started, func(id string) error {
		r.ID = id
		content, err := json.Marshal(r)
		if err != nil {
			return err
		}
		return a.putDocument(ctx, Object{Kind: KindDrill, ID: id}, append(content, '\n'))
	})
	return r, err
}

// Drill reads what a drill found. An error that wraps fs.ErrNotExist says that there
// is nothing; one that cannot be read is a [DamagedError], one of a later version a
// [FormatError].
func (a *Archive) Drill(ctx context.Context, id string) (DrillResult, error) {
	o := Object{System: a.id.SystemID, Kind: KindDrill, ID: id}
	content, err := a.document(ctx, o)
	if err != nil {
		return DrillResult{}, err
	}
	// The format comes first: another one may have other types everywhere.
	var head struct {
		Format int `json:"format"`
	}
	var r DrillResult
	err = json.Unmarshal(content, &head)
	if err == nil && head.Format != formatNumber {
		return r, &FormatError{Key: o.Key(), Format: head.Format}
	}
	if err == nil {
		err = json.Unmarshal(content, &r)
	}
	switch {
	case err != nil:
		return DrillResult{}, &DamagedError{Key: o.Key(), Reason: err.Error()}
	case r.ID != id:
		return DrillResult{}, &DamagedError{Key: o.Key(), Reason: "its content is of another drill"}
	}
	return r, nil
}

// Drills lists the IDs of the drills of which something is kept, oldest first.
func (a *Archive) Drills(ctx context.Context) (ids []string, err error) {
	err = a.store.List(ctx, systemDir(a.id.SystemID)+drillDir+"/", func(info storage.Info) error {
		if o, err := ParseKey(info.Key); err == nil {
			ids = append(ids, o.ID)
		}
		return nil
	})
	return ids, err
}
