package status

import (
	"fmt"
	"strings"
	"time"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/backup"
	"github.com/walrecv/walrecv/internal/recovery"
	"github.com/walrecv/walrecv/segment"
)

// Recoverable is what can be reached along a timeline with the base backups that are
// there: every point behind Start. From StartTime on, and before EndTime, every time
// can; what only the tail has is not in EndTime.
type Recoverable struct {
	Timeline  uint32      `json:"timeline"`
	Start     segment.LSN `json:"start_lsn"`
	End       segment.LSN `json:"end_lsn"`
	StartTime time.Time   `json:"start_time,omitzero"`
	EndTime   time.Time   `json:"end_time,omitzero"`
	Backups   []string    `json:"backups"` // IDs, oldest first
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
	}
}

func recoverable(w recovery.Window) Recoverable {
	return Recoverable{
		Timeline: uint32(w.Timeline), Start: w.Start, End: w.End,
		StartTime: w.StartTime.UTC(), EndTime: w.EndTime.UTC(), Backups: w.Backups,
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
		t.line("recoverable", fmt.Sprintf("%s to %s on timeline %d, with %s", newest.Start, newest.End, newest.Timeline, backups(len(newest.Backups))))
		if !newest.EndTime.IsZero() {
			t.line("in time", fmt.Sprintf("%s to %s", cell(newest.StartTime), cell(newest.EndTime)))
		}
	}
}

func backups(n int) string { return strings.Replace(count(n, "base backup"), "1 ", "the ", 1) }

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
