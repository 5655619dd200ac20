package prune

import (
	"context"
	"fmt"
	"time"

	"github.com/walrecv/walrecv/internal/backup"
	"github.com/walrecv/walrecv/segment"
)

// quiet is how long nothing may have been added to an archive until it is told.
const quiet = 12 * time.Hour

// clock is the time against which ages are measured.
type clock struct {
	now      time.Time
	notes    []string
	problems []string
}

// clock compares the clock of this host with when something was added to the archive last,
// of which newest is the newest segment. A fast clock must not make anything older than it
// is: of the entries, those are running that only such a clock takes for abandoned.
func (p *Pruner) clock(ctx context.Context, entries []backup.Entry, newest segment.Name) (clock, error) {
	c := clock{now: p.now}
	last, err := p.archive.LastAdded(ctx, newest)
	if err != nil {
		return c, err
	}
	for _, e := range entries {
		if e.LastAdded.After(last) {
			last = e.LastAdded
		}
	}
	switch ahead := p.now.Sub(last); {
	case last.IsZero(): // the store does not tell
		return c, nil
	case ahead < -slack:
		c.problems = append(c.problems, fmt.Sprintf("this host's clock says %s, and the store's said %s when something was added last: which one is wrong?", stamp(p.now), stamp(last)))
	case ahead > 0:
		c.now = last
		if ahead > quiet {
			c.notes = append(c.notes, fmt.Sprintf("nothing was added to the archive since %s, or this host's clock is fast: ages are as of then", stamp(last)))
		}
	}
	for i := range entries {
		if e := &entries[i]; e.State == backup.Abandoned && !e.LastAdded.IsZero() && c.now.Sub(e.LastAdded) < backup.Patience {
			e.State = backup.Running
		}
	}
	return c, nil
}
