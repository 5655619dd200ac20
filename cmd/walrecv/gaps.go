package main

import (
	"context"
	"sync"

	"github.com/walrecv/walrecv/receiver"
	"github.com/walrecv/walrecv/segment"
)

// gapKeeper notes the gaps of what is held, which a receiver asks for whenever it
// connects.
type gapKeeper struct {
	receiver.Keeper
	spool *segment.Spool
	gaps  *openGaps
}

// Held implements receiver.Keeper.
func (k *gapKeeper) Held(ctx context.Context) (segment.Held, error) {
	held, err := k.Keeper.Held(ctx)
	if err == nil {
		k.gaps.note(held, k.spool.Size())
	}
	return held, err
}

// openGaps are the gaps that are not filled. The zero value knows none.
type openGaps struct {
	mu   sync.Mutex
	open map[string]bool // by the name of the file: whether any of it is missing
}

// note replaces what is known. A gap is filled once every segment of it is held
// under its own timeline.
func (o *openGaps) note(held segment.Held, size segment.Size) {
	open := map[string]bool{}
	for _, g := range held.Gaps {
		open[g.FileName()] = !filled(g, held, size)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.open = open
}

func filled(g segment.Gap, held segment.Held, size segment.Size) bool {
	missing := size.Number(g.To) - size.Number(g.From)
	for name := range held.Sealed {
		if name.Timeline == g.Timeline && g.Covers(name.Number, size) {
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
