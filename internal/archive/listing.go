package archive

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/walrecv/walrecv/segment"
)

// Partial is an archived partial segment: its key without the parts that are the
// same for all.
type Partial struct {
	Name      segment.Name
	Digest    string // first 8 hexadecimal digits of its content's digest
	Encrypted bool
}

// Range is a run of segments without a hole, by their numbers.
type Range struct {
	First, Last uint64 // both are in it
}

// Listing is what the archive of a cluster held when it was listed. It must not
// be changed, and is safe for concurrent use. It takes a few bytes for every
// hole, every partial and every chunk of a segment that is not complete, not for
// every segment.
type Listing struct {
	size      segment.Size
	from      uint64 // segments before this number are left out
	timelines map[segment.TimelineID]*timelineListing
	pruned    []Pruned
	doubted   []Pruned

	newest    uint64 // number of the newest segment of which there is anything
	encrypted bool   // something of it is
}

type timelineListing struct {
	history  bool
	ranges   []Range // complete segments, ascending; adjacent ones are merged
	partials []Partial
	chunks   map[uint64][]Chunk // of segments that are not complete, by their numbers
	highest  uint64             // highest number of anything on the timeline
	any      bool               // highest means something
}

// Listing lists the archive, without what was removed on purpose. Nothing is read
// but the listing itself. It is not one moment: what is put meanwhile may be in it or
// not, and so may a segment that is completed meanwhile.
func (a *Archive) Listing(ctx context.Context) (*Listing, error) { return a.ListingFrom(ctx, 0) }

// ListingFrom is Listing without what is of segments before a number, which it does
// not go through. Histories are all in it.
func (a *Archive) ListingFrom(ctx context.Context, number uint64) (*Listing, error) {
	l := &Listing{size: a.id.SegmentSize, from: number, timelines: map[segment.TimelineID]*timelineListing{}}
	dir := a.walDir()
	err := a.scan(ctx, dir, dir, func(key string) (next string) {
		o, err := ParseKey(key)
		if err != nil {
			return ""
		}
		if before, ok := l.before(o); ok {
			return dir + before.Timeline.String() + "/" + before.Format(l.size)
		}
		l.add(o)
		return ""
	})
	if err != nil {
		return nil, fmt.Errorf("list the archive: %w", err)
	}
	for _, t := range l.timelines {
		t.merge()
	}
	if err := a.listTails(ctx, l); err != nil {
		return nil, fmt.Errorf("list the tail of the archive: %w", err)
	}
	// Last: it is said before anything is removed.
	pruned, err := a.Pruned(ctx)
	if err != nil {
		return nil, err
	}
	l.forget(pruned)
	return l, nil
}

// before tells whether an object is left out, and which is the first segment of its
// timeline that is not.
func (l *Listing) before(o Object) (first segment.Name, ok bool) {
	if o.Kind == KindHistory || l.from == 0 {
		return first, false
	}
	name, err := segment.ParseName(o.Segment, l.size)
	return segment.Name{Timeline: o.Timeline, Number: l.from}, err == nil && name.Number < l.from
}

// add adds an object. Names that do not exist with this size of segments are
// left out like unknown keys.
func (l *Listing) add(o Object) {
	if o.Kind == KindHistory {
		l.timeline(o.Timeline).history = true
		return
	}
	name, err := segment.ParseName(o.Segment, l.size)
	if err != nil {
		return
	}
	t := l.timeline(o.Timeline)
	t.highest, t.any = max(t.highest, name.Number), true
	if o.Kind != KindBackup {
		l.noteNewest(name.Number, o.Encrypted)
	}
	switch o.Kind {
	case KindSegment:
		t.addSegment(name.Number)
	case KindPartial:
		t.partials = append(t.partials, Partial{Name: name, Digest: o.Digest, Encrypted: o.Encrypted})
	}
}

// noteNewest keeps whether the newest WAL is encrypted.
func (l *Listing) noteNewest(number uint64, encrypted bool) {
	if number > l.newest {
		l.newest, l.encrypted = number, false
	}
	l.encrypted = l.encrypted || encrypted && number == l.newest
}

// Encrypted tells whether something of the newest segment is encrypted.
func (l *Listing) Encrypted() bool { return l.encrypted }

func (l *Listing) timeline(t segment.TimelineID) *timelineListing {
	if l.timelines[t] == nil {
		l.timelines[t] = &timelineListing{}
	}
	return l.timelines[t]
}

// addSegment adds a number. They come in order from every store.
func (t *timelineListing) addSegment(number uint64) {
	if last := len(t.ranges) - 1; last >= 0 && t.ranges[last].Last+1 == number {
		t.ranges[last].Last = number
		return
	}
	t.ranges = append(t.ranges, Range{number, number})
}

// merge makes the ranges what they are said to be, in whatever order the
// numbers came.
func (t *timelineListing) merge() {
	slices.SortFunc(t.ranges, func(a, b Range) int { return cmp.Compare(a.First, b.First) })
	merged := t.ranges[:0]
	for _, r := range t.ranges {
		if last := len(merged) - 1; last >= 0 && r.First <= merged[last].Last+1 {
			merged[last].Last = max(merged[last].Last, r.Last)
			continue
		}
		merged = append(merged, r)
	}
	t.ranges = merged
}

// Has tells whether the complete segment is there, encrypted or not.
func (l *Listing) Has(name segment.Name) bool {
	t := l.timelines[name.Timeline]
	if t == nil {
		return false
	}
	_, found := slices.BinarySearchFunc(t.ranges, name.Number, func(r Range, number uint64) int {
		switch {
		case r.Last < number:
			return -1
		case r.First > number:
			return 1
		}
		return 0
	})
	return found
}

// After tells whether anything of a later segment is there on the same timeline:
// a complete segment, a partial, a chunk, or a backup history file.
func (l *Listing) After(name segment.Name) bool {
	t := l.timelines[name.Timeline]
	return t != nil && t.any && t.highest > name.Number
}

// Timelines lists the timelines of which anything is there, ascending.
func (l *Listing) Timelines() []segment.TimelineID {
	return slices.Sorted(maps.Keys(l.timelines))
}

// Histories lists the timelines whose history file is there, ascending.
func (l *Listing) Histories() []segment.TimelineID {
	return slices.DeleteFunc(l.Timelines(), func(t segment.TimelineID) bool { return !l.HasHistory(t) })
}

// HasHistory tells whether the history file of a timeline is there.
func (l *Listing) HasHistory(t segment.TimelineID) bool {
	return l.timelines[t] != nil && l.timelines[t].history
}

// Ranges lists the runs of complete segments on a timeline, ascending. Between
// two of them is a hole.
func (l *Listing) Ranges(t segment.TimelineID) []Range {
	if l.timelines[t] == nil {
		return nil
	}
	return slices.Clone(l.timelines[t].ranges)
}

// Segments yields every complete segment, by timeline and then by number.
func (l *Listing) Segments() iter.Seq[segment.Name] {
	return func(yield func(segment.Name) bool) {
		for _, t := range l.Timelines() {
			for _, r := range l.timelines[t].ranges {
				for n := r.First; ; n++ {
					if !yield(segment.Name{Timeline: t, Number: n}) {
						return
					}
					if n == r.Last {
						break
					}
				}
			}
		}
	}
}

// End is the end of the WAL that is there without a hole, counted from the
// oldest complete segment of the timeline. ok is false if there is none.
func (l *Listing) End(t segment.TimelineID) (end segment.LSN, ok bool) {
	ranges := l.Ranges(t)
	if len(ranges) == 0 {
		return 0, false
	}
	return segment.Name{Timeline: t, Number: ranges[0].Last}.End(l.size), true
}

// PartialsOn counts the partials of a timeline.
func (l *Listing) PartialsOn(t segment.TimelineID) int {
	if l.timelines[t] == nil {
		return 0
	}
	return len(l.timelines[t].partials)
}

// Partials lists the partials of a segment.
func (l *Listing) Partials(name segment.Name) []Partial {
	if l.timelines[name.Timeline] == nil {
		return nil
	}
	var partials []Partial
	for _, p := range l.timelines[name.Timeline].partials {
		if p.Name == name {
			partials = append(partials, p)
		}
	}
	return partials
}

// Empty tells whether there is no WAL: no segment, no partial, no chunk, no history.
func (l *Listing) Empty() bool { return len(l.timelines) == 0 }
