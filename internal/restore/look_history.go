package restore

import "github.com/walrecv/walrecv/segment"

// lookHistory is one look for a history file. On delivered it is in its place.
func (c *call) lookHistory(a *attempt) finding {
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
	// Twice, because it may move from one place to the next meanwhile.
	for range 2 {
		data, err := c.history(a, timeline, &t)
		if err == nil {
			return data, finding{verdict: delivered}
		}
		if t.any() {
			return nil, t.worst
		}
	}
	held := c.held(a, &t)
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
	l, err := c.dir.histories(t)
	return len(l.sound) > 0, err
}
