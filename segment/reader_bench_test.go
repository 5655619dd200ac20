package segment_test

import (
	"math/rand/v2"
	"testing"

	"github.com/walrecv/walrecv/segment"
)

// tally counts what a Reader tells.
type tally struct{ records, faults, unchecked int }

func (c *tally) Segment(segment.LSN)                {}
func (c *tally) Record(*segment.Record)             { c.records++ }
func (c *tally) Fault(segment.Fault)                { c.faults++ }
func (c *tally) Unchecked(segment.LSN, segment.LSN) { c.unchecked++ }

// benchLog writes some segments full of records of lengths that the function
// gives.
func benchLog(length func(*rand.Rand) int) *walMaker {
	w := newWAL(16<<20, 8192, testStart)
	rnd := rand.New(rand.NewPCG(1, 2))
	for len(w.data) < 32<<20 {
		if n := length(rnd); n > 0 {
			w.record(rmHeap, 0, 1, filler(n))
		} else {
			w.commit(1, rnd.Uint64N(1<<60))
		}
		w.want = w.want[:0]
	}
	w.data = w.data[:32<<20]
	return w
}

var benchLogs = map[string]func(*rand.Rand) int{
	// pgbench without page images: 0 stands for a commit.
	"pgbench": func(rnd *rand.Rand) int { return []int{72, 74, 72, 79, 54, 130, 61, 0}[rnd.IntN(8)] },
	"images": func(rnd *rand.Rand) int {
		if rnd.IntN(8) == 0 {
			return 7000 + rnd.IntN(1000)
		}
		return 60 + rnd.IntN(70)
	},
	"shortest": func(*rand.Rand) int { return 24 },
	"COPY":     func(*rand.Rand) int { return 5000 },
	"messages": func(*rand.Rand) int { return 1 << 20 },
}

func BenchmarkReader(b *testing.B) {
	for name, length := range benchLogs {
		b.Run(name, func(b *testing.B) {
			w := benchLog(length)
			c := &tally{}
			r := newReader(b, w.options(), c)
			b.SetBytes(int64(len(w.data)))
			b.ReportAllocs()
			for b.Loop() {
				for at := 0; at < len(w.data); at += 128 << 10 { // as a server sends it
					r.Feed(w.start+segment.LSN(at), w.data[at:][:128<<10])
				}
			}
			if c.faults > 0 {
				b.Errorf("%+v", *c)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(c.records), "ns/record")
		})
	}
}

// TestReaderDoesNotAllocate reads over all that is not a fault.
func TestReaderDoesNotAllocate(t *testing.T) {
	w := newWAL(1<<20, 8192, testStart)
	w.random(rand.New(rand.NewPCG(3, 4)), 2000)
	c := &tally{}
	r := newReader(t, w.options(), c)
	allocated := testing.AllocsPerRun(5, func() {
		for at := 0; at < len(w.data); at += 1000 {
			r.Feed(w.start+segment.LSN(at), w.data[at:min(at+1000, len(w.data))])
		}
	})
	if allocated > 0 || c.faults > 0 || c.records < 2000 {
		t.Errorf("%v allocations for %+v", allocated, *c)
	}
}
