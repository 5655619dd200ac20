package status

import (
	"context"
	"errors"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/segment"
)

// look lays out the timelines of what is there now, without what is accepted to be
// missing.
func (g *gatherer) look(ctx context.Context, a *archive.Archive) (archive.Look, error) {
	l, err := a.Listing(ctx)
	if err != nil {
		return archive.Look{}, err
	}
	var gaps []segment.Gap
	if gaps, g.gapsDamage, err = splitDamage(a.Gaps(ctx)); err != nil {
		return archive.Look{}, err
	}
	histories, damaged, err := a.Histories(ctx, l)
	if err != nil {
		return archive.Look{}, err
	}
	return archive.Look{Listing: l, Chain: archive.NewChain(l, histories, damaged, gaps)}, nil
}

// splitDamage tells findings that are damaged from a store that does not answer.
func splitDamage[T any](found []T, err error) (_ []T, damage, trouble error) {
	var damaged *archive.DamagedError
	if err != nil && !errors.As(err, &damaged) {
		return nil, nil, err
	}
	return found, err, nil
}

// readMarks reads where the WAL is damaged.
func (g *gatherer) readMarks(ctx context.Context, a *archive.Archive, l *archive.Listing) error {
	marks, damage, err := splitDamage(a.Marks(ctx))
	if err != nil {
		return err
	}
	g.marksDamage = damage
	for _, m := range marks {
		if l.IsPruned(m.Name) {
			continue
		}
		g.broken[m.Name] = true
		g.marks[m.Name] = append(g.marks[m.Name], len(g.report.Marks))
		g.marked = append(g.marked, m)
		g.report.Marks = append(g.report.Marks, Mark{
			Timeline:   uint32(m.Name.Timeline),
			Segment:    m.Name.Format(g.size),
			LSN:        m.LSN,
			SoundUntil: m.End,
			Reason:     m.Reason,
			Found:      m.Found.UTC(),
		})
	}
	return nil
}

// clearMarks finds the marks that are history: the segment was archived, and read,
// in order.
func (g *gatherer) clearMarks(info archive.SegmentInfo) {
	left := false
	for _, i := range g.marks[info.Name] {
		g.report.Marks[i].Cleared = info.Clears(g.marked[i])
		left = left || !g.report.Marks[i].Cleared
	}
	if !left {
		delete(g.broken, info.Name)
	}
}

// follow finds the way to the end of the newest timeline: as far as it goes without
// segments that can still be on their way, if there is anything before them.
func (g *gatherer) follow() {
	current := g.chain.Current()
	if current == nil {
		return
	}
	g.report.Timeline = uint32(current.Timeline)
	g.line = g.chain.Line(current.Timeline)
	for _, b := range g.chain.Branches {
		for _, h := range b.Holes {
			reach := current.History.Segment(h.First, g.size)
			if h.Arriving && reach[len(reach)-1] == h.Timeline {
				g.line = before(g.line, h.First)
			}
		}
	}
}

// before is the part of a line that lies in front of a hole; all of it if none does.
func before(line []archive.Span, hole uint64) []archive.Span {
	for i, span := range line {
		if span.First > hole && i > 0 {
			return line[:i]
		}
	}
	return line
}
