package fakepg_test

import (
	"testing"

	"github.com/walrecv/walrecv/internal/fakepg"
	"github.com/walrecv/walrecv/segment"
)

// faults is a segment.Visitor that counts.
type faults struct {
	t       *testing.T
	records int
}

func (f *faults) Segment(segment.LSN)        {}
func (f *faults) Record(*segment.Record)     { f.records++ }
func (f *faults) Unchecked(_, _ segment.LSN) {}
func (f *faults) Fault(fault segment.Fault)  { f.t.Error(fault) }

// What the server sends can be read as WAL, also over borders and a promotion.
func TestWALIsSound(t *testing.T) {
	const size, fork = 1 << 20, 2<<20 + 8192 + 24 + 5*64
	s := fakepg.New(fakepg.Config{SegmentSize: size, End: fork})
	defer s.Close()
	s.Promote(2, fork)
	f := &faults{t: t}
	r, err := segment.NewReader(segment.ReaderOptions{
		Identity: segment.Identity{Size: size},
		History:  segment.History{Timeline: 2, Entries: []segment.HistoryEntry{{Timeline: 1, End: fork}}},
	}, f)
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 3*size)
	s.ReadWAL(2, size, p)
	r.Feed(size, p)
	if r.End() != 4*size || f.records < 3*size/64-3*size/8192 {
		t.Errorf("%d records to %s", f.records, r.End())
	}
}
