package recovery

import (
	"context"
	"fmt"
	"slices"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/backup"
	"github.com/walrecv/walrecv/segment"
)

// Choose finds the base backup with which the archive can bring a cluster to a target,
// and makes sure that all WAL is there that this takes. id is a backup's ID, or "" or
// "latest" for the newest one that fits. backups are as [backup.List] gives them.
//
// A target that cannot be reached is an [UnreachableError]. Other errors are of the
// archive, or say that there is no such backup.
//
// Transactions and records' positions are looked for in the WAL itself, which is read
// backwards from the newest backup for the former; times and names in what the archive
// says of segments, and in the WAL of those of which it says nothing.
func Choose(ctx context.Context, a *archive.Archive, backups []backup.Entry, t Target, id string) (*Plan, error) {
	s, err := Look(ctx, a, archive.Pause)
	if err != nil {
		return nil, err
	}
	return s.Choose(ctx, backups, t, id)
}

// Choose is as the function of that name.
func (s *Survey) Choose(ctx context.Context, backups []backup.Entry, t Target, id string) (*Plan, error) {
	candidates, err := candidates(backups, id)
	if err != nil {
		return nil, err
	}
	c := &chooser{Survey: s, target: t, found: map[segment.TimelineID]found{}, ends: map[segment.TimelineID]ended{}}
	for _, e := range slices.Backward(candidates) {
		plan, err := c.try(ctx, e.Backup)
		switch {
		case err != nil:
			return nil, err
		case plan == nil:
		case !e.Whole():
			c.damaged = append(c.damaged, damaged(e))
		default:
			c.tell(plan, backups, isFree(id))
			return plan, nil
		}
	}
	e := &UnreachableError{Target: t, Reason: c.miss.reason, Windows: c.windows(backups)}
	switch {
	case len(c.damaged) > 0:
		e.Reason, e.damaged = c.damaged[0].Error(), c.damaged[0]
	case len(candidates) == 0:
		e.Reason = "there is no base backup that is good"
	}
	return nil, e
}

// isFree tells whether any backup may be taken.
func isFree(id string) bool { return id == "" || id == "latest" }

// candidates are the backups that were completed, oldest first, or the one with an ID.
// Of those something can be missing: that they would have fitted is worth knowing.
func candidates(backups []backup.Entry, id string) (good []backup.Entry, err error) {
	if isFree(id) {
		return slices.DeleteFunc(slices.Clone(backups), func(e backup.Entry) bool { return e.Backup == nil }), nil
	}
	i := slices.IndexFunc(backups, func(e backup.Entry) bool { return e.ID == id })
	switch {
	case i < 0:
		return nil, fmt.Errorf("there is no base backup %s in the archive", id)
	case backups[i].Whole():
		return backups[i : i+1], nil
	case backups[i].Wrong() != "":
		return nil, damaged(backups[i])
	}
	return nil, fmt.Errorf("the base backup %s was not completed: only a good one can be restored", id)
}

func damaged(e backup.Entry) *DamagedError {
	return &DamagedError{ID: e.ID, Reason: e.Wrong(), Missing: len(e.Lacks) > 0}
}

// tell adds to a plan which newer backups would have been taken if they were whole. Of
// one that cannot even be read that is known only if the newest one was wanted.
func (c *chooser) tell(p *Plan, backups []backup.Entry, free bool) {
	p.Damaged = c.damaged
	for _, e := range backups {
		if free && p.Target.Kind == Latest && e.State == backup.Damaged && e.Started.After(p.Backup.Started) {
			p.Damaged = append(p.Damaged, damaged(e))
		}
	}
	for _, d := range p.Damaged {
		p.note(d.Error() + ": an older one is taken")
	}
}

// chooser looks for the backup that fits a target.
type chooser struct {
	*Survey
	target Target
	miss   miss
	// damaged are backups that fit, and of which something is missing, newest first.
	damaged []*DamagedError

	tried []segment.TimelineID         // timelines that recoveries would go to
	found map[segment.TimelineID]found // by the timeline that a recovery goes to
	ends  map[segment.TimelineID]ended // the same, for targets in time
}

// miss is why a backup does not fit. Of several the one is told that came closest.
type miss struct {
	close  closeness
	reason string
}

type closeness int

const (
	elsewhere closeness = iota // it is not on the way to the timeline
	unsound                    // its own WAL is not there
	absent                     // the target is not in its WAL, nor behind
	early                      // the target is before its end
	late                       // the WAL behind it does not go as far as the target
)

// misses notes why a backup, older than those before, does not fit.
func (c *chooser) misses(m miss) {
	again := m.close == c.miss.close && (m.close == early || m.close == absent)
	if m.close > c.miss.close || again || c.miss.reason == "" {
		c.miss = m
	}
}

// try makes a plan with a backup, nil if it does not fit.
func (c *chooser) try(ctx context.Context, b *backup.Backup) (*Plan, error) {
	l, why := c.lineFor(b)
	if l == nil {
		c.misses(miss{elsewhere, why})
		return nil, nil
	}
	c.tried = append(c.tried, l.timeline)
	r, err := c.measured(ctx, c.run(l, c.size.Number(b.StartLSN)))
	if err != nil {
		return nil, err
	}
	if r.end < b.EndLSN {
		c.misses(miss{unsound, fmt.Sprintf("base backup %s needs WAL from %s to %s: %s", b.ID, b.StartLSN, b.EndLSN, r.cause())})
		return nil, nil
	}
	p := &Plan{Backup: b, Target: c.target, Timeline: l.timeline, History: l.history, End: r.end}
	m, err := c.reach(ctx, r, p)
	if err != nil {
		return nil, err
	}
	if m != nil {
		c.misses(*m)
		return nil, nil
	}
	return p, nil
}

// cause says why a run ends.
func (r run) cause() string {
	if r.why != "" {
		return r.why
	}
	return fmt.Sprintf("the WAL in the archive ends at %s", r.end)
}

// reach finds the target behind a backup, and completes its plan.
func (c *chooser) reach(ctx context.Context, r run, p *Plan) (*miss, error) {
	switch c.target.Kind {
	case Immediate:
		p.Stop = p.Backup.EndLSN
		return nil, nil
	case Time:
		return c.reachTime(ctx, r, p)
	case LSN:
		return c.reachLSN(ctx, r, p)
	case XID:
		return c.reachXID(ctx, r, p)
	case Name:
		return c.reachName(ctx, r, p)
	default:
		if r.why != "" {
			return &miss{late, fmt.Sprintf("from base backup %s the WAL goes only to %s: %s", p.Backup.ID, r.end, r.why)}, nil
		}
		return nil, nil
	}
}

// reachLSN looks for the record behind which PostgreSQL stops: the first one that
// begins at the position or later.
func (c *chooser) reachLSN(ctx context.Context, r run, p *Plan) (*miss, error) {
	at := c.target.LSN
	if at < p.Backup.EndLSN {
		return &miss{early, fmt.Sprintf("base backup %s is consistent only from %s on", p.Backup.ID, p.Backup.EndLSN)}, nil
	}
	err := c.scan(ctx, r, at, r.end, func(rec *segment.Record) bool {
		p.Stop = rec.End
		return false
	})
	if err != nil {
		return nil, err
	}
	if p.Stop == 0 {
		return &miss{late, "no record begins there or later: " + r.cause()}, nil
	}
	return nil, nil
}

// lineFor is the way of a recovery that starts from a backup, or nil and why there is
// none.
func (c *chooser) lineFor(b *backup.Backup) (l *line, why string) {
	t := b.EndTimeline
	switch c.target.Timeline {
	case LatestTimeline:
		for c.listing.HasHistory(t + 1) {
			t++
		}
	case CurrentTimeline:
	default:
		t = segment.TimelineID(c.target.Timeline)
		if t > 1 && !c.listing.HasHistory(t) {
			return nil, fmt.Sprintf("the archive has no history of timeline %d", uint32(t))
		}
	}
	l, err := c.line(t)
	if err != nil {
		return nil, err.Error()
	}
	if !l.leads(b) {
		return nil, fmt.Sprintf("base backup %s, which ends at %s on timeline %d, is not on the way to timeline %d",
			b.ID, b.EndLSN, uint32(b.EndTimeline), uint32(t))
	}
	return l, ""
}

// windows lists what can be reached on the timelines that were tried, or on all.
func (c *chooser) windows(backups []backup.Entry) []Window {
	all := c.Windows(backups)
	for i := range all {
		c.extend(&all[i])
	}
	var tried []Window
	for _, w := range all {
		if slices.Contains(c.tried, w.Timeline) {
			tried = append(tried, w)
		}
	}
	if len(tried) > 0 {
		return tried
	}
	return all
}
