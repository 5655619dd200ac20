package archive

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/walrecv/walrecv/segment"
)

// drawnNumbers is how many segment numbers there are in a drawn archive.
const drawnNumbers = 10

// drawnChain is an archive with up to four timelines that agree with each other.
type drawnChain struct {
	histories map[segment.TimelineID]segment.History
	has       map[segment.Name]bool
}

func drawChain(t *rapid.T) drawnChain {
	d := drawnChain{map[segment.TimelineID]segment.History{1: {Timeline: 1}}, map[segment.Name]bool{}}
	for tli := segment.TimelineID(1); tli <= segment.TimelineID(rapid.IntRange(1, 4).Draw(t, "timelines")); tli++ {
		begin := 0
		if tli > 1 {
			parent := d.histories[segment.TimelineID(rapid.IntRange(1, int(tli)-1).Draw(t, "parent"))]
			low := 1
			if n := len(parent.Entries); n > 0 {
				low = int(parent.Entries[n-1].End / halfSegment)
			}
			begin = rapid.IntRange(low, 2*drawnNumbers-1).Draw(t, "fork")
			d.histories[tli] = segment.History{Timeline: tli, Entries: append(slices.Clone(parent.Entries),
				segment.HistoryEntry{Timeline: parent.Timeline, End: segment.LSN(begin) * halfSegment})}
		}
		for n := begin / 2; n < drawnNumbers; n++ {
			if rapid.IntRange(0, 3).Draw(t, fmt.Sprintf("%d:%d", tli, n)) > 0 {
				d.has[name(tli, uint64(n))] = true
			}
		}
	}
	return d
}

const halfSegment = segment.LSN(testSize / 2)

func (d drawnChain) chain(t *rapid.T) *Chain {
	a := &Archive{id: testIdentity}
	var keys []string
	for n := range d.has {
		keys = append(keys, a.segmentKey(n))
	}
	for tli := range d.histories {
		if tli > 1 {
			keys = append(keys, a.historyKey(tli))
		}
	}
	l, err := (&Archive{store: keyList{keys: slices.Values(keys)}, id: testIdentity}).Listing(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return NewChain(l, d.histories, nil, nil)
}

// needs says by the letter of the contract whether a timeline needs a segment.
func (d drawnChain) needs(n segment.Name) bool {
	h := d.histories[n.Timeline]
	from, own, older := segment.LSN(0), segment.MaxLSN, false
	if len(h.Entries) > 0 {
		from = h.Entries[len(h.Entries)-1].End
	}
	after := false
	for m := range d.has {
		if m.Timeline == n.Timeline {
			own = min(own, m.Start(testSize))
			after = after || m.Number > n.Number
		} else if _, end, on := h.Bounds(m.Timeline); on && m.End(testSize) <= end {
			older = true
		}
	}
	for _, child := range d.histories {
		if last := len(child.Entries) - 1; last >= 0 && child.Entries[last].Timeline == n.Timeline && n.End(testSize) <= child.Entries[last].End {
			after = true
		}
	}
	if older {
		return after && n.End(testSize) > from
	}
	return after && n.Start(testSize) >= own && own != segment.MaxLSN
}

// holes lists what is needed and missing.
func (d drawnChain) holes() map[segment.Name]bool {
	missing := map[segment.Name]bool{}
	for tli := range d.histories {
		for n := range uint64(drawnNumbers) {
			if s := name(tli, n); !d.has[s] && d.needs(s) {
				missing[s] = true
			}
		}
	}
	return missing
}

// line lists, newest first, the segments that a recovery to a timeline would use
// before it comes to one that is missing.
func (d drawnChain) line(t segment.TimelineID) (names []segment.Name) {
	for i := range drawnNumbers {
		n := uint64(drawnNumbers - 1 - i)
		on := d.histories[t].Segment(n, testSize)
		s := name(on[len(on)-1], n)
		if d.has[s] {
			names = append(names, s)
		} else if len(names) > 0 {
			break
		}
	}
	return names
}

func TestChainOfAnyArchive(t *testing.T) {
	withHoles := 0
	rapid.Check(t, func(t *rapid.T) {
		d := drawChain(t)
		c := d.chain(t)
		got := map[segment.Name]bool{}
		for _, b := range c.Branches {
			if b.Problem != nil {
				t.Fatalf("timeline %d: %v", b.Timeline, b.Problem)
			}
			for _, h := range b.Holes {
				for n := h.First; n <= h.Last; n++ {
					got[name(h.Timeline, n)] = true
				}
			}
		}
		if want := d.holes(); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("missing %v; want %v", got, want)
		}
		withHoles += min(len(got), 1)
		for tli := range d.histories {
			if got, want := spelled(c, tli), fmt.Sprint(d.line(tli)); got != want {
				t.Fatalf("window of timeline %d: %s; want %s", tli, got, want)
			}
		}
	})
	if withHoles == 0 {
		t.Error("no archive had a hole")
	}
}

// spelled lists the segments of a window, newest first.
func spelled(c *Chain, t segment.TimelineID) string {
	w, _ := c.Window(t)
	var names []segment.Name
	for _, s := range w.Spans {
		for n := s.First; n <= s.Last; n++ {
			names = append(names, name(s.Timeline, n))
		}
	}
	slices.Reverse(names)
	return strings.TrimSpace(fmt.Sprint(names))
}
