package status

import (
	"fmt"
	"time"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/backup"
	"github.com/walrecv/walrecv/internal/recovery"
	"github.com/walrecv/walrecv/segment"
)

// Recoverable is what can be reached along a timeline with the base backups that are
// there: every point behind Start. From StartTime on, and before EndTime, every time
// can; and later ones, if there are commits behind TimedUntil, which only the tail has.
type Recoverable struct {
	Timeline  uint32      `json:"timeline"`
	Start     segment.LSN `json:"start_lsn"`
	End       segment.LSN `json:"end_lsn"`
	StartTime time.Time   `json:"start_time,omitzero"`
	EndTime   time.Time   `json:"end_time,omitzero"`
	// TimedUntil is how far the times of commits are known.
	TimedUntil segment.LSN `json:"times_until_lsn"`
	Backups    []string    `json:"backups"` // IDs, oldest first
}

// backups adds the base backups, and what can be recovered with them.
func (g *gatherer) backups(entries []backup.Entry) {
	for i := range entries {
		l := backup.NewLine(&entries[i], archive.Look{Listing: g.listing, Chain: g.chain}, g.size)
		switch {
		case l.Damage != "":
			g.problem(fmt.Sprintf("the base backup %s is damaged: %s", l.ID, l.Damage), "Take a new base backup.")
		case l.WAL != nil && l.WAL.Problem != "":
			g.problem(fmt.Sprintf("the base backup %s cannot be restored: %s", l.ID, l.WAL.Problem), "Take a new base backup.")
		}
		g.report.Backups = append(g.report.Backups, l)
	}
	for _, w := range g.survey.Windows(entries) {
		g.report.Recoverable = append(g.report.Recoverable, recoverable(w))
		g.reaches(w)
	}
}

// reaches finds the restore points that can be reached within a window.
func (g *gatherer) reaches(w recovery.Window) {
	history := g.chain.Branch(w.Timeline).History
	for i := range g.report.RestorePoints {
		p := &g.report.RestorePoints[i]
		if w.Start < p.LSN && p.LSN <= w.End && uint32(history.TimelineAt(p.LSN-1)) == p.Timeline {
			p.Recoverable = true
		}
	}
}

func recoverable(w recovery.Window) Recoverable {
	return Recoverable{
		Timeline: uint32(w.Timeline), Start: w.Start, End: w.End,
		StartTime: w.StartTime.UTC(), EndTime: w.EndTime.UTC(), TimedUntil: w.TimedUntil, Backups: w.Backups,
	}
}

// recoverable says what can be reached on the newest timeline, or on others if nothing
// can there.
func (t *texter) recoverable(r *Report) {
	var newest *Recoverable
	for i := range r.Recoverable { // the newest timeline's newest window is the last one
		newest = &r.Recoverable[i]
	}
	switch {
	case newest == nil && r.Window == nil:
		t.line("recoverable", "nothing yet")
	case newest == nil:
		t.line("recoverable", fmt.Sprintf("%s to %s, with a base backup from between", r.Window.Start, r.Window.End))
	default:
		t.line("recoverable", fmt.Sprintf("%s to %s on timeline %d, with %s", newest.Start, newest.End, newest.Timeline, count(len(newest.Backups), "base backup")))
		if times := newest.times(); times != "" {
			t.line("in time", times)
		}
	}
}

// times says which times can be reached. Those in the tail would have to be read.
func (r *Recoverable) times() string {
	tail := r.TimedUntil < r.End
	switch {
	case r.EndTime.IsZero() && tail:
		return fmt.Sprintf("from %s on, as far as there are commits before %s", cell(r.StartTime), r.End)
	case r.EndTime.IsZero():
		return ""
	case tail:
		return fmt.Sprintf("%s to %s, and commits in the tail from %s to %s", cell(r.StartTime), cell(r.EndTime), r.TimedUntil, r.End)
	}
	return fmt.Sprintf("%s to %s", cell(r.StartTime), cell(r.EndTime))
}

// windows lists what can be reached, where that is more than one stretch.
func (t *texter) windows(r *Report) {
	if len(r.Recoverable) < 2 {
		return
	}
	t.table("RECOVERABLE ON", "FROM", "TO", "FROM TIME", "TO TIME", "BACKUPS")
	shown := r.Recoverable[max(0, len(r.Recoverable)-most):]
	for _, w := range shown {
		t.line(w.Timeline, w.Start, w.End, w.StartTime, w.EndTime, len(w.Backups))
	}
	t.more(len(r.Recoverable))
}

// backups shows the newest ones.
func (t *texter) backups(r *Report) {
	if len(r.Backups) == 0 {
		return
	}
	t.table("BACKUP", "STATE", "TIMELINE", "FROM", "TO", "FINISHED", "LABEL")
	for _, b := range r.Backups[max(0, len(r.Backups)-most):] {
		t.line(b.ID, b.State, uint32(b.Timeline), b.StartLSN, b.EndLSN, b.Finished, b.Label)
	}
	t.more(len(r.Backups))
}
