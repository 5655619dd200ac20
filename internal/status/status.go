// Package status says what an archive holds, without a server and without
// downloading a segment: from listings, from what the index and the ends of
// objects say of segments, and from what was found damaged and missing.
package status

import (
	"time"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/backup"
	"github.com/walrecv/walrecv/segment"
)

// Report is what an archive holds of one cluster. Its JSON is described in
// docs/status.md; lists are never null, and what has no value is left out.
type Report struct {
	Archive       string               `json:"archive"` // where it is
	SystemID      string               `json:"system_identifier"`
	Major         int                  `json:"postgresql_major"`
	SegmentSize   int64                `json:"wal_segment_size"`  // bytes
	Timeline      uint32               `json:"timeline,omitzero"` // the newest one
	Window        *Window              `json:"window,omitempty"`
	Recoverable   []Recoverable        `json:"recoverable"` // by timeline, then by position
	Backups       []backup.Line        `json:"backups"`     // oldest first
	LastDrill     *archive.DrillResult `json:"last_drill,omitempty"`
	Segments      Counts               `json:"segment_counts"`
	Timelines     []Timeline           `json:"timelines"`
	Gaps          []Gap                `json:"gaps"`
	Marks         []Mark               `json:"marks"`
	RestorePoints []RestorePoint       `json:"restore_points"`
	// MoreRestorePoints counts those that segments had too many of.
	MoreRestorePoints int       `json:"more_restore_points,omitzero"`
	Problems          []Problem `json:"problems"`
}

// Window is the newest WAL on the way to the end of the newest timeline that has
// neither a hole nor anything in it that is known to be damaged. A base backup
// that was taken in it can be recovered to any later place in it. Complete segments
// count, and behind them the tail as far as it goes without a hole.
type Window struct {
	Timeline    uint32      `json:"timeline"`
	Start       segment.LSN `json:"start_lsn"`
	End         segment.LSN `json:"end_lsn"`
	FirstCommit time.Time   `json:"first_commit,omitzero"`
	LastCommit  time.Time   `json:"last_commit,omitzero"`
}

// Counts counts complete segments. Total is the sum of the others.
type Counts struct {
	Total      int `json:"total"`
	Verified   int `json:"verified"`   // every record that ends in it was found sound
	Unverified int `json:"unverified"` // not wholly read, or nothing is known
	Faulty     int `json:"faulty"`     // something was found wrong in it
	Unreadable int `json:"unreadable"` // its object cannot be read
	Encrypted  int `json:"encrypted"`  // no identity that was given fits
}

// What Timeline.History says.
const (
	historyNone     = "none"     // timeline 1 has none
	historyPresent  = "present"  // and sound
	historyMissing  = "missing"  //
	historyUnusable = "unusable" // damaged, not to be read, or it contradicts what else is there
)

// Timeline is one branch of the log.
type Timeline struct {
	Timeline    uint32      `json:"timeline"`
	Parent      uint32      `json:"parent_timeline,omitzero"`
	Fork        segment.LSN `json:"fork_lsn,omitzero"`
	History     string      `json:"history"`
	Segments    Counts      `json:"segment_counts"`
	Partials    int         `json:"partials"` // archived ones, which do not count as segments
	Ranges      []Range     `json:"ranges"`
	Tail        *Tail       `json:"tail,omitempty"`
	FirstCommit time.Time   `json:"first_commit,omitzero"`
	LastCommit  time.Time   `json:"last_commit,omitzero"`
}

// Tail is what the archive has behind the newest complete segment of a timeline, in
// chunks, as far as they go without a hole.
type Tail struct {
	Start  segment.LSN `json:"start_lsn"`
	End    segment.LSN `json:"end_lsn"`
	Chunks int         `json:"chunks"` // of segments that are not complete
}

// Range is a run of segments without a hole.
type Range struct {
	First    string      `json:"first_segment"`
	Last     string      `json:"last_segment"`
	Start    segment.LSN `json:"start_lsn"`
	End      segment.LSN `json:"end_lsn"`
	Segments uint64      `json:"segments"`
}

// Gap is a range of WAL that the archive should have and does not.
type Gap struct {
	Timeline uint32 `json:"timeline"`
	Range
	// Accepted says that the operator agreed to go on without it.
	Accepted bool `json:"accepted"`
	// Arriving says that it can be on its way: what comes later is there already.
	Arriving bool      `json:"arriving,omitzero"`
	Reason   string    `json:"reason,omitzero"`
	Found    time.Time `json:"found,omitzero"`
}

// Mark is damage in the WAL, as the server sent it.
type Mark struct {
	Timeline   uint32      `json:"timeline"`
	Segment    string      `json:"segment"`
	LSN        segment.LSN `json:"lsn"`
	SoundUntil segment.LSN `json:"sound_until_lsn"`
	Reason     string      `json:"reason"`
	Found      time.Time   `json:"found,omitzero"`
	Cleared    bool        `json:"cleared,omitzero"` // the archive has it in order
}

// RestorePoint is a named restore point.
type RestorePoint struct {
	Name     string      `json:"name"`
	LSN      segment.LSN `json:"lsn"`
	Time     time.Time   `json:"time,omitzero"`
	Timeline uint32      `json:"timeline"`
	InWindow bool        `json:"in_window"`
	// Recoverable says that one of the base backups that are there leads to it.
	Recoverable bool `json:"recoverable"`
}

// Problem is something that is wrong, for people.
type Problem struct {
	What string `json:"what"`
	Do   string `json:"do"`
}
