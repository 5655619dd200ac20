package status

import (
	"slices"
	"time"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/segment"
)

// segmentCommits are the times of the first and the last commit in a segment.
type segmentCommits struct {
	name        segment.Name
	first, last time.Time
}

// commit keeps the times of a segment that lies on the way to the end of the
// newest timeline: only in the end it is known where the window begins.
func (g *gatherer) commit(name segment.Name, s *segment.Summary) {
	i, found := slices.BinarySearchFunc(g.line, name.Number, func(span archive.Span, number uint64) int {
		switch {
		case span.Last < number:
			return -1
		case span.First > number:
			return 1
		}
		return 0
	})
	if found && g.line[i].Timeline == name.Timeline {
		g.commits = append(g.commits, segmentCommits{name, s.FirstCommit.UTC(), s.LastCommit.UTC()})
	}
}

// window finds the newest WAL that nothing is known to be wrong with.
func (g *gatherer) window() {
	stretch, ok := g.newestSound()
	if !ok {
		return
	}
	w := &Window{Timeline: g.report.Timeline, Start: g.size.Start(stretch.First), End: segment.Name{Number: stretch.Last}.End(g.size)}
	if stretch.Last == g.line[len(g.line)-1].Last {
		w.End = max(w.End, g.listing.TailEnd(segment.Name{Timeline: segment.TimelineID(w.Timeline), Number: stretch.Last + 1}))
	}
	for _, c := range g.commits { // oldest first, as timelines on a line are
		if c.name.Number < stretch.First || c.name.Number > stretch.Last {
			continue
		}
		if w.FirstCommit.IsZero() {
			w.FirstCommit = c.first
		}
		w.LastCommit = c.last
	}
	g.report.Window = w
}

// newestSound goes back along the line, over its timelines, to the first segment
// that is missing or broken.
func (g *gatherer) newestSound() (stretch archive.Range, ok bool) {
	for _, span := range slices.Backward(g.line) {
		if ok && span.Last+1 != stretch.First {
			return stretch, true
		}
		for n := span.Last; ; n-- {
			sound := !g.broken[segment.Name{Timeline: span.Timeline, Number: n}]
			switch {
			case sound && !ok:
				stretch, ok = archive.Range{First: n, Last: n}, true
			case sound:
				stretch.First = n
			case ok:
				return stretch, true
			}
			if n == span.First {
				break
			}
		}
	}
	return stretch, ok
}
