package web

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/walrecv/walrecv/internal/status"
)

// Find looks what an archive holds.
type Find func(context.Context) (*status.Report, error)

const (
	lookAge      = time.Minute     // what is older is looked for again
	lookShare    = 20              // and no more than one part in so many of the time
	lookSoon     = 5 * time.Second // the same once another timeline is received
	lookPatience = 2 * time.Second // what takes longer is not waited for
	lookTimeout  = 2 * time.Minute
)

// lookout keeps what an archive was found to hold. A look costs requests, so there is one
// only while somebody asks, and then rarely, and never two at once.
type lookout struct {
	find Find
	end  context.Context // ends what looks
	stop context.CancelFunc

	mu      sync.Mutex
	last    look
	began   time.Time // the last look
	took    time.Duration
	looking chan struct{} // closed when find has returned; nil while it does not run
}

// look is what the last look found; after one that failed, what was found before.
type look struct {
	report   json.RawMessage // a [status.Report]; nil: nothing yet
	timeline uint32          // its newest
	asOf     time.Time       // when it was looked for
	err      error           // of the last look
}

func newLookout(find Find) *lookout {
	l := &lookout{find: find}
	l.end, l.stop = context.WithCancel(context.Background())
	return l
}

// get gives what is known to somebody who receives a timeline, and looks again if it is
// time. Nobody waits for that for long.
func (l *lookout) get(ctx context.Context, timeline uint32) look {
	if looking := l.refresh(timeline); looking != nil {
		ctx, cancel := context.WithTimeout(ctx, lookPatience)
		defer cancel()
		select {
		case <-looking:
		case <-ctx.Done():
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

// refresh begins a look if it is time, and returns what tells of its end.
func (l *lookout) refresh(timeline uint32) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.looking == nil && time.Since(l.began) >= l.pause(timeline) {
		l.began, l.looking = time.Now(), make(chan struct{})
		go l.look()
	}
	return l.looking
}

// pause is how long after the beginning of a look the next one may begin.
func (l *lookout) pause(timeline uint32) time.Duration {
	if l.last.err == nil && timeline > l.last.timeline {
		return max(lookSoon, lookShare*l.took)
	}
	return max(lookAge, lookShare*l.took)
}

func (l *lookout) look() {
	ctx, cancel := context.WithTimeout(l.end, lookTimeout)
	defer cancel()
	report, err := l.find(ctx)
	var text []byte
	if err == nil {
		text, err = json.Marshal(shorten(report))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.took = time.Since(l.began)
	if l.last.err = err; err == nil {
		l.last.report, l.last.timeline, l.last.asOf = text, report.Timeline, l.began
	}
	close(l.looking)
	l.looking = nil
}

// close ends a look that is under way. Nobody waits for it: a disk can hang.
func (l *lookout) close() {
	if l != nil {
		l.stop()
	}
}
