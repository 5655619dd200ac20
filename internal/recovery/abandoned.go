package recovery

import (
	"context"
	"fmt"
	"time"

	"github.com/walrecv/walrecv/segment"
)

// noteAbandoned tells of a timeline that went on before the target time and is not on the
// way: PostgreSQL then recovers to where the way left it, and does not say so.
func (c *chooser) noteAbandoned(ctx context.Context, r run, p *Plan) {
	if c.target.Timeline != LatestTimeline {
		return // it was chosen
	}
	var use segment.TimelineID
	var fork segment.LSN
	for i := range c.chain.Branches {
		b := &c.chain.Branches[i]
		left := apart(r.line.history, b.History)
		if left <= max(fork, p.Backup.EndLSN-1) || left >= r.end || b.Timeline == r.line.timeline {
			continue
		}
		l, err := c.line(b.Timeline)
		if err != nil {
			continue // nobody could go there
		}
		// Who cannot read it cannot go there either: a note is no reason to fail.
		other, err := c.measured(ctx, c.run(l, c.size.Number(left)))
		if err != nil {
			continue
		}
		if in, err := c.endedBy(ctx, other, left, p.Target.Time); err != nil || !in {
			continue
		}
		if in, err := c.endedBy(ctx, r, left, p.Target.Time); err == nil && !in {
			use, fork = b.Timeline, left
		}
	}
	if use != 0 {
		p.note(fmt.Sprintf("timeline %d, which had gone on by then, is left at %s, and nothing of it behind that is recovered: --target-timeline %d goes along it",
			uint32(use), fork, uint32(use)))
	}
}

// apart is where two histories part, MaxLSN if they are the same.
func apart(a, b segment.History) segment.LSN {
	var at segment.LSN
	for at < segment.MaxLSN {
		t := a.TimelineAt(at)
		if t != b.TimelineAt(at) {
			break
		}
		_, endA, _ := a.Bounds(t)
		_, endB, _ := b.Bounds(t)
		at = min(endA, endB)
	}
	return at
}

// endedBy tells whether the first transaction that ended behind a position had ended by
// a time. Only where the archive does not say that of a segment it is read.
func (s *Survey) endedBy(ctx context.Context, r run, at segment.LSN, t time.Time) (bool, error) {
	if at >= r.end {
		return false, nil
	}
	var first time.Time
	read := func(to segment.LSN) error {
		return s.scan(ctx, r, at, to, func(rec *segment.Record) bool {
			if ends(rec) {
				first = rec.Time()
			}
			return first.IsZero()
		})
	}
	for name, n := range s.notesOn(r.line, s.size.Number(at), s.size.Number(r.end-1)) {
		if start := name.Start(s.size); n.known && start >= at {
			first = n.first
		} else if err := read(min(name.End(s.size), r.end)); err != nil {
			return false, err
		}
		if !first.IsZero() {
			return !first.After(t), nil
		}
		at = min(name.End(s.size), r.end)
	}
	err := read(r.end)
	return err == nil && !first.IsZero() && !first.After(t), err
}
