package recovery

import (
	"fmt"
	"strings"
	"time"

	"github.com/walrecv/walrecv/internal/backup"
	"github.com/walrecv/walrecv/segment"
)

// Plan is a recovery that the archive can serve.
type Plan struct {
	Backup *backup.Backup
	Target Target
	// Timeline is the one along which WAL is replayed, and History its descent.
	// A standby is told Target.Timeline instead, so that it follows further.
	Timeline segment.TimelineID
	History  segment.History
	// End is how far the WAL goes from the backup on without a hole, if all of it is
	// replayed.
	End segment.LSN
	// Stop is where the recovery ends, behind the last record that is replayed; 0
	// where that was not looked for: before a time it is known only to lie before End.
	Stop segment.LSN
	// Note is for people: what they may not expect of this target. "" is nothing.
	Note string
	// Damaged are newer backups that would have been taken if they could be restored.
	Damaged []*DamagedError
}

// note adds something to what people are told.
func (p *Plan) note(text string) {
	if p.Note != "" {
		p.Note += "; "
	}
	p.Note += text
}

// DamagedError says that a base backup cannot be restored.
type DamagedError struct {
	ID      string
	Reason  string // for people
	Missing bool   // something of it is missing; else what it is cannot be read
}

// Error says which one, and why.
func (e *DamagedError) Error() string {
	return fmt.Sprintf("the base backup %s is damaged: %s", e.ID, e.Reason)
}

// Window is what can be reached along a timeline: every point behind Start, with a
// base backup from before it.
type Window struct {
	Timeline segment.TimelineID // the one that recovery goes to; what it came from is in it
	Start    segment.LSN        // the end of the first good backup
	End      segment.LSN        // of the WAL without a hole
	// StartTime and EndTime are times of commits, by the clock of the server: any time
	// from StartTime on and before EndTime can be reached, but for an instant behind
	// StartTime, since commits are not sorted by time. EndTime is zero as long as only the
	// tail has later commits than StartTime.
	StartTime time.Time
	EndTime   time.Time
	// TimedUntil is how far the times of commits are known: what is behind, only the tail
	// has.
	TimedUntil segment.LSN
	Backups    []string // the IDs of those that it begins with and has in it, oldest first

	sure time.Time   // a StartTime that no other clock has to do with; zero if there is none
	last segment.LSN // where a record begins that is complete, at or behind all that is known
}

// String is for people.
func (w Window) String() string {
	text := fmt.Sprintf("on timeline %d from %s to %s", uint32(w.Timeline), w.Start, w.End)
	tail := w.TimedUntil < w.End
	switch {
	case w.EndTime.IsZero() && tail:
		text += fmt.Sprintf(" (from %s on)", formatTime(w.StartTime))
	case w.EndTime.IsZero():
	case tail:
		text += fmt.Sprintf(" (%s to %s, and what is in the tail)", formatTime(w.StartTime), formatTime(w.EndTime))
	default:
		text += fmt.Sprintf(" (%s to %s)", formatTime(w.StartTime), formatTime(w.EndTime))
	}
	return text
}

// UnreachableError says that the archive cannot bring a cluster to a target. To try
// again gives the same, until the archive has more, or other backups.
type UnreachableError struct {
	Target  Target
	Reason  string   // for people
	Windows []Window // what can be reached instead

	damaged *DamagedError // the backup with which it could be reached; nil: none
}

// Unwrap gives the [DamagedError] of a backup with which the target could be reached.
func (e *UnreachableError) Unwrap() error {
	if e.damaged == nil {
		return nil
	}
	return e.damaged
}

// Error says why, and what can be reached.
func (e *UnreachableError) Error() string {
	text := fmt.Sprintf("cannot recover to %s: %s; ", e.Target, e.Reason)
	if len(e.Windows) == 0 {
		return text + "nothing can be recovered"
	}
	var words []string
	for _, w := range e.Windows {
		words = append(words, w.String())
	}
	return text + "recoverable is " + strings.Join(words, ", and ")
}
