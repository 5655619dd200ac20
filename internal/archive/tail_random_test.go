package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/storagetest"
)

// A receiver goes on whatever happens to it: requests that fail with and without
// effect, outages, connections that are lost, power cuts, a spool that is lost. No
// byte is acknowledged that the archive does not have, and in the end it has all.
func TestTailWhateverHappens(t *testing.T) {
	runs := uint64(4)
	if pgtest.Long() {
		runs = 600
	}
	for seed := range runs {
		synctest.Test(t, func(t *testing.T) {
			r := newTailRig(t)
			r.what = fmt.Sprintf("seed %d", seed)
			rng := rand.New(rand.NewPCG(seed, 4))
			r.o.Acknowledge = seed%4 > 0
			var down atomic.Bool
			faults := rand.New(rand.NewPCG(seed, 6))
			faulty := storagetest.NewFaulty(r.mem, func(q storagetest.Request) storagetest.Fault {
				switch {
				case seed%3 == 0 && q.Op == storagetest.OpDelete:
					return storagetest.Fault{Before: fs.ErrPermission}
				case down.Load():
					return storagetest.Fault{Before: storagetest.ErrInjected}
				}
				switch faults.IntN(25) {
				case 0:
					return storagetest.Fault{Before: storagetest.ErrInjected}
				case 1:
					return storagetest.Fault{After: storagetest.ErrInjected}
				case 2:
					return storagetest.Fault{HangAfter: true}
				}
				return storagetest.Fault{}
			})
			r.store = &late{Faulty: faulty, rng: rand.New(rand.NewPCG(seed, 5)), before: r.expectNoHole}
			r.start()
			r.connect()
			end := testStart
			for range 40 {
				r.happens(rng, &down, &end)
			}
			down.Store(false)
			r.connect()
			r.send(end, true)
			time.Sleep(10 * time.Minute)
			if got := r.ackedTo(); got != end {
				t.Errorf("%s: acknowledged %s of %s", r.what, got, end)
			}
			r.end(true)
			r.expectArchived(testStart, end)
			r.expectTidy(seed%3 != 0)
		})
	}
}

// happens does something to the receiver.
func (r *tailRig) happens(rng *rand.Rand, down *atomic.Bool, end *segment.LSN) {
	time.Sleep(time.Duration(rng.IntN(3)) * time.Duration(rng.IntN(2000)) * time.Millisecond)
	switch rng.IntN(20) {
	case 0, 1:
		r.connect()
	case 2:
		down.Store(!down.Load())
	case 3:
		down.Store(false)
		r.crash(r.disk.CrashClone(rng))
	case 4:
		down.Store(false)
		if r.o.Acknowledge {
			r.crash(nil)
		}
	case 5:
		time.Sleep(time.Duration(rng.IntN(60)) * time.Second)
	default:
		size := 1 + rng.IntN(1<<rng.IntN(20))
		*end += segment.LSN(size)
		r.send(*end, rng.IntN(2) == 0)
	}
}

// crash ends the process, and begins another one on a disk; nil: on a new one.
func (r *tailRig) crash(disk *vfs.Mem) {
	r.must(r.stop())
	r.writer.Close()
	r.writer = nil
	if disk == nil {
		r.loseSpool()
	} else {
		r.disk, r.fsys = disk, disk
	}
	r.start()
	r.connect()
}

// expectTidy checks, after another start, that no chunk is left of a complete
// segment.
func (r *tailRig) expectTidy(deletes bool) {
	r.t.Helper()
	warned := 0
	for _, line := range r.log.lines() {
		if strings.Contains(line, "cannot be deleted") {
			warned++
		}
	}
	if deletes != (warned == 0) {
		r.t.Errorf("%s: warned %d times that nothing can be deleted", r.what, warned)
	}
	if !deletes {
		return
	}
	r.start()
	time.Sleep(10 * time.Minute)
	r.end(false)
	for _, key := range r.chunks() {
		n, err := segment.ParseName(key[:24], testSize)
		r.must(err)
		if _, err := readSegment(context.Background(), &Archive{store: r.mem, id: testIdentity}, n); !errors.Is(err, fs.ErrNotExist) {
			r.t.Errorf("%s: %s is left: %v", r.what, key, err)
		}
	}
}

// expectNoHole checks that a chunk that is about to be put does not come behind a
// segment that the archive does not have to its end: if that one never gets there,
// a recovery must take it for lost.
func (r *tailRig) expectNoHole(key string) {
	a := &Archive{id: testIdentity}
	o, n, ok := a.parse(key)
	if !ok || o.Kind != KindTail || n.Start(testSize) <= testStart {
		return
	}
	var chunks []Chunk
	for _, key := range r.mem.Keys() {
		switch o, before, ok := a.parse(key); {
		case !ok || before.Number != n.Number-1:
		case o.Kind == KindSegment:
			return
		case o.Kind == KindTail:
			chunks = append(chunks, Chunk{Name: before, From: o.From, To: o.To})
		}
	}
	if _, end := Cover(chunks, 0); end != int64(testSize) {
		r.t.Errorf("%s: %s is put, and of the segment before it the archive has %d bytes", r.what, key, end)
	}
}

// late is a store that takes its time.
type late struct {
	*storagetest.Faulty
	mu     sync.Mutex
	rng    *rand.Rand
	before func(key string) // called before every Put
}

func (l *late) Put(ctx context.Context, key string, src storage.Source) error {
	l.before(key)
	l.mu.Lock()
	wait := time.Duration(l.rng.IntN(100)) * time.Millisecond
	l.mu.Unlock()
	time.Sleep(wait)
	return l.Faulty.Put(ctx, key, src)
}
