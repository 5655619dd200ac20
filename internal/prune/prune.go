// Package prune removes from an archive what a recovery window does not need any more:
// base backups, and the WAL before the oldest that is kept. What goes is decided first,
// from listings, and can be shown; then it is removed.
//
// What stays is always enough by itself: of every base backup that is kept, and of one
// that is being taken, all WAL from its start on, every history file, and the newest
// segment. Before WAL is removed, the archive is told up to where ([archive.Pruned]), so
// that it can be removed in any order and by several at a time: an archive of which half
// was removed is as good as one of which all was. A prune that was interrupted is
// finished by the next.
package prune

import (
	"time"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/backup"
	"github.com/walrecv/walrecv/segment"
)

// Rule says what is to stay. Either Before or BeforeTime is given, or Window, Keep or
// both, and then what either of them wants stays.
type Rule struct {
	// Before removes the segments before the one with a position, and BeforeTime those
	// that a base backup does not need that begins at a time or later.
	Before     segment.LSN
	BeforeTime time.Time
	// Window keeps what a recovery to any moment needs that is not longer ago.
	Window time.Duration
	// Keep is how many of the newest good base backups stay at least.
	Keep int
}

// byPlace tells whether a place in the WAL is given, be it the very first one.
func (r Rule) byPlace() bool { return r.Before != 0 || !r.BeforeTime.IsZero() }

// Pruner prunes one archive.
type Pruner struct {
	archive *archive.Archive
	id      archive.Identity
	rule    Rule
	now     time.Time
}

// New makes a Pruner. now is the time against which ages are measured. It does not count
// as later than when something was added to the archive last, by the store's clock.
func New(a *archive.Archive, rule Rule, now time.Time) *Pruner {
	return &Pruner{archive: a, id: a.Identity(), rule: rule, now: now}
}

// Plan is what is to be done.
type Plan struct {
	// Start is the start of the first segment that stays; 0: no WAL goes. Later
	// timelines than Timeline are not concerned.
	Start    segment.LSN
	Timeline segment.TimelineID

	Backups  []Verdict // oldest first
	Sums     []Sum     // what goes, by kind; never of nothing
	Notes    []string  // why other things stay than the rule says
	Problems []string  // what is wrong with the archive

	said []archive.Pruned // what was removed before, or was to be
}

// Verdict is what becomes of a base backup.
type Verdict struct {
	backup.Entry
	Keep bool
	Why  string // for people
}

// Sum is how much there is of some kind.
type Sum struct {
	What    string // "segments", "partials", ...
	Objects int64
	Bytes   int64
}

// Total is the sum of all.
func Total(sums []Sum) (total Sum) {
	for _, s := range sums {
		total.Objects += s.Objects
		total.Bytes += s.Bytes
	}
	return total
}
