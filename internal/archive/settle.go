package archive

import (
	"context"
	"errors"
	"time"

	"github.com/walrecv/walrecv/segment"
)

const (
	// maxLooks is how often an archive that lacks something is looked at.
	maxLooks = 3

	// lookPause is the time between two looks.
	lookPause = 2 * time.Second

	// nearEnd is how many segments in front of an end that moves can still be on
	// their way: far more than a receiver uploads at a time.
	nearEnd = 64
)

// Look is one look at an archive.
type Look struct {
	Listing *Listing
	Chain   *Chain
}

// Settle looks at an archive, and looks again if it lacks something: several
// segments are on their way at a time, and need not arrive in order. While the
// archive grows it goes on, a few times; what is then missing near an end that
// still moves is said to be arriving. pause waits between two looks, see [Pause].
//
// It does not tell an upload that takes longer than the looks from a segment that
// is lost.
func Settle(ctx context.Context, look func(context.Context) (Look, error), pause func(context.Context) error) (Look, error) {
	last, err := look(ctx)
	for n := 1; n < maxLooks && err == nil && last.Chain.lacks(); n++ {
		if err = pause(ctx); err != nil {
			break
		}
		var next Look
		if next, err = look(ctx); err != nil {
			break
		}
		moving := last.Listing.moving(next.Listing)
		last = next
		if len(moving) == 0 {
			break
		}
		last.Chain.arriving(moving)
	}
	return last, err
}

// Pause waits as long as there should be between two looks.
func Pause(ctx context.Context) error {
	timer := time.NewTimer(lookPause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// lacks tells whether something is missing that nobody accepted.
func (c *Chain) lacks() bool {
	for i := range c.Branches {
		b := &c.Branches[i]
		if errors.Is(b.Problem, ErrNoHistory) {
			return true
		}
		for _, h := range b.Holes {
			if h.Gap == nil {
				return true
			}
		}
	}
	return false
}

// moving says where the timelines ended that have more in a later listing. One
// that is new ended where it begins.
func (l *Listing) moving(later *Listing) map[segment.TimelineID]uint64 {
	ends := map[segment.TimelineID]uint64{}
	for t, now := range later.timelines {
		before := l.timelines[t]
		switch {
		case !now.any:
		case before != nil && before.any && before.highest < now.highest:
			ends[t] = before.highest
		case (before == nil || !before.any) && len(now.ranges) > 0:
			ends[t] = now.ranges[0].First
		}
	}
	return ends
}

// arriving marks what can be on its way, with the ends that moved.
func (c *Chain) arriving(moving map[segment.TimelineID]uint64) {
	near := func(t segment.TimelineID, number uint64) bool {
		for newer, end := range moving { // the parent's last segments arrive with the child's first ones
			if newer >= t && number+nearEnd >= end {
				return true
			}
		}
		return false
	}
	for i := range c.Branches {
		b := &c.Branches[i]
		for j := range b.Holes {
			b.Holes[j].Arriving = near(b.Timeline, b.Holes[j].First)
		}
		_, moves := moving[b.Timeline]
		b.Arriving = errors.Is(b.Problem, ErrNoHistory) && moves && len(b.Ranges) > 0 && near(b.Timeline, b.Ranges[0].First)
	}
}
