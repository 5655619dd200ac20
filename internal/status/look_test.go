package status_test

import (
	"context"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/status"
	"github.com/walrecv/walrecv/segment"
)

// changing reports on a world that changes between two looks, each time as the next
// of the functions does it.
func (w *world) changing(changes ...func()) *status.Report {
	w.t.Helper()
	a, err := archive.Open(w.t.Context(), w.store, worldSystem, archive.Keys{})
	if err != nil {
		w.t.Fatal(err)
	}
	r, err := status.Gather(w.t.Context(), a, "/srv/wal", worldNow, func(context.Context) error {
		if len(changes) > 0 {
			changes[0]()
			changes = changes[1:]
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// Several uploads are in flight, so that a later segment can be there first.
func TestSegmentsOnTheirWay(t *testing.T) {
	w := newWorld(t)
	w.segments(1, 2, 8)
	w.segments(1, 10, 10)
	r := w.changing(func() { w.segments(1, 9, 9) })
	if len(r.Gaps) != 0 || len(r.Problems) != 0 || r.Window == nil || r.Window.Start != 0x200000 || r.Window.End != 0xB00000 {
		t.Errorf("one came late: window %+v, gaps %+v, problems %v", r.Window, r.Gaps, r.Problems)
	}

	w.segments(1, 12, 12)
	r = w.changing(func() { w.segments(1, 11, 11); w.segments(1, 14, 14) }, func() { w.segments(1, 13, 13); w.segments(1, 16, 16) })
	if len(r.Gaps) != 1 || !r.Gaps[0].Arriving || r.Gaps[0].Start != 0xF00000 || len(r.Problems) != 0 {
		t.Errorf("one is on its way: gaps %+v, problems %v", r.Gaps, r.Problems)
	}
	if r.Window == nil || r.Window.Start != 0x200000 || r.Window.End != 0xF00000 {
		t.Errorf("one is on its way: window %+v", r.Window)
	}
	if got := text(t, r); !strings.Contains(got, "arriving") {
		t.Error(got)
	}
	// It never came.
	r = w.report()
	if len(r.Gaps) != 1 || r.Gaps[0].Arriving || len(r.Problems) != 1 || r.Window.Start != 0x1000000 {
		t.Errorf("one is lost: window %+v, gaps %+v, problems %v", r.Window, r.Gaps, r.Problems)
	}
}

// A mark is history once the segment was archived, and read, in order.
func TestClearedMark(t *testing.T) {
	w := afterFailovers(t)
	w.mark(mark(2, 7))
	again := mark(2, 7)
	again.LSN += 0x100
	w.mark(again)
	r := w.report()
	if len(r.Marks) != 2 || !r.Marks[0].Cleared || !r.Marks[1].Cleared || len(r.Problems) != 0 || r.Window.Start != 0x200000 {
		t.Errorf("marks %+v, window %+v, problems %v", r.Marks, r.Window, r.Problems)
	}
	if got := text(t, r); !strings.Contains(got, "sound") {
		t.Error(got)
	}
	w.segment(2, 7, "") // nobody has read it
	r = w.report()
	if r.Marks[0].Cleared || r.Marks[1].Cleared || len(r.Problems) != 2 || r.Window.Start != 0x800000 {
		t.Errorf("marks %+v, window %+v, problems %v", r.Marks, r.Window, r.Problems)
	}
}

// What was pruned is no gap, as long as some of it is still there, and a mark of it is
// no damage.
func TestPruned(t *testing.T) {
	w := newWorld(t)
	w.segments(1, 2, 4)
	w.segments(1, 6, 12)
	w.mark(segment.Mark{Name: segment.Name{Timeline: 1, Number: 5}, LSN: 0x500028, End: 0x500000, Reason: "rot"})
	if r := w.report(); len(r.Gaps) != 1 || len(r.Problems) != 2 {
		t.Fatalf("gaps %+v, problems %v", r.Gaps, r.Problems)
	}
	w.set("pruned/00000001.0000000000800000.pruned", nil)
	r := w.report()
	if len(r.Gaps) != 0 || len(r.Marks) != 0 || len(r.Problems) != 0 || r.Segments.Total != 5 || r.Window == nil || r.Window.Start != 0x800000 {
		t.Errorf("%d segments, window %+v, gaps %+v, marks %+v, problems %v", r.Segments.Total, r.Window, r.Gaps, r.Marks, r.Problems)
	}
}
