package recovery

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/backup"
	"github.com/walrecv/walrecv/segment"
)

// line is the way to the end of a timeline, over those that it came from.
type line struct {
	timeline segment.TimelineID
	history  segment.History
	spans    []archive.Span
	broken   []segment.Name // those of its segments that end a recovery, ascending
}

// line finds the way to the end of a timeline. The error says what keeps everybody
// from finding it.
func (s *Survey) line(t segment.TimelineID) (*line, error) {
	b := s.chain.Branch(t)
	if b == nil {
		return nil, fmt.Errorf("there is no timeline %d in the archive", uint32(t))
	}
	if b.Problem != nil {
		return nil, fmt.Errorf("timeline %d: %w", uint32(t), b.Problem)
	}
	l := &line{timeline: t, history: b.History, spans: s.chain.Line(t)}
	for name := range s.broken {
		if l.has(name) {
			l.broken = append(l.broken, name)
		}
	}
	slices.SortFunc(l.broken, func(a, b segment.Name) int { return cmp.Compare(a.Number, b.Number) })
	return l, nil
}

// span is the index of the first span that reaches to a number or beyond.
func (l *line) span(number uint64) int {
	i, _ := slices.BinarySearchFunc(l.spans, number, func(span archive.Span, number uint64) int { return cmp.Compare(span.Last, number) })
	return i
}

// name is the segment of the line with a number, if it can be had.
func (l *line) name(number uint64) (segment.Name, bool) {
	i := l.span(number)
	if i == len(l.spans) || l.spans[i].First > number {
		return segment.Name{}, false
	}
	return segment.Name{Timeline: l.spans[i].Timeline, Number: number}, true
}

func (l *line) has(name segment.Name) bool {
	n, ok := l.name(name.Number)
	return ok && n == name
}

// leads tells whether a recovery that starts from a base backup goes along the line:
// it begins before the line leaves the backup's timeline, and is consistent by then.
func (l *line) leads(b *backup.Backup) bool {
	on := func(t segment.TimelineID, at segment.LSN) bool {
		begin, end, ok := l.history.Bounds(t)
		return ok && begin <= at && at <= end
	}
	return on(b.Timeline, b.StartLSN) && on(b.EndTimeline, b.EndLSN)
}

// run is WAL without a hole along a line, from where it was asked for.
type run struct {
	line *line
	from uint64      // number of the first segment
	end  segment.LSN //
	edge *edge       // the part of a segment that it ends with, nil if there is none
	why  string      // what keeps it from going on, "" if the archive has nothing behind it
}

// run follows a line from a segment on.
func (s *Survey) run(l *line, from uint64) run {
	r := run{line: l, from: from}
	next := from
	for _, span := range l.spans[l.span(from):] {
		if span.First > next {
			break
		}
		if bad, ok := l.brokenFrom(next, span.Last); ok {
			r.end = bad.Start(s.size)
			r.why = fmt.Sprintf("segment %s: %s", bad.Format(s.size), s.broken[bad])
			return r
		}
		next = span.Last + 1
	}
	r.end = s.size.Start(next)
	e := s.edge(l, next)
	if e == nil {
		r.why = s.hole(l, next, r.end)
		return r
	}
	// A segment of which something is missing is not delivered at all.
	if r.why = s.hole(l, next, e.end); r.why == "" {
		r.edge, r.end = e, e.end
	}
	return r
}

// brokenFrom is the first segment of the line that ends a recovery, of those with the
// numbers from first to last.
func (l *line) brokenFrom(first, last uint64) (segment.Name, bool) {
	i, _ := slices.BinarySearchFunc(l.broken, first, func(n segment.Name, number uint64) int { return cmp.Compare(n.Number, number) })
	if i == len(l.broken) || l.broken[i].Number > last {
		return segment.Name{}, false
	}
	return l.broken[i], true
}

// hole says why there must be more WAL on a line than up to end, in segment number,
// "" if nothing tells so, or if it can still be on its way.
func (s *Survey) hole(l *line, number uint64, end segment.LSN) string {
	at := l.history.TimelineAt(end)
	if b := s.chain.Branch(at); b != nil && slices.ContainsFunc(b.Holes, func(h archive.Hole) bool {
		return h.Arriving && h.Gap == nil && h.First <= number && number <= h.Last
	}) {
		return ""
	}
	name := segment.Name{Timeline: l.timeline, Number: number}
	missing := segment.Name{Timeline: at, Number: number}.Format(s.size)
	if s.listing.After(name) {
		return fmt.Sprintf("there is a hole at %s: segment %s is missing, and later ones are there", end, missing)
	}
	for i := range s.chain.Branches {
		b := &s.chain.Branches[i]
		_, left, ok := b.History.Bounds(at)
		if ok && b.Timeline != at && left > end {
			return fmt.Sprintf("there is a hole at %s: segment %s is missing, and timeline %d went on from timeline %d at %s",
				end, missing, uint32(b.Timeline), uint32(at), left)
		}
	}
	return ""
}

// edge is what there is of a segment that is not complete, behind all that are.
type edge struct {
	name   segment.Name
	end    segment.LSN     // up to here it can be had
	limit  segment.LSN     // up to here it belongs to the line
	chunks []archive.Chunk // that hold it up to end; else it is
	whole  bool            // an ancestor's complete segment, or
	parts  []archive.Partial
}

// edge finds what restore_command is given for the segment behind the complete ones:
// of the newest timeline that has anything of it, and no more of an ancestor's than
// up to the fork. How much of a partial is WAL is not known before it is read: up to
// the last fork at least.
func (s *Survey) edge(l *line, number uint64) *edge {
	for _, t := range slices.Backward(l.history.Segment(number, s.size)) {
		name := segment.Name{Timeline: t, Number: number}
		_, fork, _ := l.history.Bounds(t)
		e := &edge{name: name, limit: min(fork, name.End(s.size))}
		e.end = e.limit
		if s.listing.Has(name) {
			e.whole = true
			return e
		}
		chunks, covered := archive.Cover(s.listing.Chunks(name), 0)
		e.parts = s.listing.Partials(name)
		if covered > 0 {
			e.chunks, e.parts = chunks, nil
			e.end = min(e.limit, name.Start(s.size)+segment.LSN(covered))
			return e
		}
		if len(e.parts) > 0 {
			e.end = min(e.limit, s.lastFork(name))
			return e
		}
	}
	return nil
}

// lastFork is the highest place in a segment at which a timeline is known to have left
// its own: its WAL goes as far. It is the segment's start without one.
func (s *Survey) lastFork(name segment.Name) segment.LSN {
	last := name.Start(s.size)
	for i := range s.chain.Branches {
		b := &s.chain.Branches[i]
		if _, end, ok := b.History.Bounds(name.Timeline); ok && b.Timeline != name.Timeline && end <= name.End(s.size) {
			last = max(last, end)
		}
	}
	return last
}

// measured is a run whose end is known exactly: if it ends with a partial, that is
// read.
func (s *Survey) measured(ctx context.Context, r run) (run, error) {
	if r.edge == nil || len(r.edge.parts) == 0 {
		return r, nil
	}
	end, known := s.partialEnds[r.edge.name]
	if !known {
		var err error
		if _, end, err = s.longest(ctx, r.line, r.edge); err != nil {
			return r, err
		}
		s.partialEnds[r.edge.name] = end
	}
	if end = min(end, r.edge.limit); end > r.end {
		e := *r.edge
		e.end, r.end, r.edge = end, end, &e
		r.why = s.hole(r.line, e.name.Number, end)
	}
	return r, nil
}
