package restore

import (
	"context"
	"sync"
	"time"

	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
)

const (
	// withinCall is how many segments a call fetches besides the asked one at most, where
	// no helper may run.
	withinCall = 3

	// withinGrace is how long the answer is held back for what is not there yet when the
	// asked segment is delivered. What comes later than that is better fetched by the
	// call that asks for it. The last part of it is for removing what was begun.
	withinGrace = 300 * time.Millisecond
	withinEnd   = withinGrace / 6

	// withinMemory is what is used for reading, for the asked segment and for the others:
	// these wait until there is enough of it. A call may use 32 MB in all.
	withinMemory = 9 << 20
)

// beside are the fetches of what comes behind the asked segment, while that is transferred.
type beside struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when all of them are there, or will not be
	memory *memory
	asked  int64 // of it, for the asked segment
}

// fetchBeside begins to fetch what comes behind segment n, which comes with st. Nothing
// is synced, since that would hold back the answer, or the end of the process.
func (p *ahead) fetchBeside(ctx context.Context, n segment.Name, st *stream) (*beside, error) {
	c := p.call
	count := min(p.window(c.size), withinCall)
	if err := p.room(count, c.size); err != nil {
		return nil, err
	}
	f := &fetcher{
		o: c.o, data: c.dir, staging: p.dir,
		cluster:  segment.Identity{SystemID: c.system, Size: c.size},
		memory:   newMemory(withinMemory),
		unsynced: true,
	}
	for _, place := range c.places {
		if place.src != nil {
			f.places = append(f.places, place)
		}
	}
	local, _ := c.dir.Histories(n.Timeline) // the call itself says what is wrong
	goal := way(n.Timeline, local)
	ctx, cancel := context.WithCancel(ctx)
	b := &beside{cancel: cancel, done: make(chan struct{}), memory: f.memory, asked: f.memory.grab(st)}
	var all sync.WaitGroup
	for i := range count {
		names := candidates(goal, n.Timeline, n.Number+1+i, c.size)
		if len(names) == 0 {
			break // the server has left this timeline
		}
		if there, err := vfs.Exists(c.o.FS, p.dir.Segment(names[0].Format(c.size))); there || err != nil {
			continue
		}
		all.Go(func() { _, _ = f.first(ctx, names) }) // what fails is not there
	}
	go func() {
		all.Wait()
		close(b.done)
	}()
	return b, nil
}

// end waits for a moment for what is not there yet, if the asked segment is. A disk that
// does not answer holds it up no longer: what is left behind, the next call removes.
func (b *beside) end(delivered bool) {
	b.memory.give(b.asked)
	if delivered {
		b.wait(withinGrace - withinEnd)
	}
	b.cancel()
	b.wait(withinEnd)
}

func (b *beside) wait(most time.Duration) {
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-b.done:
	case <-timer.C:
	}
}
