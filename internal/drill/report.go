package drill

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/segment"
)

// Kind says what kept a drill from proving that the archive restores. The words are
// part of the interface.
type Kind string

// The kinds of failures.
const (
	NoBackup     Kind = "no_backup"          // there is no good one, or not the one that was asked for
	Unreachable  Kind = "target_unreachable" // the archive does not reach the target, or has nothing to begin with
	ScratchFull  Kind = "scratch_full"       // the disk of the scratch directory
	ScratchGone  Kind = "scratch_gone"       // somebody else removed the scratch directory
	Damaged      Kind = "object_damaged"     // an object is not what was archived
	Missing      Kind = "object_missing"     // an object of the backup, or of a newer one, is gone
	Download     Kind = "download"           // the backup could not be fetched, for another reason
	ServerFailed Kind = "server_failed"      // the server did not start, or ended before the target
	Stalled      Kind = "stalled"            // replay made no progress
	TargetMissed Kind = "target_missed"      // recovery ended elsewhere
	CheckFalse   Kind = "check_false"        // a check was not true
	CheckError   Kind = "check_error"        // a check could not be made
	CheckInvalid Kind = "check_invalid"      // a check is no SQL
	Amcheck      Kind = "amcheck"            // pg_amcheck found something, or failed
	Checksums    Kind = "checksums"          // a page has not its checksum
	StopFailed   Kind = "stop_failed"        // the server did not shut down in order
	Interrupted  Kind = "interrupted"        // by a signal
	LeftBehind   Kind = "left_behind"        // something could not be removed
)

// Failure is one of the reasons why a drill failed.
type Failure struct {
	Kind    Kind     `json:"kind"`
	Message string   `json:"message"`
	Log     []string `json:"log,omitempty"` // what the server said about it
}

// Report is what a drill found. Its JSON is described in docs/drill.md; lists are
// never null, and what is not known is left out. Times are UTC.
type Report struct {
	ID       string    `json:"id,omitzero"` // in the archive; "" if it is not kept there
	Archive  string    `json:"archive"`
	SystemID string    `json:"system_identifier"`
	Started  time.Time `json:"started"`
	Finished time.Time `json:"finished"`
	Success  bool      `json:"success"`
	Failures []Failure `json:"failures"`

	Backup *Backup `json:"backup,omitempty"`
	Target Target  `json:"target"`
	Result *Result `json:"result,omitempty"`
	Times  Times   `json:"times"`
	Loss   *Loss   `json:"loss,omitempty"`

	Checks []Check  `json:"checks"`
	Steps  []Step   `json:"steps"`
	Server *Server  `json:"server,omitempty"`
	Notes  []string `json:"notes"`

	moot bool // what was asked for is not there, which says nothing about the archive
}

// Backup is the base backup that was restored.
type Backup struct {
	ID         string      `json:"id"`
	Major      int         `json:"postgresql_major"`
	Started    time.Time   `json:"started"`
	Finished   time.Time   `json:"finished"`
	StartLSN   segment.LSN `json:"start_lsn"`
	EndLSN     segment.LSN `json:"end_lsn"`
	PlainSize  int64       `json:"plain_size"`  // bytes
	StoredSize int64       `json:"stored_size"` // bytes
}

// Target is the point that was to be reached.
type Target struct {
	Kind     string `json:"kind"` // latest, immediate, time, lsn, xid, name
	Text     string `json:"text"` // for people
	Action   string `json:"action"`
	Timeline uint32 `json:"timeline,omitzero"`
	Random   bool   `json:"random,omitzero"` // it was chosen by chance
}

// Result is the point that was reached.
type Result struct {
	LSN         segment.LSN `json:"lsn"`                   // replay ended before it
	Time        time.Time   `json:"time,omitzero"`         // of the last commit that was replayed
	Timeline    uint32      `json:"timeline"`              // that was replayed
	NewTimeline uint32      `json:"new_timeline,omitzero"` // that was begun behind it
	Reason      string      `json:"reason,omitzero"`       // why the server stopped there, in its words
}

// Times is how long it took, in seconds.
type Times struct {
	Download    float64 `json:"download_seconds,omitzero"`    // until the backup was on the disk, checked
	Consistency float64 `json:"consistency_seconds,omitzero"` // from the server's start until it could be read
	Target      float64 `json:"target_seconds,omitzero"`      // from the server's start until the target
	Restore     float64 `json:"restore_seconds,omitzero"`     // until a server could be used: RTO
	Total       float64 `json:"total_seconds"`                // with the checks and the removal
}

// Loss is what would be gone if the server had been lost when the drill began: RPO.
type Loss struct {
	ArchivedLSN segment.LSN `json:"archived_lsn"` // end of what could be recovered
	Timeline    uint32      `json:"timeline"`
	// LastCommit is of the last one before it that is known, CommitAge how long
	// before the drill that was: an upper bound of the loss, that grows also while
	// nobody commits.
	LastCommit time.Time `json:"last_commit,omitzero"`
	CommitAge  *float64  `json:"last_commit_age_seconds,omitempty"`
	// ServerLSN is how far the server was a moment later, if it was asked, and
	// Bytes what of that the archive did not have.
	ServerLSN segment.LSN `json:"server_lsn,omitzero"`
	Bytes     *int64      `json:"lost_bytes,omitempty"`
	Problem   string      `json:"server_problem,omitzero"` // why the server did not tell
}

// What a check came to.
const (
	Passed  = "passed"
	Failed  = "failed"
	Skipped = "skipped"
)

// Check is one thing that was looked at.
type Check struct {
	Name    string  `json:"name"` // target, sql, amcheck, checksums
	SQL     string  `json:"sql,omitzero"`
	Result  string  `json:"result"`
	Message string  `json:"message,omitzero"`
	Seconds float64 `json:"seconds"`
}

// Step is a part of the drill's timeline.
type Step struct {
	Name    string  `json:"name"`
	Start   float64 `json:"start_seconds"` // since the drill began
	Seconds float64 `json:"seconds"`
}

// Server is what the restored server ran on.
type Server struct {
	BinDir string `json:"bindir"`
	User   string `json:"user,omitzero"`
	// Confined: the kernel kept it from writing outside of the scratch directory.
	Confined bool `json:"confined"`
}

// fail notes why the drill does not prove anything.
func (r *Report) fail(kind Kind, message string, log ...string) {
	r.Failures = append(r.Failures, Failure{kind, message, log})
}

// check notes what a check came to.
func (r *Report) check(c Check) { r.Checks = append(r.Checks, c) }

// kept is what stays of the report in the archive.
func (r *Report) kept() archive.DrillResult {
	k := archive.DrillResult{
		Started: r.Started, Finished: r.Finished, Success: r.Success, Failures: []string{},
		Target: r.Target.Kind, Timeline: r.Target.Timeline,
		DownloadSeconds: r.Times.Download, ConsistencySeconds: r.Times.Consistency, TargetSeconds: r.Times.Target,
		RestoreSeconds: r.Times.Restore, TotalSeconds: r.Times.Total,
	}
	for _, f := range r.Failures {
		if !slices.Contains(k.Failures, string(f.Kind)) {
			k.Failures = append(k.Failures, string(f.Kind))
		}
	}
	if r.Backup != nil {
		k.Backup, k.Major = r.Backup.ID, r.Backup.Major
	}
	if r.Result != nil {
		k.ReachedLSN, k.ReachedTime = r.Result.LSN, r.Result.Time
	}
	if r.Loss != nil {
		k.ArchivedLSN, k.ArchivedCommit = r.Loss.ArchivedLSN, r.Loss.LastCommit
		k.ServerLSN, k.LostBytes = r.Loss.ServerLSN, r.Loss.Bytes
	}
	for _, c := range r.Checks {
		if c.Result != Skipped {
			k.Checks++
		}
		if c.Result == Failed {
			k.FailedChecks++
		}
	}
	return k
}

// notArchives are the failures that have nothing to do with the archive.
var notArchives = []Kind{ScratchFull, ScratchGone, CheckInvalid, LeftBehind}

// Tells tells whether the drill found anything out about the archive. It did not if it
// was interrupted, if what it was asked for is not to be had, or if nothing was wrong
// but with this machine, or with how a check is written.
func (r *Report) Tells() bool {
	if r.moot || slices.ContainsFunc(r.Failures, func(f Failure) bool { return f.Kind == Interrupted }) {
		return false
	}
	return r.Success || slices.ContainsFunc(r.Failures, func(f Failure) bool { return !slices.Contains(notArchives, f.Kind) })
}

// Keep puts what stays of a report into the archive, and notes its ID in the report.
func Keep(ctx context.Context, a *archive.Archive, r *Report) error {
	put, err := a.PutDrill(ctx, r.kept())
	if err != nil {
		return fmt.Errorf("the result cannot be kept in the archive: %w", err)
	}
	r.ID = put.ID
	return nil
}
