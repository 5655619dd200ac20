package restore

import (
	"slices"

	"github.com/walrecv/walrecv/internal/pgdata"
	"github.com/walrecv/walrecv/segment"
)

// leaves finds where the server leaves the timeline of segment n, and whether it
// may have the segment at all: a finding with an error says that it may not.
func (c *call) leaves(a *attempt, n segment.Name) (segment.LSN, finding) {
	local, err := c.dir.Histories(n.Timeline)
	if err != nil {
		return 0, finding{unknown, err}
	}
	limit, err := forkLimit(n.Timeline, local)
	if err != nil {
		return 0, judge(err)
	}
	if c.note == nil || limit <= n.Start(c.size) {
		return limit, finding{}
	}
	limit, f := c.settleAll(a, n, limit)
	if f.err == nil {
		limit, f = c.settleHistories(a, n, limit)
	}
	if f.err != nil {
		return 0, f
	}
	return limit, c.settleSegments(a, n, local.Sound)
}

// settleAll deals with a note that could not be read. Every later timeline that
// the places know of might have been in it: as if its history were noted, and its
// first segment, which lies where n does if the fork is in n. Others cannot come
// before n. The note is over once there is no later timeline.
func (c *call) settleAll(a *attempt, n segment.Name, limit segment.LSN) (segment.LSN, finding) {
	if !c.note.All {
		return limit, finding{}
	}
	var t troubles
	held := c.held(a, n, &t)
	histories := c.descent(a, n.Timeline, held, &t)
	if t.any() {
		return 0, t.worst
	}
	for _, h := range histories {
		_, fork, ok := h.Bounds(n.Timeline)
		if !ok {
			continue
		}
		limit = min(limit, fork)
		if fork <= n.Start(c.size) || fork >= n.End(c.size) {
			continue
		}
		if f := c.settleSegment(a, segment.Name{Timeline: h.Timeline, Number: n.Number}); f.err != nil {
			return 0, f
		}
	}
	if len(held.timelines(n.Timeline)) == 0 {
		c.note.All, c.note.changed = false, true
	}
	return limit, finding{}
}

// settleHistories looks again for the noted histories. One that is absent is
// forgotten. One that is there limits what is delivered of its ancestors, as if
// it were in pg_wal already, where it will be when PostgreSQL asks for it again.
// So do those of later timelines: PostgreSQL has not asked for them, since it
// goes from one to the next.
func (c *call) settleHistories(a *attempt, n segment.Name, limit segment.LSN) (segment.LSN, finding) {
	for _, timeline := range c.note.histories() {
		_, f := c.searchHistory(a, timeline)
		switch f.verdict {
		case absent:
			c.note.settle(segment.HistoryName(timeline))
		case delivered:
			if timeline <= n.Timeline {
				continue // no descendant
			}
			lowest, f := c.lowestFork(a, n)
			if f.err != nil {
				return 0, f
			}
			limit = min(limit, lowest)
		default:
			return 0, judge(problemf(unknown, "%s must be found out first: %w", segment.HistoryName(timeline), f.err))
		}
	}
	return limit, finding{}
}

// lowestFork is the first place at which any later timeline has left that of
// segment n, or MaxLSN.
func (c *call) lowestFork(a *attempt, n segment.Name) (segment.LSN, finding) {
	var t troubles
	lowest := segment.MaxLSN
	for _, h := range c.descent(a, n.Timeline, c.held(a, n, &t), &t) {
		if _, end, ok := h.Bounds(n.Timeline); ok {
			lowest = min(lowest, end)
		}
	}
	if t.any() {
		return 0, t.worst
	}
	return lowest, finding{}
}

// settleSegments looks again for the noted segments that come before n. local are
// the histories in pg_wal above n's timeline.
func (c *call) settleSegments(a *attempt, n segment.Name, local []segment.History) finding {
	for _, m := range c.note.before(n, c.size) {
		if c.unrelated(a, m.Timeline, n.Timeline, local) {
			continue
		}
		if f := c.settleSegment(a, m); f.err != nil {
			return f
		}
	}
	return finding{}
}

// settleSegment looks again for a noted segment. One that is absent is forgotten;
// one that is there has to be asked for first.
func (c *call) settleSegment(a *attempt, m segment.Name) finding {
	file := m.Format(c.size)
	switch f := c.present(a, m); f.verdict {
	case absent:
		c.note.settle(file)
		return finding{}
	case delivered:
		return judge(problemf(withheld, "%s was unknown and is there now: the server has to ask for it first", file))
	default:
		return judge(problemf(unknown, "%s must be found out first: %w", file, f.err))
	}
}

// unrelated tells whether it is known that timeline t does not descend from
// ancestor.
func (c *call) unrelated(a *attempt, t, ancestor segment.TimelineID, local []segment.History) bool {
	i := slices.IndexFunc(local, func(h segment.History) bool { return h.Timeline == t })
	if i >= 0 {
		return !local[i].Contains(ancestor)
	}
	var ignored troubles
	data, err := c.history(a, t, &ignored)
	if err != nil {
		return false
	}
	h, err := pgdata.ParseHistory(t, data)
	return err == nil && !h.Contains(ancestor)
}

// present tells whether anything of a segment could be delivered: delivered if
// so. It looks in the same order as a search that delivers.
func (c *call) present(a *attempt, n segment.Name) finding {
	var t troubles
	is := func(*stream) error { return nil }
	if c.sealed(a, n, &t, is) || c.begun(a, n, &t) || c.sealed(a, n, &t, is) {
		return finding{verdict: delivered}
	}
	held := c.held(a, n, &t)
	histories := c.descent(a, n.Timeline, held, &t)
	if t.any() {
		return t.worst
	}
	if end, why := owed(n, c.size, held, histories); end > n.Start(c.size) {
		return judge(problemf(hole, "it is missing, but %s", why))
	}
	if c.removed(a, n, &t); t.any() {
		return t.worst
	}
	return finding{verdict: absent}
}
