package vfs

import (
	"errors"
	"math/rand/v2"
	"sync"
)

// ErrCrashed is what every operation of a [Crasher] returns after the crash.
var ErrCrashed = errors.New("the machine has crashed")

// Crasher lets a test run on a [Mem] up to a chosen operation, from which on
// every operation fails, and gives the disk of that moment to start again on. A
// sweep takes one Crasher after another, for k = 0, 1, 2, …, until a run ends
// without a crash.
type Crasher struct {
	fault *Fault
	k     int
	take  func() *Mem

	mu   sync.Mutex // held over every operation
	disk *Mem       // nil: not crashed
}

// NewCrasher crashes mem right before its mutating operation number k, counted
// from 0, and takes mem.CrashClone(rng). What returned without an error before
// is in it as far as it was synced. Only operations through FS count.
func NewCrasher(mem *Mem, k int, rng *rand.Rand) *Crasher {
	return newCrasher(mem, k, func() *Mem { return mem.CrashClone(rng) })
}

// NewKiller is [NewCrasher] for the end of the process instead of the machine:
// it takes mem.KillClone().
func NewKiller(mem *Mem, k int) *Crasher { return newCrasher(mem, k, mem.KillClone) }

func newCrasher(mem *Mem, k int, take func() *Mem) *Crasher {
	c := &Crasher{k: k, take: take}
	c.fault = NewFault(mem, c.hook)
	// An operation that is under way at the crash would be in the clone or not
	// regardless of what it returns.
	c.fault.gate = &c.mu
	return c
}

// FS is the file system to run on.
func (c *Crasher) FS() FS { return c.fault }

// Crashed returns the disk that the crash has left, or false if the run has not
// come to operation k. The disk is the same one at every call.
func (c *Crasher) Crashed() (*Mem, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.disk, c.disk != nil
}

func (c *Crasher) hook(op Op) error {
	if c.disk == nil && op.Mutates() && op.Mutation >= c.k {
		c.disk = c.take()
	}
	if c.disk != nil {
		return ErrCrashed
	}
	return nil
}
