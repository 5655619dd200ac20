package restore

import (
	"context"
	"sync"
	"time"

	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
)

const (
	// withinCall is how many segments a call fetches besides the asked one, where no
	// helper may run. With more, it would need more memory than a call may.
	withinCall = 3

	// withinGrace is how long the answer is held back for what is not there yet when the
	// asked segment is delivered. What comes later than that is better fetched by the
	// call that asks for it.
	withinGrace = 300 * time.Millisecond
)

// beside are the fetches of what comes behind the asked segment, while that is transferred.
type beside struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when all of them are there, or will not be
}

// fetchBeside begins to fetch what comes behind segment n.
func (p *ahead) fetchBeside(ctx context.Context, n segment.Name) *beside {
	c := p.call
	f := &fetcher{
		o: c.o, data: c.dir, staging: p.dir,
		cluster: segment.Identity{SystemID: c.system, Size: c.size},
	}
	for _, place := range c.places {
		if place.src != nil {
			f.places = append(f.places, place)
		}
	}
	local, _ := c.dir.Histories(n.Timeline) // the call itself says what is wrong
	goal := way(n.Timeline, local)
	ctx, cancel := context.WithCancel(ctx)
	b := &beside{cancel: cancel, done: make(chan struct{})}
	var all sync.WaitGroup
	for i := range min(uint64(c.o.Prefetch.Ahead), withinCall) {
		names := candidates(goal, n.Timeline, n.Number+1+i, c.size)
		if there, err := vfs.Exists(c.o.FS, p.dir.Segment(names[0].Format(c.size))); there || err != nil {
			continue
		}
		all.Go(func() { _, _ = f.first(ctx, names) }) // what fails is not there
	}
	go func() {
		all.Wait()
		close(b.done)
	}()
	return b
}

// end waits for a moment for what is not there yet, if the asked segment is.
func (b *beside) end(delivered bool) {
	if delivered {
		timer := time.NewTimer(withinGrace)
		select {
		case <-b.done:
		case <-timer.C:
		}
		timer.Stop()
	}
	b.cancel()
	<-b.done
}
