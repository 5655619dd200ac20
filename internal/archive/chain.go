package archive

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/walrecv/walrecv/segment"
)

// ErrNoHistory says that the archive has WAL of a timeline, and not the history
// file without which no recovery finds its way to that timeline.
var ErrNoHistory = errors.New("its history file is missing")

// Chain is what an archive holds, laid along the timelines of the cluster. It
// must not be changed, and is safe for concurrent use.
type Chain struct {
	Branches []Branch // by timeline, ascending

	size segment.Size
}

// Branch is one timeline.
type Branch struct {
	Timeline segment.TimelineID
	// History is what is known of the descent. It has no entries where Problem
	// leaves nothing to go by.
	History segment.History
	// Problem is nil if the history file is sound, or not needed: timeline 1 has
	// none. Else it is missing (ErrNoHistory), damaged, or contradicts other
	// histories or the WAL that is there.
	Problem error
	Parent  segment.TimelineID // 0: none that is known
	Fork    segment.LSN        // where the timeline left its parent
	Ranges  []Range            // complete segments
	Holes   []Hole
	// Arriving says that the missing history can be on its way: see [Settle].
	Arriving bool

	held []Range // complete segments, and those that are in the tail with all their bytes
}

// Hole is a run of segments that a timeline must have, for a recovery along it or
// along one of its children, and that are missing.
type Hole struct {
	Timeline    segment.TimelineID
	First, Last uint64       // both are missing
	Gap         *segment.Gap // the accepted gap that covers it, else nil
	Arriving    bool         // the segments can be on their way: see [Settle]
}

// Span is a run of segments of one timeline that can be had: they are complete, or
// in the tail with all their bytes.
type Span struct {
	Timeline segment.TimelineID
	Range
}

// Window is WAL without a hole, over one timeline or several.
type Window struct {
	Start, End segment.LSN
	Spans      []Span // oldest first
}

// NewChain lays out a listing. histories are the history files that could be
// read, damaged says what is wrong with others, gaps are the accepted ones. A gap
// is open as long as one of its segments is missing.
//
// A timeline must have every segment from the one of its fork on, if anything
// older of its ancestors is there, or else from its own first; up to the newest
// of which anything is there, and up to where its children left it. The segment
// in which a fork lies is the child's. What the tail has of a segment counts if
// that is all of it.
func NewChain(l *Listing, histories map[segment.TimelineID]segment.History, damaged map[segment.TimelineID]error, gaps []segment.Gap) *Chain {
	c := &Chain{size: l.size}
	timelines := map[segment.TimelineID]bool{}
	for _, t := range l.Timelines() {
		timelines[t] = true
	}
	for _, h := range histories {
		for _, e := range h.Entries {
			timelines[e.Timeline] = true
		}
	}
	for _, t := range slices.Sorted(maps.Keys(timelines)) {
		b := Branch{Timeline: t, History: segment.History{Timeline: t}, Ranges: l.Ranges(t)}
		if there := l.timelines[t]; there != nil {
			b.held = there.held(c.size)
		}
		c.descend(&b, histories, damaged)
		c.Branches = append(c.Branches, b)
	}
	for i := range c.Branches {
		b := &c.Branches[i]
		b.Holes = c.holes(b, l.timelines[b.Timeline], gaps)
	}
	// An ancestor that was never archived, and need not be.
	c.Branches = slices.DeleteFunc(c.Branches, func(b Branch) bool {
		return l.timelines[b.Timeline] == nil && len(b.Holes) == 0
	})
	return c
}

// descend finds out where a timeline comes from. Its ancestors have been through
// this before.
func (c *Chain) descend(b *Branch, histories map[segment.TimelineID]segment.History, damaged map[segment.TimelineID]error) {
	h, ok := histories[b.Timeline]
	if !ok && b.Timeline > 1 {
		if b.Problem = damaged[b.Timeline]; b.Problem == nil {
			b.Problem = ErrNoHistory
		}
		h, ok = derive(b.Timeline, histories)
	}
	if !ok || len(h.Entries) == 0 {
		return
	}
	if err := c.contradiction(h, b.held); err != nil {
		b.Problem = errors.Join(b.Problem, err)
		return
	}
	b.History = h
	parent := h.Entries[len(h.Entries)-1]
	b.Parent, b.Fork = parent.Timeline, parent.End
}

// derive gets the history of a timeline from that of a descendant.
func derive(t segment.TimelineID, histories map[segment.TimelineID]segment.History) (segment.History, bool) {
	for _, child := range slices.Sorted(maps.Keys(histories)) {
		entries := histories[child].Entries
		i := slices.IndexFunc(entries, func(e segment.HistoryEntry) bool { return e.Timeline == t })
		if i >= 0 {
			return segment.History{Timeline: t, Entries: entries[:i:i]}, true
		}
	}
	return segment.History{}, false
}

// contradiction compares a history with those of its ancestors, and with the WAL
// of its timeline.
func (c *Chain) contradiction(h segment.History, ranges []Range) error {
	for _, e := range h.Entries {
		ancestor := c.Branch(e.Timeline)
		if ancestor == nil || e.Timeline > 1 && len(ancestor.History.Entries) == 0 {
			continue // nothing is known of it
		}
		if !h.Continues(segment.History{Timeline: e.Timeline, Entries: ancestor.History.Entries}) {
			return fmt.Errorf("its history contradicts that of timeline %d", uint32(e.Timeline))
		}
	}
	fork := h.Entries[len(h.Entries)-1].End
	if len(ranges) > 0 && ranges[0].First < c.size.Number(fork) {
		return fmt.Errorf("its history says that it began at %s, but there is WAL of it from %s", fork, c.size.Start(ranges[0].First))
	}
	return nil
}

// Branch is a timeline, nil if it is not there.
func (c *Chain) Branch(t segment.TimelineID) *Branch {
	for i := range c.Branches {
		if c.Branches[i].Timeline == t {
			return &c.Branches[i]
		}
	}
	return nil
}

// Current is the newest timeline, to which a recovery goes by default; nil if
// there is none.
func (c *Chain) Current() *Branch {
	if len(c.Branches) == 0 {
		return nil
	}
	return &c.Branches[len(c.Branches)-1]
}

// Line lists the segments on the way to the end of a timeline that can be had, oldest
// first: of each ancestor those that lie wholly before its fork.
func (c *Chain) Line(t segment.TimelineID) []Span {
	b := c.Branch(t)
	if b == nil {
		return nil
	}
	var spans []Span
	var from uint64
	for _, e := range b.History.Entries {
		to := c.size.Number(e.End)
		spans = c.appendSpans(spans, e.Timeline, from, to)
		from = to
	}
	return c.appendSpans(spans, t, from, ^uint64(0))
}

// appendSpans appends what a timeline has of the numbers from, up to but not to.
func (c *Chain) appendSpans(spans []Span, t segment.TimelineID, from, to uint64) []Span {
	b := c.Branch(t)
	if b == nil {
		return spans
	}
	for _, r := range b.held {
		if r.Last < from || r.First >= to {
			continue
		}
		spans = append(spans, Span{t, Range{max(r.First, from), min(r.Last, to-1)}})
	}
	return spans
}

// Window is the newest WAL without a hole on the way to the end of a timeline. ok
// is false if there is none. Only whole segments count.
func (c *Chain) Window(t segment.TimelineID) (w Window, ok bool) {
	line := c.Line(t)
	if len(line) == 0 {
		return Window{}, false
	}
	first := len(line) - 1
	for first > 0 && line[first-1].Last+1 == line[first].First {
		first--
	}
	last := line[len(line)-1]
	return Window{
		Start: c.size.Start(line[first].First),
		End:   segment.Name{Timeline: last.Timeline, Number: last.Last}.End(c.size),
		Spans: line[first:],
	}, true
}
