package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/backup"
	"github.com/walrecv/walrecv/internal/prune"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
)

// pruneReport is what "walrecv prune" has to say.
type pruneReport struct {
	location storage.Location
	id       archive.Identity
	plan     *prune.Plan
	result   *prune.Result // nil: nothing was to be removed
}

// sums are of what is gone, or would be.
func (r *pruneReport) sums() []prune.Sum {
	if r.result != nil {
		return r.result.Sums
	}
	return r.plan.Sums
}

// text prints it for people.
func (r *pruneReport) text(w io.Writer) error {
	var b strings.Builder
	tabs := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	if len(r.plan.Backups) > 0 {
		say(tabs, "BACKUP\tSTATE\tSTARTED\tSTART\tSTORED\tSTAYS\tWHY\n")
		for _, v := range r.plan.Backups {
			say(tabs, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", v.ID, v.State, startedText(v), startText(v.StartLSN), roughSize(v.Stored), yesNo(v.Keep), oneLine(v.Why))
		}
		say(tabs, "\n")
	}
	if sums := r.sums(); len(sums) > 0 {
		say(tabs, "%s\tOBJECTS\tSIZE\n", map[bool]string{true: "REMOVED", false: "GOES"}[r.result != nil])
		for _, s := range sums {
			say(tabs, "%s\t%d\t%s\n", s.What, s.Objects, roughSize(s.Bytes))
		}
		say(tabs, "\n")
	}
	_ = tabs.Flush() // to memory
	for _, n := range r.plan.Notes {
		fmt.Fprintf(&b, "note: %s\n", oneLine(n))
	}
	for _, p := range r.plan.Problems {
		fmt.Fprintf(&b, "wrong: %s\n", oneLine(p))
	}
	fmt.Fprintln(&b, r.summary())
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *pruneReport) summary() string {
	total := prune.Total(r.sums())
	wal := "all WAL stays"
	if r.plan.Start != 0 {
		wal = fmt.Sprintf("the WAL from %s on stays", r.plan.Start)
	}
	switch {
	case r.result != nil:
		return fmt.Sprintf("removed %s, %s; %s", thingsOf(total), roughSize(total.Bytes), wal)
	case total.Objects == 0:
		return "nothing goes; " + wal
	}
	return fmt.Sprintf("nothing was removed: with --yes %s, %s, go; %s", thingsOf(total), roughSize(total.Bytes), wal)
}

// thingsOf counts objects; a base backup has many and counts as one.
func thingsOf(total prune.Sum) string { return counted(total.Objects, "item") }

func startedText(v prune.Verdict) string {
	if v.Started.IsZero() {
		return "-"
	}
	return v.Started.UTC().Format("2006-01-02 15:04:05 UTC")
}

func startText(l segment.LSN) string {
	if l == 0 {
		return "-"
	}
	return l.String()
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

// The document that --json prints. docs/prune.md describes it; members are never
// removed and never change their meaning.
type pruneJSON struct {
	Archive  string            `json:"archive"`
	SystemID string            `json:"system_identifier"`
	DryRun   bool              `json:"dry_run"`
	Start    segment.LSN       `json:"start_lsn,omitzero"`
	Backups  []pruneBackupJSON `json:"backups"`
	Removed  []pruneSumJSON    `json:"removed"`
	Bytes    int64             `json:"bytes"`
	Notes    []string          `json:"notes"`
	Problems []string          `json:"problems"`
}

type pruneBackupJSON struct {
	ID       string       `json:"id"`
	State    backup.State `json:"state"`
	Started  time.Time    `json:"started,omitzero"`
	Finished time.Time    `json:"finished,omitzero"`
	Start    segment.LSN  `json:"start_lsn,omitzero"`
	Stored   int64        `json:"stored_size"`
	Keep     bool         `json:"keep"`
	Why      string       `json:"why"`
}

type pruneSumJSON struct {
	What    string `json:"what"`
	Objects int64  `json:"objects"`
	Bytes   int64  `json:"bytes"`
}

func (r *pruneReport) json(w io.Writer) error {
	doc := pruneJSON{
		Archive: r.location.String(), SystemID: strconv.FormatUint(r.id.SystemID, 10), DryRun: r.result == nil, Start: r.plan.Start,
		Backups: []pruneBackupJSON{}, Removed: []pruneSumJSON{}, Bytes: prune.Total(r.sums()).Bytes,
		Notes: append([]string{}, r.plan.Notes...), Problems: append([]string{}, r.plan.Problems...),
	}
	for _, v := range r.plan.Backups {
		one := pruneBackupJSON{ID: v.ID, State: v.State, Started: v.Started, Start: v.StartLSN, Stored: v.Stored, Keep: v.Keep, Why: v.Why}
		if v.Backup != nil {
			one.Finished = v.Backup.Finished
		}
		doc.Backups = append(doc.Backups, one)
	}
	for _, s := range r.sums() {
		doc.Removed = append(doc.Removed, pruneSumJSON(s))
	}
	return writeJSON(w, doc)
}
