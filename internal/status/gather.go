package status

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"time"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/backup"
	"github.com/walrecv/walrecv/internal/recovery"
	"github.com/walrecv/walrecv/segment"
)

// Gather reads what the archive holds. where says to people where it is, now tells
// base backups that run from abandoned ones, pause waits between two looks
// ([archive.Pause]). What is damaged in the archive is a
// part of the report; an error means that the archive could not be read.
func Gather(ctx context.Context, a *archive.Archive, where string, now time.Time, pause func(context.Context) error) (*Report, error) {
	id := a.Identity()
	g := &gatherer{
		size:  id.SegmentSize,
		blind: a.Blind(),
		report: &Report{
			Archive:       where,
			SystemID:      strconv.FormatUint(id.SystemID, 10),
			Major:         id.Major,
			SegmentSize:   int64(id.SegmentSize),
			Recoverable:   []Recoverable{},
			Backups:       []backup.Line{},
			Timelines:     []Timeline{},
			Gaps:          []Gap{},
			Marks:         []Mark{},
			RestorePoints: []RestorePoint{},
			Problems:      []Problem{},
		},
		marks:  map[segment.Name][]int{},
		broken: map[segment.Name]bool{},
		points: map[segment.Position]bool{},
	}
	// Before the WAL, so that no backup seems to lack what came after a look.
	entries, err := backup.List(ctx, a, now)
	if err != nil {
		return nil, err
	}
	seen, err := archive.Settle(ctx, func(ctx context.Context) (archive.Look, error) { return g.look(ctx, a) }, pause)
	if err != nil {
		return nil, err
	}
	if err := g.readMarks(ctx, a, seen.Listing); err != nil {
		return nil, err
	}
	l := seen.Listing
	g.chain, g.listing = seen.Chain, l
	g.survey = recovery.NewSurvey(a, seen, g.marked)
	g.follow()
	for i := range g.chain.Branches {
		g.timeline(&g.chain.Branches[i], l)
	}
	index, err := a.Index(ctx)
	if err != nil {
		g.indexless = err // the objects themselves say the same
	}
	if err := a.Infos(ctx, l, index, g.segment); err != nil {
		return nil, err
	}
	g.damagedIndex = index.Damaged()
	if g.silent > 0 && g.silent == g.seen {
		return nil, g.firstSilent
	}
	g.finish()
	g.backups(entries)
	if err := g.drill(ctx, a); err != nil {
		return nil, err
	}
	return g.report, nil
}

// gatherer fills a report.
type gatherer struct {
	report *Report
	size   segment.Size
	blind  bool // it is one of those who write, who cannot read what they encrypt
	chain  *archive.Chain

	listing *archive.Listing
	survey  *recovery.Survey

	gapsDamage, marksDamage error // gaps and marks that cannot be read

	marked []segment.Mark         // as report.Marks has them
	marks  map[segment.Name][]int // of a segment, in marked

	line   []archive.Span            // the way to the end of the newest timeline
	broken map[segment.Name]bool     // segments that end a recovery
	points map[segment.Position]bool // restore points that were seen

	firstFaulty, firstUnreadable string // what the first of them is, for people

	indexless    error                   // why the index is not known
	damagedIndex []*archive.DamagedError // of it

	seen, silent int   // segments; those of which the store told nothing
	firstSilent  error // what it said instead
}

// maxSilent is how many segments may be unreadable for reasons of the store, as a
// disk has with bad sectors. A store that fails more often is not there.
const maxSilent = 100

// timeline adds a timeline and its gaps.
func (g *gatherer) timeline(b *archive.Branch, l *archive.Listing) {
	t := Timeline{
		Timeline: uint32(b.Timeline),
		Parent:   uint32(b.Parent),
		Fork:     b.Fork,
		History:  historyPresent,
		Partials: l.PartialsOn(b.Timeline),
		Ranges:   []Range{},
	}
	switch {
	case errors.Is(b.Problem, archive.ErrNoHistory):
		t.History = historyMissing
	case b.Problem != nil:
		t.History = historyUnusable
	case b.Timeline == 1:
		t.History = historyNone
	}
	for _, r := range b.Ranges {
		t.Ranges = append(t.Ranges, g.rangeOf(b.Timeline, r))
	}
	t.Tail = g.tail(b)
	g.report.Timelines = append(g.report.Timelines, t)
	for _, h := range b.Holes {
		gap := Gap{Timeline: uint32(h.Timeline), Range: g.rangeOf(h.Timeline, archive.Range{First: h.First, Last: h.Last})}
		gap.Arriving = h.Arriving && h.Gap == nil
		if h.Gap != nil {
			gap.Accepted, gap.Reason, gap.Found = true, h.Gap.Reason, h.Gap.Found.UTC()
		}
		g.report.Gaps = append(g.report.Gaps, gap)
	}
}

// tail is what a timeline has behind its newest complete segment, nil if nothing.
func (g *gatherer) tail(b *archive.Branch) *Tail {
	tails := g.listing.Tails(b.Timeline)
	if len(tails) == 0 {
		return nil
	}
	t := &Tail{}
	for _, n := range tails {
		t.Chunks += len(g.listing.Chunks(n))
	}
	from := tails[0]
	if n := len(b.Ranges); n > 0 {
		from = segment.Name{Timeline: b.Timeline, Number: b.Ranges[n-1].Last + 1}
	}
	t.Start, t.End = from.Start(g.size), g.listing.TailEnd(from)
	return t
}

func (g *gatherer) rangeOf(t segment.TimelineID, r archive.Range) Range {
	first, last := segment.Name{Timeline: t, Number: r.First}, segment.Name{Timeline: t, Number: r.Last}
	return Range{
		First:    first.Format(g.size),
		Last:     last.Format(g.size),
		Start:    first.Start(g.size),
		End:      last.End(g.size),
		Segments: r.Last - r.First + 1,
	}
}

// segment adds what is known of a complete segment.
func (g *gatherer) segment(info archive.SegmentInfo, err error) error {
	if unknown := g.survey.Segment(info, err); unknown != nil {
		g.survey.Lose(info.Name, unknown)
	}
	t := g.timelineOf(info.Name.Timeline)
	s := &info.Summary
	t.Segments.Total++
	g.seen++
	g.clearMarks(info)
	switch {
	case errors.Is(err, archive.ErrEncrypted):
		t.Segments.Encrypted++
	case err != nil:
		t.Segments.Unreadable++
		g.broken[info.Name] = true
		g.firstUnreadable = cmp.Or(g.firstUnreadable, err.Error())
		return g.unreadable(err)
	case info.Known && s.Faults > 0:
		t.Segments.Faulty++
		g.broken[info.Name] = true
		g.firstFaulty = cmp.Or(g.firstFaulty, fmt.Sprintf("%s at %s: %s", info.Name.Format(g.size), s.FirstFault.LSN, s.FirstFault.Reason))
	case info.Known && s.Verified():
		t.Segments.Verified++
	default:
		t.Segments.Unverified++
	}
	if info.Known {
		g.summary(t, info.Name, s)
	}
	return nil
}

// unreadable gives up on a store that is not there.
func (g *gatherer) unreadable(err error) error {
	var damaged *archive.DamagedError
	if errors.As(err, &damaged) || errors.Is(err, fs.ErrNotExist) {
		return nil // that is an answer
	}
	if g.silent++; g.silent == 1 {
		g.firstSilent = fmt.Errorf("segments cannot be read: %w", err)
	}
	if g.silent > maxSilent {
		return g.firstSilent
	}
	return nil
}

// timelineOf finds a timeline of the report: there is one for every segment.
func (g *gatherer) timelineOf(t segment.TimelineID) *Timeline {
	i, _ := slices.BinarySearchFunc(g.report.Timelines, uint32(t), func(l Timeline, t uint32) int { return cmp.Compare(l.Timeline, t) })
	return &g.report.Timelines[i]
}

// summary adds times and restore points of a segment.
func (g *gatherer) summary(t *Timeline, name segment.Name, s *segment.Summary) {
	if !s.FirstCommit.IsZero() {
		if t.FirstCommit.IsZero() {
			t.FirstCommit = s.FirstCommit.UTC()
		}
		t.LastCommit = s.LastCommit.UTC()
	}
	g.report.MoreRestorePoints += s.MoreRestorePoints
	history := g.chain.Branch(name.Timeline).History
	for _, p := range s.RestorePoints {
		// The first segment of a timeline begins with a copy of its parent's WAL.
		at := segment.Position{Timeline: history.TimelineAt(p.LSN - 1), LSN: p.LSN}
		if g.points[at] {
			continue
		}
		g.points[at] = true
		g.report.RestorePoints = append(g.report.RestorePoints, RestorePoint{
			Name: p.Name, LSN: p.LSN, Time: p.Time.UTC(), Timeline: uint32(at.Timeline),
		})
	}
}

// finish adds up what is known once all segments were seen.
func (g *gatherer) finish() {
	r := g.report
	for _, t := range r.Timelines {
		r.Segments.add(t.Segments)
	}
	g.window()
	for i := range r.RestorePoints {
		p := &r.RestorePoints[i]
		p.InWindow = r.Window != nil && r.Window.Start < p.LSN && p.LSN <= r.Window.End &&
			uint32(g.chain.Current().History.TimelineAt(p.LSN-1)) == p.Timeline
	}
	slices.SortFunc(r.RestorePoints, func(a, b RestorePoint) int {
		return cmp.Or(cmp.Compare(a.LSN, b.LSN), cmp.Compare(a.Timeline, b.Timeline))
	})
	g.problems()
}

func (c *Counts) add(d Counts) {
	c.Total += d.Total
	c.Verified += d.Verified
	c.Unverified += d.Unverified
	c.Faulty += d.Faulty
	c.Unreadable += d.Unreadable
	c.Encrypted += d.Encrypted
}
