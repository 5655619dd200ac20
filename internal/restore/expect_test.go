package restore

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/internal/prefetch"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
)

// farAway makes the archive one whose requests take time: some before they have an
// effect and some behind it. helped says that there is a helper, which has nothing.
func (w *world) farAway(random *rand.Rand, helped bool) {
	slow := &slowStore{Store: w.store, random: random}
	w.o.Archive.Far = true
	w.o.Archive.Open = func(context.Context) (storage.Store, error) { return slow, nil }
	if helped {
		w.o.Prefetch = Prefetch{Ahead: 8, System: deaf{}}
		w.o.PrefetchDir = func(string) (string, error) { return "/scratch", nil }
	}
}

// slowRequest is the most that a request takes on either side of its effect.
const slowRequest = 10 * time.Millisecond

// slowStore is a store with times as they come.
type slowStore struct {
	storage.Store
	mu     sync.Mutex
	random *rand.Rand // nil: all requests take the longest time
}

func (s *slowStore) wait() {
	s.mu.Lock()
	d := slowRequest
	if s.random != nil {
		d = time.Duration(s.random.Int64N(int64(slowRequest)))
	}
	s.mu.Unlock()
	time.Sleep(d)
}

func (s *slowStore) Open(ctx context.Context, key string) (io.ReadCloser, storage.Info, error) {
	s.wait()
	defer s.wait()
	return s.Store.Open(ctx, key)
}

func (s *slowStore) Stat(ctx context.Context, key string) (storage.Info, error) {
	s.wait()
	defer s.wait()
	return s.Store.Stat(ctx, key)
}

func (s *slowStore) List(ctx context.Context, prefix string, fn func(storage.Info) error) error {
	s.wait()
	defer s.wait()
	return s.Store.List(ctx, prefix, fn)
}

// deaf is a system on which a helper hears everything and does nothing.
type deaf struct{ prefetch.System }

func (deaf) Ring(string, string) bool { return true }

// A change is what others do to the archive while a call looks.
type change struct {
	what  string
	file  string // that is asked for
	begin func(w *world)
	steps []func(w *world) // one after the other
	never int              // the wrong answer
}

// changes are such that the file, or what speaks against its absence, is there all the
// time, but not in one place.
func changes(n segment.Name, object []byte) []change {
	next := n.Next()
	return []change{{
		what: "a tail is sealed", file: name(n), never: CodeAbsent,
		begin: func(w *world) { w.putChunk(n, 0, 300_000) },
		steps: []func(*world){
			func(w *world) { w.store.Set(w.key(n), object) },
			func(w *world) { w.removeChunk(n, 0, 300_000) },
		},
	}, {
		what: "a tail becomes a partial", file: name(n), never: CodeAbsent,
		begin: func(w *world) { w.putChunk(n, 0, 300_000) },
		steps: []func(*world){
			func(w *world) { w.putPartial(n, wal(n, 300_000)) },
			func(w *world) { w.removeChunk(n, 0, 300_000) },
		},
	}, {
		what: "a later tail is sealed", file: name(n), never: CodeAbsent,
		begin: func(w *world) { w.putChunk(next, 0, 300_000) },
		steps: []func(*world){
			func(w *world) { w.store.Set(w.key(next), object) },
			func(w *world) { w.removeChunk(next, 0, 300_000) },
		},
	}, {
		what: "it is pruned", file: name(n), never: CodeAbsent,
		begin: func(w *world) { w.store.Set(w.key(n), object) },
		steps: []func(*world){
			func(w *world) {
				p := archive.Pruned{Timeline: 1, Before: n.End(testSize)}
				w.must(w.arch.PutPruned(w.t.Context(), p, time.Now()))
			},
			func(w *world) { w.must(w.store.Delete(w.t.Context(), w.key(n))) },
		},
	}, {
		what: "behind a hole all is pruned", file: name(n), never: CodeAbsent,
		begin: func(w *world) { w.store.Set(w.key(next), object) },
		steps: []func(*world){
			func(w *world) {
				p := archive.Pruned{Timeline: 1, Before: next.End(testSize)}
				w.must(w.arch.PutPruned(w.t.Context(), p, time.Now()))
			},
			func(w *world) { w.must(w.store.Delete(w.t.Context(), w.key(next))) },
		},
	}, {
		what: "the archive is unmounted", file: name(n), never: CodeAbsent,
		begin: func(w *world) { w.store.Set(w.key(next), object) },
		steps: []func(*world){func(w *world) {
			for _, key := range w.store.Keys() {
				w.must(w.store.Delete(w.t.Context(), key))
			}
		}},
	}, {
		what: "a timeline without its history is sealed", file: "00000002.history", never: CodeAbsent,
		begin: func(w *world) { w.putChunk(seg(2, 5), 0, 300_000) },
		steps: []func(*world){
			func(w *world) { w.store.Set(w.key(seg(2, 5)), object) },
			func(w *world) { w.removeChunk(seg(2, 5), 0, 300_000) },
		},
	}}
}

// TestProofsOfRequestsTogether: what is asked together is no weaker proof than what is
// asked one after the other, whenever others change the archive.
func TestProofsOfRequestsTogether(t *testing.T) {
	n := seg(1, 5)
	object := objectOf(t, n)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	const longest = int64(8 * slowRequest)
	runs := 10
	if pgtest.Long() {
		runs = 1000
	}
	for _, c := range changes(n, object) {
		t.Run(c.what, func(t *testing.T) {
			for range runs {
				helped := random.IntN(2) == 0
				synctest.Test(t, func(t *testing.T) {
					defer time.Sleep(time.Minute) // until all that was given up has ended
					w := newWorld(t, recoverySignal)
					w.o.RetryFor = time.Minute
					c.begin(w)
					w.farAway(rand.New(rand.NewPCG(random.Uint64(), 0)), helped)
					first, next := random.Int64N(longest), random.Int64N(int64(slowRequest/2))
					go func() {
						time.Sleep(time.Duration(first))
						for _, step := range c.steps {
							step(w)
							time.Sleep(time.Duration(next))
						}
					}()
					if a := w.ask(c.file); a.Code == c.never {
						t.Errorf("answer %d %q, with steps after %d ns and %d ns, helped %v", a.Code, a.Message, first, next, helped)
					}
				})
				if t.Failed() {
					return
				}
			}
		})
	}
}

// beforeList is a store that waits for something before it lists.
type beforeList struct {
	storage.Store
	wait func(prefix string)
}

func (s *beforeList) List(ctx context.Context, prefix string, fn func(storage.Info) error) error {
	s.wait(prefix)
	return s.Store.List(ctx, prefix, fn)
}

// TestPrunedIsAskedForLast: what is removed is recorded first, so that it is looked for
// in the opposite order. A list of what was pruned that is on its way before the later
// WAL is listed proves nothing.
func TestPrunedIsAskedForLast(t *testing.T) {
	n, next := seg(1, 5), seg(1, 6)
	for _, helped := range []bool{false, true} {
		bubble(t, fmt.Sprintf("helped %v", helped), func(t *testing.T) {
			defer time.Sleep(time.Minute)
			w := newWorld(t, recoverySignal)
			w.o.RetryFor = time.Minute
			w.put(next, wal(next, full))
			w.farAway(nil, helped)
			store := &beforeList{Store: w.store, wait: func(prefix string) {
				if _, there := w.store.Get(w.key(next)); !there || !strings.HasPrefix(w.key(next), prefix) {
					return
				}
				time.Sleep(time.Second) // all that was begun is answered
				w.must(w.arch.PutPruned(t.Context(), archive.Pruned{Timeline: 1, Before: next.End(testSize)}, time.Now()))
				w.must(w.store.Delete(t.Context(), w.key(next)))
			}}
			w.o.Archive.Open = func(context.Context) (storage.Store, error) { return store, nil }
			w.want(name(n), CodeDamaged)
		})
	}
}

// TestRequestsTogether counts how many times a call waits for an archive far away.
func TestRequestsTogether(t *testing.T) {
	n := seg(1, 5)
	for _, tt := range []struct {
		what, file string
		helped     bool
		put        bool
		code       int
		waits      int
	}{
		{"a segment", name(n), false, true, CodeDelivered, 1},
		{"no segment", name(n), false, false, CodeAbsent, 5},
		{"no segment, as the helper knows", name(n), true, false, CodeAbsent, 3},
		{"no history", "00000002.history", false, false, CodeAbsent, 3},
	} {
		bubble(t, tt.what, func(t *testing.T) {
			defer time.Sleep(time.Minute)
			w := newWorld(t, recoverySignal)
			if tt.put {
				w.put(n, wal(n, full))
			}
			w.farAway(nil, tt.helped)
			took := elapsed(func() { w.want(tt.file, tt.code) })
			if waits := int((took + slowRequest) / (2 * slowRequest)); waits != tt.waits {
				t.Errorf("it takes as long as %d requests (%s), want %d", waits, took, tt.waits)
			}
		})
	}
}
