package recovery

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/walrecv/walrecv/segment"
)

// hit is a record that a target names.
type hit struct {
	at, end segment.LSN
	time    time.Time
}

// found are the hits along a line from a position on, in order.
type found struct {
	from segment.LSN
	hits []hit
}

// finder finds hits in a part of a run.
type finder func(ctx context.Context, r run, from, to segment.LSN) ([]hit, error)

// reachHit looks for the record behind which PostgreSQL stops: the first one that the
// target names, of those behind the backup's start. Backups are tried newest first, so
// what was found for one is used for the next.
func (c *chooser) reachHit(ctx context.Context, r run, p *Plan, find finder) ([]hit, *miss, error) {
	b := p.Backup
	known, ok := c.found[r.line.timeline]
	if !ok || b.StartLSN > known.from {
		known = found{from: segment.MaxLSN}
	}
	hits, err := find(ctx, r, b.StartLSN, min(r.end, known.from))
	if err != nil {
		return nil, nil, err
	}
	hits = append(hits, known.hits...)
	c.found[r.line.timeline] = found{b.StartLSN, hits}
	hits = slices.DeleteFunc(slices.Clone(hits), func(h hit) bool { return h.end > r.end })
	switch {
	case len(hits) == 0:
		return nil, &miss{absent, fmt.Sprintf("it is not in the WAL from %s on: %s", b.StartLSN, r.cause())}, nil
	case hits[0].at < b.EndLSN:
		return nil, &miss{early, fmt.Sprintf("it is at %s, and base backup %s is consistent only from %s on", hits[0].at, b.ID, b.EndLSN)}, nil
	}
	p.Stop = hits[0].end
	return hits, nil, nil
}

// reachXID looks for the end of a transaction, by reading the WAL.
func (c *chooser) reachXID(ctx context.Context, r run, p *Plan) (*miss, error) {
	_, m, err := c.reachHit(ctx, r, p, func(ctx context.Context, r run, from, to segment.LSN) (hits []hit, err error) {
		err = c.scan(ctx, r, from, to, func(rec *segment.Record) bool {
			if !ends(rec) || rec.Transaction() != c.target.XID {
				return true
			}
			hits = append(hits, hit{rec.LSN, rec.End, rec.Time()})
			return false
		})
		return hits, err
	})
	return m, err
}

// reachName looks for a restore point.
func (c *chooser) reachName(ctx context.Context, r run, p *Plan) (*miss, error) {
	hits, m, err := c.reachHit(ctx, r, p, c.points)
	if len(hits) > 1 {
		p.note(fmt.Sprintf("%d restore points have this name behind base backup %s: the recovery stops at the first, made %s; use another target for a later one",
			len(hits), p.Backup.ID, formatTime(hits[0].time)))
	}
	return m, err
}

// longestPoint is more than the record of a restore point takes, with the headers of a
// page in it.
const longestPoint = 512

// points finds the restore points of the target's name, and reads only the WAL of
// which the archive does not say all that there are.
func (c *chooser) points(ctx context.Context, r run, from, to segment.LSN) (hits []hit, err error) {
	if from >= to {
		return nil, nil
	}
	read := func(first, last uint64) error {
		begin := c.size.Start(first) - min(longestPoint, c.size.Start(first))
		return c.scan(ctx, r, max(from, begin), min(to, c.size.Start(last)), func(rec *segment.Record) bool {
			if rec.Kind == segment.RestorePoint && rec.Name() == c.target.Name {
				hits = append(hits, hit{rec.LSN, rec.End, rec.Time()})
			}
			return true
		})
	}
	next, last := c.size.Number(from), c.size.Number(to-1)
	for name, n := range c.notesOn(r.line, next, last) {
		for _, point := range n.points {
			if point.Name == c.target.Name && point.LSN > from && point.LSN <= to {
				hits = append(hits, hit{point.LSN - 1, point.LSN, point.Time})
			}
		}
		if !n.known || n.more {
			continue // until one comes of which all is known
		}
		if next < name.Number {
			if err := read(next, name.Number); err != nil {
				return nil, err
			}
		}
		next = name.Number + 1
	}
	if next <= last {
		if err := read(next, last+1); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(hits, func(a, b hit) int { return cmp.Compare(a.end, b.end) })
	return slices.CompactFunc(hits, func(a, b hit) bool { return a.end == b.end }), nil
}
