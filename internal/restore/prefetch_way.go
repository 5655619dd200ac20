package restore

import (
	"slices"

	"github.com/walrecv/walrecv/internal/pgdata"
	"github.com/walrecv/walrecv/segment"
)

// way is how a recovery goes on from a timeline, by the histories in pg_wal. Like
// [forkLimit] it takes the highest timeline that descends from it for the one that the
// server goes to. What it is wrong about is fetched in vain, and not asked for.
func way(t segment.TimelineID, local pgdata.Histories) segment.History {
	goal := segment.History{Timeline: t}
	for _, h := range local.Sound {
		if h.Timeline > goal.Timeline && h.Contains(t) {
			goal = h
		}
	}
	return goal
}

// candidates are the segments with a number that a server asks for which comes from
// timeline t, in its order: the newest timeline first, and none before t.
func candidates(w segment.History, t segment.TimelineID, number uint64, size segment.Size) []segment.Name {
	var names []segment.Name
	for _, timeline := range slices.Backward(w.Segment(number, size)) {
		if timeline >= t {
			names = append(names, segment.Name{Timeline: timeline, Number: number})
		}
	}
	return names
}
