package recovery

import (
	"context"
	"fmt"
	"time"

	"github.com/walrecv/walrecv/internal/backup"
	"github.com/walrecv/walrecv/segment"
)

// disorder is how far times of commits can be out of order: a transaction takes its
// time before it has its place in the log.
const disorder = time.Minute

// reachTime looks for the transaction before whose end PostgreSQL stops: the first one
// that ended later. Without one it would not believe to be there at the end of the WAL.
func (c *chooser) reachTime(ctx context.Context, r run, p *Plan) (*miss, error) {
	b, t := p.Backup, c.target.Time
	settled, err := c.settledBy(ctx, r, b, t)
	if err != nil {
		return nil, err
	}
	if !settled {
		return &miss{early, fmt.Sprintf("base backup %s has transactions in it that ended later", b.ID)}, nil
	}
	from, last, later := c.commitsBehind(r, b.EndLSN, t)
	if later {
		c.noteAbandoned(ctx, r, p)
		return nil, nil
	}
	err = c.scan(ctx, r, from, r.end, func(rec *segment.Record) bool {
		if !ends(rec) {
			return true
		}
		if rec.Time().After(t) {
			p.Stop = rec.LSN
			return false
		}
		last = rec.Time()
		return true
	})
	switch {
	case err != nil:
		return nil, err
	case p.Stop != 0:
		c.noteAbandoned(ctx, r, p)
		return nil, nil
	}
	if known, ok := c.ends[p.Timeline]; !ok || known.last.IsZero() {
		c.ends[p.Timeline] = ended{r.end, last}
	}
	why := fmt.Sprintf("no transaction ended after that, the last one ended %s: %s", formatTime(last), r.cause())
	if last.IsZero() {
		why = fmt.Sprintf("behind base backup %s no transaction ended after that: %s", b.ID, r.cause())
	}
	if r.why == "" {
		why += ", and all of it is recovered if no target is given"
	}
	return &miss{late, why}, nil
}

// ended is the last end of a transaction in WAL that was read up to a position; zero if
// there is none behind the backup.
type ended struct {
	upTo segment.LSN
	last time.Time
}

// extend adds to a window what was read of the tail.
func (c *chooser) extend(w *Window) {
	known, ok := c.ends[w.Timeline]
	if !ok || known.upTo != w.End {
		return
	}
	w.TimedUntil = w.End
	if known.last.After(w.EndTime) && known.last.After(w.StartTime) {
		w.EndTime = known.last
	}
}

// ends tells whether a record is the end of a transaction.
func ends(r *segment.Record) bool {
	return r.Kind == segment.CommitRecord || r.Kind == segment.AbortRecord
}

// commitsBehind looks for a commit later than t behind a position, by what is known of
// segments. If none is known, one can stand behind from. last is the last time that is
// known.
func (s *Survey) commitsBehind(r run, at segment.LSN, t time.Time) (from segment.LSN, last time.Time, later bool) {
	from = at
	unknown := segment.MaxLSN
	for name, n := range s.notesOn(r.line, s.size.Number(at), s.size.Number(r.end-1)) {
		start := name.Start(s.size)
		whole := start >= at
		switch commit := n.latest(); {
		case !n.known:
			unknown = min(unknown, max(at, start))
		case commit.IsZero():
		case whole && commit.After(t):
			return 0, commit, true
		case whole:
			from, last = start, commit
		default:
			from = at
		}
	}
	return min(from, unknown), last, false
}

// settledBy tells whether all transactions that ended before a backup is consistent, so
// that they are in it, ended at t or before. It goes by the segments of the backup's own
// WAL, or if none ended there by what is known of WAL before, or else by when the backup
// began.
func (s *Survey) settledBy(ctx context.Context, r run, b *backup.Backup, t time.Time) (bool, error) {
	first, last := s.size.Number(b.StartLSN), s.size.Number(b.EndLSN-1)
	doubt := b.EndLSN // what is from here on must be read
	next := first
	var known bool
	for name, n := range s.notesOn(r.line, first, last) {
		if name.Number != next {
			doubt = min(doubt, s.size.Start(next))
		}
		next = name.Number + 1
		commit := n.latest()
		switch {
		case n.known && commit.IsZero():
		case n.known && commit.Add(disorder).Before(t):
			known = true
		case n.known && commit.After(t) && name.Number > first && name.Number < last:
			return false, nil
		default:
			doubt = min(doubt, name.Start(s.size))
		}
	}
	if next <= last {
		doubt = min(doubt, s.size.Start(next))
	}
	settled := true
	err := s.scan(ctx, r, doubt, b.EndLSN, func(rec *segment.Record) bool {
		known = known || ends(rec)
		settled = !ends(rec) || !rec.Time().After(t)
		return settled
	})
	if err == nil && settled && !known {
		settled = !s.before(r.line, first, b).After(t)
	}
	return settled, err
}

// before is the time of the last commit that is known of WAL in front of a backup whose
// own has none, or when the backup began if none is.
func (s *Survey) before(l *line, number uint64, b *backup.Backup) time.Time {
	at := b.Started
	if number == 0 {
		return at
	}
	for _, n := range s.notesOn(l, 0, number-1) {
		if commit := n.latest(); !commit.IsZero() {
			at = commit
		}
	}
	return at
}
