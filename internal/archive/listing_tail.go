package archive

import (
	"context"
	"maps"
	"slices"

	"github.com/walrecv/walrecv/segment"
)

// maxLeftover is how many chunks of complete segments are gone through before the
// listing begins anew behind them. Where a writer may not delete there are millions.
const maxLeftover = 500

// listTails adds the chunks of segments that are not complete, where the segments
// that are have been listed. What is older than all complete segments of a timeline
// is left out.
func (a *Archive) listTails(ctx context.Context, l *Listing) error {
	dir := a.tailDir()
	leftover := 0
	return a.scan(ctx, dir, dir, func(key string) (next string) {
		o, err := ParseKey(key)
		if err != nil || o.Kind != KindTail || o.To > int64(l.size) {
			return ""
		}
		n, err := segment.ParseName(o.Segment, l.size)
		if err != nil {
			return ""
		}
		if first, before := l.before(o); before {
			return dir + first.Format(l.size)
		}
		behind, over := l.over(n)
		if !over {
			leftover = 0
			l.addChunk(Chunk{Name: n, From: o.From, To: o.To, Encrypted: o.Encrypted})
			return ""
		}
		if leftover++; leftover <= maxLeftover {
			return ""
		}
		leftover = 0
		return dir + behind.Format(l.size)
	})
}

// over tells whether the chunks of a segment are of no use any more, and which is
// the next one whose chunks can be.
func (l *Listing) over(n segment.Name) (behind segment.Name, over bool) {
	t := l.timelines[n.Timeline]
	if t == nil || len(t.ranges) == 0 {
		return n, false
	}
	for _, r := range t.ranges {
		if n.Number < r.First {
			break
		}
		if n.Number <= r.Last {
			return segment.Name{Timeline: n.Timeline, Number: r.Last + 1}, true
		}
	}
	if first := t.ranges[0]; n.Number < first.First {
		return segment.Name{Timeline: n.Timeline, Number: first.Last + 1}, true
	}
	return n, false
}

func (l *Listing) addChunk(c Chunk) {
	t := l.timeline(c.Name.Timeline)
	if t.chunks == nil {
		t.chunks = map[uint64][]Chunk{}
	}
	t.chunks[c.Name.Number] = append(t.chunks[c.Name.Number], c)
	t.highest, t.any = max(t.highest, c.Name.Number), true
	l.noteNewest(c.Name.Number, c.Encrypted)
}

// Chunks lists the chunks of a segment that is not complete. Those of complete
// segments, which have no use any more, are not in a Listing.
func (l *Listing) Chunks(name segment.Name) []Chunk {
	if l.timelines[name.Timeline] == nil {
		return nil
	}
	return slices.Clone(l.timelines[name.Timeline].chunks[name.Number])
}

// Tails lists the segments of a timeline that are not complete and have chunks,
// ascending.
func (l *Listing) Tails(t segment.TimelineID) []segment.Name {
	if l.timelines[t] == nil {
		return nil
	}
	var names []segment.Name
	for _, number := range slices.Sorted(maps.Keys(l.timelines[t].chunks)) {
		names = append(names, segment.Name{Timeline: t, Number: number})
	}
	return names
}

// TailEnd is where the WAL ends that the chunks of a timeline hold from a segment on
// without a hole. It is that segment's start if they hold nothing of it.
func (l *Listing) TailEnd(from segment.Name) segment.LSN {
	for n := from; ; n = n.Next() {
		_, end := Cover(l.Chunks(n), 0)
		if end < int64(l.size) {
			return n.Start(l.size) + segment.LSN(end)
		}
	}
}

// held are the runs of segments that can be had, as complete objects or from chunks
// that hold all of them.
func (t *timelineListing) held(size segment.Size) []Range {
	whole := timelineListing{ranges: slices.Clone(t.ranges)}
	for number, chunks := range t.chunks {
		if _, end := Cover(chunks, 0); end == int64(size) {
			whole.ranges = append(whole.ranges, Range{number, number})
		}
	}
	whole.merge()
	return whole.ranges
}
