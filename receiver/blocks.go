package receiver

import (
	"sync"
	"sync/atomic"
)

const (
	// blockLen is how much is read from the socket at once at most: two messages of a
	// server that has much to send, of 128 KiB and their heads, and less of the third
	// than would make a part of its own.
	blockLen = 2*(messageHeadLen+walHeadLen+128<<10) + unsplit/2

	// spareBlocks are kept for the next use. What waits for the verifier is in about as
	// many, with two pieces in each; with one in each there are 33, of 8.6 MB together.
	spareBlocks = 16
)

// block is memory that the socket is read into. What came stays in it, without a
// copy, until it was written and read as WAL.
type block struct {
	data  []byte
	users atomic.Int32 // who reads from the socket is one of them
}

func newBlock(n int) *block {
	b := &block{data: make([]byte, n)}
	b.users.Store(1)
	return b
}

func (b *block) use() { b.users.Add(1) }

// shared tells whether anybody but who reads from the socket uses the block. Nobody
// else begins to.
func (b *block) shared() bool { return b.users.Load() > 1 }

// release gives a block up; the last user returns it.
func (b *block) release(to *blocks) {
	if b.users.Add(-1) > 0 || len(b.data) < blockLen {
		return
	}
	to.mu.Lock()
	defer to.mu.Unlock()
	if len(to.spare) < spareBlocks {
		to.spare = append(to.spare, b)
	}
}

// blocks are those of a Receiver. The one that was used last is used next: it is
// more likely to be in a cache than the others.
type blocks struct {
	mu    sync.Mutex
	spare []*block
}

func (s *blocks) get() *block {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := len(s.spare) - 1
	if last < 0 {
		return newBlock(blockLen)
	}
	b := s.spare[last]
	s.spare = s.spare[:last]
	b.users.Store(1)
	return b
}
