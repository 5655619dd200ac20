package archive

import (
	"github.com/walrecv/walrecv/segment"
)

// holes finds what a timeline must have and has not. there is what was listed of
// it, which may be nil.
func (c *Chain) holes(b *Branch, there *timelineListing, gaps []segment.Gap) []Hole {
	next, ok := c.needFrom(b)
	if !ok {
		return nil
	}
	end := c.needTo(b, there, gaps)
	var holes []Hole
	for _, r := range b.held {
		if r.First > next {
			holes = c.appendHoles(holes, Hole{Timeline: b.Timeline, First: next, Last: min(r.First, end) - 1}, gaps)
		}
		if next = max(next, r.Last+1); next >= end {
			return holes
		}
	}
	if next < end {
		holes = c.appendHoles(holes, Hole{Timeline: b.Timeline, First: next, Last: end - 1}, gaps)
	}
	return holes
}

// needFrom is the first segment that a timeline must have.
func (c *Chain) needFrom(b *Branch) (number uint64, ok bool) {
	if c.older(b.History) {
		return c.size.Number(b.Fork), true
	}
	if len(b.held) > 0 {
		return b.held[0].First, true
	}
	return 0, false
}

// older tells whether there is WAL of an ancestor on the way to its descendant.
func (c *Chain) older(h segment.History) bool {
	for _, e := range h.Entries {
		b := c.Branch(e.Timeline)
		if b != nil && len(b.held) > 0 && b.held[0].First < c.size.Number(e.End) {
			return true
		}
	}
	return false
}

// needTo is the number behind the last segment that a timeline must have, given
// that it has those that were listed.
func (c *Chain) needTo(b *Branch, there *timelineListing, gaps []segment.Gap) uint64 {
	var end uint64
	if there != nil && there.any {
		end = there.highest
	}
	for i := range c.Branches {
		if child := &c.Branches[i]; child.Parent == b.Timeline {
			end = max(end, c.size.Number(child.Fork))
		}
	}
	for _, g := range gaps {
		if g.Timeline == b.Timeline {
			end = max(end, c.size.Number(g.To))
		}
	}
	return end
}

// appendHoles appends a hole, in pieces where a gap covers a part of it.
func (c *Chain) appendHoles(holes []Hole, h Hole, gaps []segment.Gap) []Hole {
	for {
		piece := c.coveredAlike(h, gaps)
		holes = append(holes, piece)
		if piece.Last == h.Last {
			return holes
		}
		h.First = piece.Last + 1
	}
}

// coveredAlike is the longest part of a hole, from its beginning, that is covered
// by one gap, or by none.
func (c *Chain) coveredAlike(h Hole, gaps []segment.Gap) Hole {
	for i := range gaps {
		from, to, ok := c.reach(&gaps[i], h.Timeline)
		switch {
		case !ok || to <= h.First || from > h.Last:
		case from <= h.First:
			return Hole{Timeline: h.Timeline, First: h.First, Last: min(h.Last, to-1), Gap: &gaps[i]}
		default:
			h.Last = from - 1
		}
	}
	return h
}

// reach is what a gap covers of a timeline, which may be an ancestor of the gap's
// own: the numbers from, up to but not to.
func (c *Chain) reach(g *segment.Gap, t segment.TimelineID) (from, to uint64, ok bool) {
	from, to = c.size.Number(g.From), c.size.Number(g.To)
	if g.Timeline == t {
		return from, to, true
	}
	newest := c.Branch(g.Timeline)
	if newest == nil {
		return 0, 0, false
	}
	_, end, ok := newest.History.Bounds(t)
	to = min(to, c.size.Number(end))
	return from, to, ok && from < to
}
