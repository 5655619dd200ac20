package monitor

import (
	"sync"
	"time"
)

const (
	cacheAge      = time.Second            // what is older is looked for again
	cachePatience = 200 * time.Millisecond // what takes longer is not waited for
)

// Cached returns a function that gives what find finds, up to a second old, or
// older where find takes long: it is run by one goroutine at a time, and waited
// for only briefly. false means that it has found nothing yet, or has failed.
func Cached[T any](find func() (T, error)) func() (T, bool) {
	c := &cached[T]{find: find}
	return c.get
}

type cached[T any] struct {
	find func() (T, error)

	mu      sync.Mutex
	value   T
	known   bool
	when    time.Time
	looking chan struct{} // closed when find has returned; nil while it does not run
}

func (c *cached[T]) get() (T, bool) {
	if looking := c.refresh(); looking != nil {
		timer := time.NewTimer(cachePatience)
		defer timer.Stop()
		select {
		case <-looking:
		case <-timer.C:
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.value, c.known
}

// refresh has find run if it is time, and returns what tells of its end.
func (c *cached[T]) refresh() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.looking == nil && (c.when.IsZero() || time.Since(c.when) >= cacheAge) {
		c.looking = make(chan struct{})
		go c.look()
	}
	return c.looking
}

func (c *cached[T]) look() {
	value, err := c.find()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.value, c.known, c.when = value, err == nil, time.Now()
	close(c.looking)
	c.looking = nil
}
