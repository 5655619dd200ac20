package status

import (
	"slices"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/segment"
)

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
	for _, span := range g.line { // oldest first
		span.First, span.Last = max(span.First, stretch.First), min(span.Last, stretch.Last)
		first, last := g.survey.Commits(span)
		if first.IsZero() {
			continue
		}
		if w.FirstCommit.IsZero() {
			w.FirstCommit = first.UTC()
		}
		w.LastCommit = last.UTC()
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
