package restore

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/walrecv/walrecv/internal/pgdata"
	"github.com/walrecv/walrecv/segment"
)

// forkLimit is where the server leaves timeline t: segments of t are good up to
// there. It is MaxLSN if the histories know of no descendant of t. They are those
// of pg_wal above t, and those that were noted and are there.
//
// The highest timeline that has t as an ancestor is taken for the one that the
// server goes to. Siblings of it do not count. A history that contradicts it
// about a common ancestor, or one above it that cannot be read, leaves the way of
// the server unknown.
func forkLimit(t segment.TimelineID, local pgdata.Histories) (segment.LSN, error) {
	slices.SortFunc(local.Sound, func(a, b segment.History) int { return cmp.Compare(b.Timeline, a.Timeline) })
	limit, goal := segment.MaxLSN, segment.History{}
	for _, h := range local.Sound {
		_, end, ok := h.Bounds(t)
		_, left, common := goal.Bounds(h.Timeline)
		switch {
		case !ok:
			continue
		case goal.Timeline == 0:
			goal, limit = h, end
		case common && min(end, left) != limit:
			return 0, problemf(damaged, "the histories of timelines %d and %d in pg_wal disagree: timeline %d ends at %s or at %s",
				uint32(h.Timeline), uint32(goal.Timeline), uint32(t), end, limit)
		}
	}
	for timeline, err := range local.Broken {
		if timeline > goal.Timeline {
			return 0, problemf(damaged, "%s in pg_wal: %w", segment.HistoryName(timeline), err)
		}
	}
	return limit, nil
}

// holdings is what a place holds, by name.
type holdings interface {
	// Timelines are those of which anything is there.
	Timelines() []segment.TimelineID
	HasHistory(segment.TimelineID) bool
	// Has tells whether a segment is there, complete.
	Has(segment.Name) bool
	// After tells whether a later segment of the same timeline is there,
	// complete or not.
	After(segment.Name) bool
}

// everything is what all places hold.
type everything []holdings

// timelines are those above t of which anything is there, ascending.
func (e everything) timelines(t segment.TimelineID) []segment.TimelineID {
	var all []segment.TimelineID
	for _, h := range e {
		for _, timeline := range h.Timelines() {
			if timeline > t {
				all = append(all, timeline)
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func (e everything) hasHistory(t segment.TimelineID) bool {
	return slices.ContainsFunc(e, func(h holdings) bool { return h.HasHistory(t) })
}

func (e everything) hasSegment(n segment.Name) bool {
	return slices.ContainsFunc(e, func(h holdings) bool { return h.Has(n) })
}

func (e everything) after(n segment.Name) bool {
	return slices.ContainsFunc(e, func(h holdings) bool { return h.After(n) })
}

// has tells whether anything of a timeline is there.
func (e everything) has(t segment.TimelineID) bool {
	return slices.ContainsFunc(e, func(h holdings) bool { return slices.Contains(h.Timelines(), t) })
}

// owed is how far, within segment n, its timeline's WAL must go according to
// what is held: to the end if a later segment of the timeline is there, and to
// every fork at which a later timeline left it. It is the segment's start if
// nothing tells that there must be anything; why says what does.
func owed(n segment.Name, size segment.Size, held everything, histories []segment.History) (end segment.LSN, why string) {
	end = n.Start(size)
	if held.after(n) {
		return n.End(size), fmt.Sprintf("later segments of timeline %d are there", uint32(n.Timeline))
	}
	for _, h := range histories {
		_, fork, ok := h.Bounds(n.Timeline)
		if !ok || h.Timeline == n.Timeline || fork <= end {
			continue
		}
		end = min(fork, n.End(size))
		why = fmt.Sprintf("timeline %d goes on from timeline %d at %s", uint32(h.Timeline), uint32(n.Timeline), fork)
	}
	return end, why
}

// firstFork is the lowest fork within segment n, at which a later timeline left
// n's, or MaxLSN.
func firstFork(n segment.Name, size segment.Size, histories []segment.History) segment.LSN {
	first := segment.MaxLSN
	for _, h := range histories {
		_, fork, ok := h.Bounds(n.Timeline)
		if ok && h.Timeline != n.Timeline && fork > n.Start(size) && fork < n.End(size) {
			first = min(first, fork)
		}
	}
	return first
}
