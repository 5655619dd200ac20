package backup

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/segment"
)

// Report is the list of base backups as "walrecv backup list" prints it. In JSON its
// members have the names that the rest of walrecv uses for the same.
type Report struct {
	Archive  string `json:"archive"`
	SystemID string `json:"system_identifier"`
	Backups  []Line `json:"backups"` // oldest first
}

// Line is one base backup. Of one that is not good, and more so of a damaged one, not
// everything is known.
type Line struct {
	ID            string             `json:"id"`
	State         State              `json:"state"` // [Damaged] also if objects of it are missing
	Damage        string             `json:"damage,omitzero"`
	Label         string             `json:"label"`
	From          From               `json:"from,omitzero"`
	Major         int                `json:"postgresql_major,omitzero"`
	ServerVersion string             `json:"server_version,omitzero"`
	Started       time.Time          `json:"started,omitzero"`
	Finished      time.Time          `json:"finished,omitzero"`
	LastAdded     time.Time          `json:"last_added,omitzero"`
	Timeline      segment.TimelineID `json:"timeline,omitzero"`
	StartLSN      segment.LSN        `json:"start_lsn,omitzero"`
	EndTimeline   segment.TimelineID `json:"end_timeline,omitzero"`
	EndLSN        segment.LSN        `json:"end_lsn,omitzero"`
	Tablespaces   []Tablespace       `json:"tablespaces,omitzero"`
	PlainSize     int64              `json:"plain_size,omitzero"` // bytes
	Stored        int64              `json:"stored_size"`         // bytes
	WAL           *LineWAL           `json:"wal,omitzero"`        // of one that was completed
}

// LineWAL says whether a backup can be brought to a consistent state with the WAL
// that is in the archive.
type LineWAL struct {
	Complete bool        `json:"complete"`
	Until    segment.LSN `json:"until_lsn"`
	Problem  string      `json:"problem,omitzero"`
}

// maxLooks is how often an archive that seems to lack WAL is looked at: a segment that
// is completed while the archive is listed need not be in the listing.
const maxLooks = 3

// Gather lists the base backups with what has become of their WAL. where says to
// people where the archive is, and pause waits between two looks ([archive.Pause]).
// What is damaged is a part of the report; an error means that the archive could not
// be read.
func Gather(ctx context.Context, a *archive.Archive, where string, now time.Time, pause func(context.Context) error) (*Report, error) {
	entries, err := List(ctx, a, now)
	if err != nil {
		return nil, err
	}
	wal, err := lookFor(ctx, a, entries, pause)
	if err != nil {
		return nil, err
	}
	r := &Report{Archive: where, SystemID: strconv.FormatUint(a.Identity().SystemID, 10), Backups: []Line{}}
	for i := range entries {
		r.Backups = append(r.Backups, line(&entries[i], wal[entries[i].ID]))
	}
	return r, nil
}

// lookFor looks for the WAL of the good backups, by their IDs.
func lookFor(ctx context.Context, a *archive.Archive, entries []Entry, pause func(context.Context) error) (map[string]WAL, error) {
	found := map[string]WAL{}
	size := a.Identity().SegmentSize
	first := ^uint64(0)
	for _, e := range entries {
		if e.Backup != nil {
			first = min(first, size.Number(e.StartLSN))
		}
	}
	if first == ^uint64(0) {
		return found, nil
	}
	for n := 1; ; n++ {
		seen, err := look(ctx, a, first)
		if err != nil {
			return nil, err
		}
		complete := true
		for _, e := range entries {
			if e.Backup != nil {
				found[e.ID] = e.Backup.Needed().In(seen, size)
				complete = complete && found[e.ID].Complete()
			}
		}
		if complete || n == maxLooks {
			return found, nil
		}
		if err := pause(ctx); err != nil {
			return nil, err
		}
	}
}

// NewLine describes a base backup, and what has become of its WAL by a look at the
// archive.
func NewLine(e *Entry, look archive.Look, size segment.Size) Line {
	if e.Backup == nil {
		return line(e, WAL{})
	}
	return line(e, e.Backup.Needed().In(look, size))
}

func line(e *Entry, wal WAL) Line {
	l := Line{
		ID: e.ID, State: e.State, Label: e.Label, From: e.From, Major: e.Major,
		Started: e.Started, LastAdded: e.LastAdded, Timeline: e.Timeline, StartLSN: e.StartLSN, Stored: e.Stored,
	}
	if l.Damage = e.Wrong(); l.Damage != "" {
		l.State = Damaged
	}
	b := e.Backup
	if b == nil {
		return l
	}
	l.ServerVersion, l.Finished, l.EndTimeline, l.EndLSN = b.ServerVersion, b.Finished, b.EndTimeline, b.EndLSN
	l.Tablespaces, l.PlainSize = b.Tablespaces, b.PlainSize
	l.WAL = &LineWAL{Complete: wal.Complete(), Until: wal.Until}
	if err := wal.Err(); err != nil {
		l.WAL.Problem = err.Error()
	}
	return l
}

// words says of the WAL of a backup what fits into a table.
func (w *LineWAL) words() string {
	switch {
	case w == nil:
		return ""
	case w.Complete:
		return "complete"
	}
	return fmt.Sprintf("missing from %s", w.Until)
}
