package backup

import (
	"context"
	"errors"
	"fmt"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/segment"
)

// Needed is the WAL without which a backup cannot be restored.
type Needed struct {
	Timeline, EndTimeline segment.TimelineID
	Start, End            segment.LSN // the segment of Start is needed from its beginning
}

// Needed is the WAL that the backup needs.
func (b *Backup) Needed() Needed {
	return Needed{Timeline: b.Timeline, EndTimeline: b.EndTimeline, Start: b.StartLSN, End: b.EndLSN}
}

// WAL is what an archive has of the WAL that a backup needs.
type WAL struct {
	Until   segment.LSN // all is there before, from the beginning of the first segment on
	Missing string      // the first file that is missing; "": all is there
	Hole    bool        // something later is there, so that nobody may bring it any more
	Problem error       // what is wrong with the timelines' histories, which no waiting mends

	sealed map[segment.Name]bool // those that are complete
}

// Complete tells whether all is there.
func (w WAL) Complete() bool { return w.Missing == "" && w.Problem == nil }

// Err says what is missing; nil if nothing is.
func (w WAL) Err() error {
	switch {
	case w.Problem != nil:
		return w.Problem
	case w.Missing == "":
		return nil
	case w.Hole:
		return fmt.Errorf("%s is missing in the archive, which has later WAL", w.Missing)
	}
	return fmt.Errorf("%s is not in the archive yet", w.Missing)
}

// Look sees which WAL an archive has.
func Look(ctx context.Context, a *archive.Archive) (archive.Look, error) { return look(ctx, a, 0) }

// Find looks for the WAL in an archive, and at nothing before it.
func (n Needed) Find(ctx context.Context, a *archive.Archive) (WAL, error) {
	size := a.Identity().SegmentSize
	found, err := look(ctx, a, size.Number(n.Start))
	if err != nil {
		return WAL{}, err
	}
	return n.In(found, size), nil
}

// look sees which WAL an archive has from a segment on.
func look(ctx context.Context, a *archive.Archive, number uint64) (archive.Look, error) {
	l, err := a.ListingFrom(ctx, number)
	if err != nil {
		return archive.Look{}, err
	}
	histories, damaged, err := a.Histories(ctx, l)
	if err != nil {
		return archive.Look{}, err
	}
	// Gaps that were accepted are holes all the same.
	return archive.Look{Listing: l, Chain: archive.NewChain(l, histories, damaged, nil)}, nil
}

// In says what an archive with segments of a size had of the WAL when it was looked at.
func (n Needed) In(look archive.Look, size segment.Size) WAL {
	first := size.Number(n.Start)
	w := WAL{Until: size.Start(first), sealed: map[segment.Name]bool{}}
	h, err := n.history(look.Chain)
	switch {
	case errors.Is(err, archive.ErrNoHistory):
		w.Missing, w.Hole = segment.HistoryName(n.EndTimeline), len(look.Listing.Ranges(n.EndTimeline)) > 0
		return w
	case err != nil:
		w.Problem = err
		return w
	}
	for number := first; number <= size.Number(n.End-1); number++ {
		on := h.Segment(number, size)
		name := segment.Name{Timeline: on[len(on)-1], Number: number}
		w.sealed[name] = look.Listing.Has(name)
		need := min(name.End(size), n.End)
		have := reach(look, name, size)
		if have < need {
			have = max(have, reachOfChildren(look, name, need, size))
		}
		w.Until = max(w.Until, min(have, need))
		if have < need {
			w.Missing = name.Format(size)
			w.Hole = laterThan(look.Listing, h, name)
			return w
		}
	}
	return w
}

// history is that of the end's timeline, which the start's must belong to.
func (n Needed) history(c *archive.Chain) (segment.History, error) {
	h := segment.History{Timeline: n.EndTimeline}
	if n.EndTimeline > 1 {
		b := c.Branch(n.EndTimeline)
		if b == nil {
			return h, archive.ErrNoHistory
		}
		if b.Problem != nil {
			return h, fmt.Errorf("timeline %d: %w", uint32(n.EndTimeline), b.Problem)
		}
		h = b.History
	}
	if begin, end, ok := h.Bounds(n.Timeline); !ok || n.Start < begin || n.Start >= end {
		return h, fmt.Errorf("by the history of timeline %d the backup cannot have begun at %s on timeline %d", uint32(n.EndTimeline), n.Start, uint32(n.Timeline))
	}
	return h, nil
}

// reach is where the WAL ends that is there of a segment, complete or in the tail.
func reach(look archive.Look, name segment.Name, size segment.Size) segment.LSN {
	if look.Listing.Has(name) {
		return name.End(size)
	}
	return min(look.Listing.TailEnd(name), name.End(size))
}

// reachOfChildren is where the WAL ends that is there of a segment that was never
// completed, since its timeline was left in it: in a partial of its own, or in the
// beginning of a child's segment. Below need it says nothing.
func reachOfChildren(look archive.Look, name segment.Name, need segment.LSN, size segment.Size) segment.LSN {
	var most segment.LSN
	for _, b := range look.Chain.Branches {
		if b.Parent != name.Timeline || b.Fork < need || size.Number(b.Fork) != name.Number {
			continue
		}
		if len(look.Listing.Partials(name)) > 0 {
			return b.Fork
		}
		child := segment.Name{Timeline: b.Timeline, Number: name.Number}
		most = max(most, min(b.Fork, reach(look, child, size)))
	}
	return most
}

// laterThan tells whether anything is there of a later segment, on the same timeline
// or on one of the history that follows it.
func laterThan(l *archive.Listing, h segment.History, name segment.Name) bool {
	if l.After(name) {
		return true
	}
	for _, t := range l.Timelines() {
		if t > name.Timeline && h.Contains(t) && l.After(segment.Name{Timeline: t, Number: name.Number}) {
			return true
		}
	}
	return false
}
