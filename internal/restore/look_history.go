package restore

import (
	"context"

	"github.com/walrecv/walrecv/internal/pgdata"
	"github.com/walrecv/walrecv/segment"
)

// lookHistory is one look for a history file. On delivered it is in its place.
func (c *call) lookHistory(a *attempt) finding {
	if c.ahead == nil {
		c.ahead = c.prefetching()
	}
	c.ahead.tell(tellHistories)
	c.ahead.sweep()
	c.ahead.prepare()
	data, f := c.searchHistory(a, c.req.history)
	if f.verdict != delivered {
		return f
	}
	s, err := c.stage(0, int64(len(data)), "")
	if err == nil {
		_, err = s.file.WriteAt(data, 0)
		if err != nil {
			s.discard()
		} else {
			err = s.deliver(c.target)
		}
	}
	if err != nil {
		return judge(&localError{err})
	}
	return f
}

// searchHistory looks for a history file, which is delivered if it was found. It
// is proven to be absent if no place has it, and none has anything of its
// timeline or of a later one: the server probes one timeline after the other and
// stops at the first that is missing, so it would never see a later one.
func (c *call) searchHistory(a *attempt, timeline segment.TimelineID) ([]byte, finding) {
	var t troubles
	c.expect(a).history(timeline)
	// Twice, because it may move from one place to the next meanwhile.
	for range 2 {
		data, err := c.history(a, timeline, &t)
		if err == nil {
			return data, c.credible(a, timeline, data)
		}
		if t.any() {
			return nil, t.worst
		}
	}
	held := c.held(a, segment.Name{Timeline: timeline}, &t)
	if t.any() {
		return nil, t.worst
	}
	later := held.timelines(timeline)
	if len(later) == 0 && !held.has(timeline) {
		return nil, finding{verdict: absent}
	}
	known, err := c.knowsLater(timeline)
	switch {
	case err != nil:
		return nil, finding{unknown, err}
	case known:
		return nil, finding{verdict: absent}
	case held.has(timeline):
		return nil, judge(problemf(hole, "it is missing, but there is WAL of timeline %d: bring the file back", uint32(timeline)))
	}
	return nil, judge(problemf(hole, "it is missing, but timeline %d is there, which the server would not find: "+
		"bring the file back, or set recovery_target_timeline to the number of the wanted timeline", uint32(later[0])))
}

// knowsLater tells whether pg_wal has the history of a later timeline. Then the
// server was told its target, and asks only to have the histories in between,
// which it can do without.
func (c *call) knowsLater(t segment.TimelineID) (bool, error) {
	l, err := c.dir.Histories(t)
	return len(l.Sound) > 0, err
}

// credible checks a history that was found against what else is there: it has no
// digest, and one that is wrong takes the server to another branch. No WAL of a
// timeline lies before its fork, and its history goes on where its parent's ends.
// It is delivered if nothing speaks against it.
func (c *call) credible(a *attempt, timeline segment.TimelineID, data []byte) finding {
	h, err := pgdata.ParseHistory(timeline, data)
	if err != nil {
		return judge(err)
	}
	var t troubles
	last := len(h.Entries) - 1
	parent, fork := h.Entries[last].Timeline, h.Entries[last].End
	if number, ok := c.first(a, timeline, &t); ok && number < c.size.Number(fork) {
		t.add(finding{damaged, problemf(damaged, "it says that timeline %d begins at %s, but there is WAL of it before: segment %s",
			uint32(timeline), fork, segment.Name{Timeline: timeline, Number: number}.Format(c.size))})
	}
	if parent > 1 && !t.any() {
		c.continues(a, h, parent, &t)
	}
	if t.any() {
		return t.worst
	}
	return finding{verdict: delivered}
}

// continues checks that a history goes on where its parent's ends, wherever that
// is found. A damaged one says nothing about its child's.
func (c *call) continues(a *attempt, h segment.History, parent segment.TimelineID, t *troubles) {
	for _, p := range c.places {
		data, err := c.historyIn(a, p, parent)
		if err != nil {
			if f := c.troubled(p, err); !isAbsent(err) && f.verdict != damaged {
				t.add(f)
			}
			continue
		}
		theirs, err := pgdata.ParseHistory(parent, data)
		if err == nil && !h.Continues(theirs) {
			t.add(finding{damaged, problemf(damaged, "it does not go on where %s ends", segment.HistoryName(parent))})
		}
	}
}

// first is the lowest number of a segment of which any place has anything.
func (c *call) first(a *attempt, timeline segment.TimelineID, t *troubles) (lowest uint64, any bool) {
	for _, p := range c.places {
		src, err := c.source(a, p)
		var number uint64
		var ok bool
		if err == nil {
			number, err = within(a, func(ctx context.Context) (n uint64, err error) {
				n, ok, err = src.first(ctx, timeline)
				return n, err
			})
		}
		if err != nil {
			t.add(c.troubled(p, err))
			continue
		}
		if ok && (!any || number < lowest) {
			lowest, any = number, true
		}
	}
	return lowest, any
}
