package archive

import (
	"context"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
)

// counted counts the requests that a rig makes.
type counted struct {
	mu sync.Mutex
	n  map[storage.Op]int
}

func (c *counted) tell(op storage.Op, _ error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n[op]++
}

// reset returns what was counted, and begins anew.
func (c *counted) reset() map[storage.Op]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer func() { c.n = map[storage.Op]int{} }()
	return c.n
}

// keeping is a store that refuses to delete.
type keeping struct{ storage.Store }

func (keeping) Delete(context.Context, string) error { return fs.ErrPermission }

// How many requests the tail makes, and objects it leaves: a segment that an hour of
// one small commit a second fills, an idle hour, and segments that fill quickly.
func TestTailRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { countRequests(t, 300, true, true) })
	if !pgtest.Long() {
		return
	}
	for _, deletes := range []bool{true, false} {
		for _, ack := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) { countRequests(t, 3600, deletes, ack) })
		}
	}
}

func countRequests(t *testing.T, seconds int, deletes, ack bool) {
	r := newTailRig(t)
	c := &counted{n: map[storage.Op]int{}}
	r.store = storage.WithMeter(r.mem, c.tell)
	if !deletes {
		r.store = storage.WithMeter(keeping{r.mem}, c.tell)
	}
	r.o.Acknowledge = ack
	r.highest = 1 << 40 // what is acknowledged is looked for elsewhere
	r.start()
	r.connect()
	synctest.Wait()
	t.Logf("delete %t, ack=archive %t: start: %v", deletes, ack, c.reset())

	at := testStart
	most := 0 // chunks that a reader needs
	for i := range seconds {
		at += 250
		r.send(at, ack)
		time.Sleep(time.Second)
		if i%97 == 0 || i == seconds-2 {
			chunks, err := r.archive.Chunks(t.Context(), name(1, 1))
			r.must(err)
			needed, _ := Cover(chunks, 0)
			most = max(most, len(needed))
			c.mu.Lock()
			c.n[storage.OpList]-- // this one
			c.mu.Unlock()
		}
	}
	n := c.reset()
	objects := len(r.chunks())
	t.Logf("one commit a second for %d s, %d bytes: %v, %d objects, a reader needs %d at most", seconds, at-testStart, n, objects, most)
	if n[storage.OpPut] > seconds || n[storage.OpList]+n[storage.OpOpen]+n[storage.OpStat] > 0 || most > 13 {
		t.Errorf("%v, %d to be read", n, most)
	}
	if deletes && objects > 13 || !deletes && n[storage.OpDelete] > 0 {
		t.Errorf("%d objects, %v", objects, n)
	}
	time.Sleep(time.Hour)
	if n := c.reset(); len(n) > 0 {
		t.Errorf("idle: %v", n)
	}

	r.send(2*testStart, ack)
	time.Sleep(time.Minute)
	t.Logf("and its end: %v, %d objects", c.reset(), len(r.chunks()))
	if left := len(r.chunks()); deletes && left > 0 {
		t.Errorf("%d objects are left of a complete segment", left)
	}
	for at = 2 * testStart; at < 10*testStart; {
		at += testStart / 8
		r.send(at, false)
		time.Sleep(25 * time.Millisecond)
	}
	time.Sleep(time.Minute)
	n = c.reset()
	t.Logf("8 segments in 1.6 s: %v", n)
	if got := n[storage.OpPut]; got > 8+3 || n[storage.OpOpen] > 0 {
		t.Errorf("%v for 8 segments", n)
	}
	r.expectArchived(testStart, at)
	r.end(true)
	if ops := slices.Sorted(maps.Keys(c.reset())); len(ops) > 1 {
		t.Errorf("the end: %v", ops)
	}
	if got, _ := r.tail.Archived(); got != (segment.Position{Timeline: 1, LSN: at}) {
		t.Errorf("archived: %s", got)
	}
}
