package monitor

import (
	"sync"
	"time"
)

const (
	cacheAge      = time.Second            // what is older is looked for again
	cachePatience = 200 * time.Millisecond // what takes longer is not waited for

	rareAge   = 5 * time.Minute // the same for what costs requests to a store
	rareRetry = time.Minute     // after a failure
)

// Cached returns a function that gives what find finds, up to a second old, or
// older where find takes long: it is run by one goroutine at a time, and waited
// for only briefly. false means that it has found nothing yet, or has failed.
func Cached[T any](find func() (T, error)) func() (T, bool) {
	c := &cached[T]{find: find, age: cacheAge, retry: cacheAge, patience: cachePatience}
	return c.get
}

// Rarely returns a function that gives what find found last, and has it run again when
// that is five minutes ago. Nothing is waited for: what find finds is there the next time.
// A failure changes nothing. false means that it has found nothing yet.
func Rarely[T any](find func() (T, error)) func() (T, bool) {
	c := &cached[T]{find: find, age: rareAge, retry: rareRetry, keep: true}
	return c.get
}

type cached[T any] struct {
	find     func() (T, error)
	age      time.Duration // after which it is looked for again
	retry    time.Duration // the same after a failure
	patience time.Duration // for which it is waited
	keep     bool          // what was known stays known after a failure

	mu      sync.Mutex
	value   T
	known   bool
	next    time.Time     // not to be looked for before
	looking chan struct{} // closed when find has returned; nil while it does not run
}

func (c *cached[T]) get() (T, bool) {
	if looking := c.refresh(); looking != nil && c.patience > 0 {
		timer := time.NewTimer(c.patience)
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
	if c.looking == nil && !time.Now().Before(c.next) {
		c.looking = make(chan struct{})
		go c.look()
	}
	return c.looking
}

func (c *cached[T]) look() {
	value, err := c.find()
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err == nil:
		c.value, c.known, c.next = value, true, time.Now().Add(c.age)
	case c.keep:
		c.next = time.Now().Add(c.retry)
	default:
		c.value, c.known, c.next = value, false, time.Now().Add(c.retry)
	}
	close(c.looking)
	c.looking = nil
}
