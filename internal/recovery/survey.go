package recovery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"time"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/segment"
)

// Survey is what an archive holds, as far as recoveries need to know it. It keeps a
// few words for every segment. It is not safe for concurrent use: what is read to
// answer a question is kept for the next one.
type Survey struct {
	archive *archive.Archive
	size    segment.Size
	listing *archive.Listing
	chain   *archive.Chain

	marks  map[segment.Name][]segment.Mark
	notes  map[segment.TimelineID][]note // ascending
	broken map[segment.Name]string       // what ends a recovery where the segment begins

	partialEnds map[segment.Name]segment.LSN // of partials that were read
}

// note is what is known of a complete segment without reading it.
type note struct {
	number uint64
	known  bool
	first  time.Time // of the first and the last commit that end in it; zero if none
	last   time.Time
	record segment.LSN // where a record begins that is complete: the last one, or one before; 0 if none is known
	points []segment.NamedPoint
	more   bool // there are more restore points than points
}

// latest is the later one of the two times that are known of a segment's commits.
func (n *note) latest() time.Time {
	if n.first.After(n.last) {
		return n.first
	}
	return n.last
}

// Look surveys an archive. pause waits between two looks at one that lacks
// something: see [archive.Settle].
func Look(ctx context.Context, a *archive.Archive, pause func(context.Context) error) (*Survey, error) {
	seen, err := archive.Settle(ctx, func(ctx context.Context) (archive.Look, error) { return look(ctx, a) }, pause)
	if err != nil {
		return nil, err
	}
	marks, err := a.Marks(ctx)
	if err = passDamage(err); err != nil {
		return nil, err
	}
	s := NewSurvey(a, seen, marks)
	index, err := a.Index(ctx)
	if err != nil {
		index = nil // the objects themselves say the same
	}
	if err := a.Infos(ctx, seen.Listing, index, s.Segment); err != nil {
		return nil, err
	}
	return s, nil
}

func look(ctx context.Context, a *archive.Archive) (archive.Look, error) {
	l, err := a.Listing(ctx)
	if err != nil {
		return archive.Look{}, err
	}
	gaps, err := a.Gaps(ctx)
	if err = passDamage(err); err != nil {
		return archive.Look{}, err
	}
	histories, damaged, err := a.Histories(ctx, l)
	if err != nil {
		return archive.Look{}, err
	}
	return archive.Look{Listing: l, Chain: archive.NewChain(l, histories, damaged, gaps)}, nil
}

// passDamage lets findings pass that cannot be read: the hole that a gap is about is
// there without it, and so is what the index says of a segment that a mark is about.
func passDamage(err error) error {
	var damaged *archive.DamagedError
	if errors.As(err, &damaged) {
		return nil
	}
	return err
}

// NewSurvey begins a survey, for callers that look at the archive for other reasons,
// too. They call Segment for every complete segment of the look.
func NewSurvey(a *archive.Archive, seen archive.Look, marks []segment.Mark) *Survey {
	s := &Survey{
		archive: a,
		size:    a.Identity().SegmentSize,
		listing: seen.Listing, chain: seen.Chain,
		marks:  map[segment.Name][]segment.Mark{},
		notes:  map[segment.TimelineID][]note{},
		broken: map[segment.Name]string{},

		partialEnds: map[segment.Name]segment.LSN{},
	}
	for _, m := range marks {
		s.marks[m.Name] = append(s.marks[m.Name], m)
	}
	for _, t := range seen.Listing.Timelines() {
		segments := uint64(0)
		for _, r := range seen.Listing.Ranges(t) {
			segments += r.Last - r.First + 1
		}
		s.notes[t] = make([]note, 0, segments)
	}
	return s
}

// Segment takes what is known of a segment, as [archive.Archive.Infos] passes it. It
// fails if the store did not answer: then nothing is known.
func (s *Survey) Segment(info archive.SegmentInfo, err error) error {
	n := note{number: info.Name.Number}
	var damaged *archive.DamagedError
	switch {
	case err == nil:
		s.learn(&n, info)
	case errors.Is(err, archive.ErrEncrypted): // whoever has to read it will say so
	case errors.Is(err, fs.ErrNotExist), errors.As(err, &damaged):
		s.broken[info.Name] = err.Error()
	default:
		return fmt.Errorf("look at segment %s: %w", info.Name.Format(s.size), err)
	}
	t := info.Name.Timeline
	s.notes[t] = append(s.notes[t], n)
	return nil
}

// Lose takes a segment for one that cannot be read, for callers that go on without an
// answer about it.
func (s *Survey) Lose(name segment.Name, err error) {
	s.broken[name] = err.Error()
	s.notes[name.Timeline] = append(s.notes[name.Timeline], note{number: name.Number})
}

// learn takes the summary of a segment.
func (s *Survey) learn(n *note, info archive.SegmentInfo) {
	for _, m := range s.marks[info.Name] {
		if !info.Clears(m) {
			s.broken[info.Name] = fmt.Sprintf("it is damaged at %s, as the server sent it: %s", m.LSN, m.Reason)
		}
	}
	if !info.Known {
		return
	}
	sum := &info.Summary
	if sum.Faults > 0 {
		s.broken[info.Name] = "it is damaged: " + sum.FirstFault.Error()
	}
	n.known = true
	n.first, n.last = sum.FirstCommit, sum.LastCommit
	n.points, n.more = sum.RestorePoints, sum.MoreRestorePoints > 0
	switch {
	case sum.Open == 0 || sum.Open < sum.Last:
		n.record = sum.Last
	case sum.First < sum.Last:
		n.record = sum.First
	}
}

// notesOn yields what is known of the segments of a line, from number to number, both
// in it, in order.
func (s *Survey) notesOn(l *line, from, to uint64) iter.Seq2[segment.Name, *note] {
	return func(yield func(segment.Name, *note) bool) {
		for _, span := range l.spans {
			notes := s.notesIn(span.Timeline, max(from, span.First), min(to, span.Last))
			for i := range notes {
				if !yield(segment.Name{Timeline: span.Timeline, Number: notes[i].number}, &notes[i]) {
					return
				}
			}
		}
	}
}

// notesIn is what is known of the segments of a timeline, from first to last, both in it.
func (s *Survey) notesIn(t segment.TimelineID, first, last uint64) []note {
	notes := s.notes[t]
	if first > last {
		return nil
	}
	from, _ := slices.BinarySearchFunc(notes, first, noteOf)
	to, found := slices.BinarySearchFunc(notes, last, noteOf)
	if found {
		to++
	}
	return notes[from:to]
}

func noteOf(n note, number uint64) int { return cmp.Compare(n.number, number) }

// Commits are the times of the first and the last commit in a run of segments, in the
// order of the log, as far as they are known; zero if there is none.
func (s *Survey) Commits(span archive.Span) (first, last time.Time) {
	for _, n := range s.notesIn(span.Timeline, span.First, span.Last) {
		if n.first.IsZero() {
			continue
		}
		if first.IsZero() {
			first = n.first
		}
		last = n.last
	}
	return first, last
}
