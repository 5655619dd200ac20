package main

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/walrecv/walrecv/receiver"
	"github.com/walrecv/walrecv/segment"
)

// heldKeeper is a receiver.Keeper that gives back the histories it keeps.
type heldKeeper interface {
	receiver.Keeper
	history(ctx context.Context, t segment.TimelineID) (segment.History, error)
	// pruned tells whether the archive kept nothing of a gap's WAL on purpose, when it
	// was listed last.
	pruned(g segment.Gap) bool
}

// gapKeeper notes which cluster it is that is held, and the gaps of it, which a receiver
// asks for whenever it connects.
type gapKeeper struct {
	heldKeeper
	spool   *segment.Spool
	gaps    *openGaps
	cluster *atomic.Pointer[segment.Cluster]
}

// Identify implements receiver.Keeper.
func (k *gapKeeper) Identify(ctx context.Context, c segment.Cluster) error {
	err := k.heldKeeper.Identify(ctx, c)
	if err == nil {
		k.cluster.Store(&c)
	}
	return err
}

// Held implements receiver.Keeper.
func (k *gapKeeper) Held(ctx context.Context) (segment.Held, error) {
	held, err := k.heldKeeper.Held(ctx)
	if err == nil {
		k.gaps.note(held, k.histories(ctx, held.Gaps), k.spool.Size(), k.pruned)
	}
	return held, err
}

// histories are those of the gaps' timelines. Of one that cannot be had nothing is
// known but the timeline itself: its gap is rather open than filled.
func (k *gapKeeper) histories(ctx context.Context, gaps []segment.Gap) map[segment.TimelineID]segment.History {
	found := map[segment.TimelineID]segment.History{}
	for _, g := range gaps {
		if _, asked := found[g.Timeline]; asked {
			continue
		}
		h, err := k.history(ctx, g.Timeline)
		if err != nil {
			h = segment.History{Timeline: g.Timeline}
		}
		found[g.Timeline] = h
	}
	return found
}

// openGaps are the gaps that are not filled. The zero value knows none.
type openGaps struct {
	mu   sync.Mutex
	open map[string]bool // by the name of the file: whether any of it is missing
}

// note replaces what is known. A gap of which nothing would be there any more does not
// count.
func (o *openGaps) note(held segment.Held, histories map[segment.TimelineID]segment.History, size segment.Size, pruned func(segment.Gap) bool) {
	open := map[string]bool{}
	for _, g := range held.Gaps {
		open[g.FileName()] = !pruned(g) && !filled(g, histories[g.Timeline], held, size)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.open = open
}

// filled tells whether every segment of a gap is held, under the name of the
// timeline that must have it: the newest one of the history that reaches into it,
// as the holes of archive.Chain have it.
func filled(g segment.Gap, history segment.History, held segment.Held, size segment.Size) bool {
	missing := size.Number(g.To) - size.Number(g.From)
	for name := range held.Sealed {
		if !g.Covers(name.Number, size) {
			continue
		}
		if reach := history.Segment(name.Number, size); name.Timeline == reach[len(reach)-1] {
			missing--
		}
	}
	return missing == 0
}

// count is how many are open, with those that are in the spool only since.
func (o *openGaps) count(inSpool []string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := 0
	for _, open := range o.open {
		if open {
			n++
		}
	}
	for _, base := range inSpool {
		if _, known := o.open[base]; !known {
			n++
		}
	}
	return n
}
