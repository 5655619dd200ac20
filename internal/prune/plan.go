package prune

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/backup"
	"github.com/walrecv/walrecv/internal/recovery"
	"github.com/walrecv/walrecv/segment"
)

// Plan finds out what goes. Nothing is changed. An error means that the archive could
// not be read, or that what the rule says makes no sense for it.
func (p *Pruner) Plan(ctx context.Context) (*Plan, error) {
	if !p.rule.byPlace() && p.rule.Window <= 0 && p.rule.Keep <= 0 {
		return nil, errors.New("nothing says what is to stay")
	}
	// The backups come first: one that is completed meanwhile has its WAL then.
	entries, err := backup.List(ctx, p.archive, p.now)
	if err != nil {
		return nil, err
	}
	look, err := backup.Look(ctx, p.archive)
	if err != nil {
		return nil, err
	}
	survey, moment, err := p.survey(ctx, entries, look)
	if err != nil {
		return nil, err
	}
	f := p.facts(entries, look, survey)
	rule, notes := p.rule, []string(nil)
	if !rule.BeforeTime.IsZero() {
		at, note, err := moment.position()
		if err != nil {
			return nil, err
		}
		if rule.Before = at; note != "" {
			notes = append(notes, note)
		}
	}
	clock, err := p.clock(ctx, entries, f.newestName)
	if err != nil {
		return nil, err
	}
	c := choose(f, rule, clock.now)
	plan := &Plan{Start: c.start, Notes: slices.Concat(clock.notes, notes, c.notes), Problems: append(clock.problems, c.problems...)}
	for _, e := range entries {
		plan.Backups = append(plan.Backups, *c.verdicts[e.ID])
	}
	plan.said = look.Listing.Pruned()
	for _, t := range look.Listing.Timelines() {
		plan.Timeline = max(plan.Timeline, t)
	}
	return plan, p.count(ctx, plan)
}

// survey reads what is known of the segments: what recoveries can use, and the moment
// that the rule names. Nothing is read where nobody asks for either.
func (p *Pruner) survey(ctx context.Context, entries []backup.Entry, look archive.Look) (*recovery.Survey, *moment, error) {
	marks, err := p.archive.Marks(ctx)
	var damaged *archive.DamagedError
	if err != nil && !errors.As(err, &damaged) { // what a damaged mark is about, the summary says, too
		return nil, nil, err
	}
	survey := recovery.NewSurvey(p.archive, look, marks)
	m := newMoment(look, p.id.SegmentSize, p.rule.BeforeTime)
	isGood := func(e backup.Entry) bool { return e.State == backup.Good }
	if p.rule.BeforeTime.IsZero() && !slices.ContainsFunc(entries, isGood) {
		return survey, m, nil
	}
	index, err := p.archive.Index(ctx)
	if err != nil {
		index = nil // the objects themselves say the same
	}
	err = p.archive.Infos(ctx, look.Listing, index, func(i archive.SegmentInfo, infoErr error) error {
		m.see(i, infoErr)
		return survey.Segment(i, infoErr)
	})
	if err != nil {
		return nil, nil, fmt.Errorf("look at the segments of the archive: %w", err)
	}
	return survey, m, nil
}

// facts gathers what a choice depends on.
func (p *Pruner) facts(entries []backup.Entry, look archive.Look, survey *recovery.Survey) facts {
	f := facts{size: p.id.SegmentSize, entries: entries, broken: map[string]string{}}
	for _, e := range entries {
		if e.State != backup.Good {
			continue
		}
		f.broken[e.ID] = survey.Unsound(e)
	}
	if current := look.Chain.Current(); current != nil {
		f.current = current.History
		f.newestName = newestOn(look, current.Timeline)
		f.newest = f.newestName.Start(f.size)
	}
	for _, b := range look.Chain.Branches {
		for _, h := range b.Holes {
			if h.Gap == nil {
				f.holes = append(f.holes, h)
			}
		}
	}
	return f
}

// newestOn is the newest complete segment on the way to the end of a timeline, the zero
// Name if there is none.
func newestOn(look archive.Look, t segment.TimelineID) segment.Name {
	for _, span := range slices.Backward(look.Chain.Line(t)) {
		for n := span.Last; n >= span.First && n > 0; n-- {
			if name := (segment.Name{Timeline: span.Timeline, Number: n}); look.Listing.Has(name) {
				return name
			}
		}
	}
	return segment.Name{}
}

// says is what is to be said in the archive before its WAL is removed. ok is false if
// there is nothing new to say.
func (p *Plan) says() (new archive.Pruned, ok bool) {
	new = archive.Pruned{Timeline: p.Timeline, Before: p.Start}
	ok = new.Timeline != 0 && new.Before != 0 &&
		!slices.ContainsFunc(p.said, func(q archive.Pruned) bool { return q.Implies(new) })
	return new, ok
}

// pruned is all that will be said to be removed.
func (p *Plan) pruned() []archive.Pruned {
	all := slices.Clone(p.said)
	if new, ok := p.says(); ok {
		all = append(all, new)
	}
	return all
}

// The kinds of what goes, in the order in which they are told.
const (
	sumBackups  = "base backups"
	sumSegments = "segments"
	sumPartials = "partials"
	sumTail     = "pieces of the tail"
	sumIndex    = "index objects"
	sumGaps     = "gaps"
	sumMarks    = "marks"
	sumFiles    = "backup history files"
)

var sumOrder = []string{sumBackups, sumSegments, sumPartials, sumTail, sumIndex, sumGaps, sumMarks, sumFiles}

var sumOf = map[archive.Kind]string{
	archive.KindSegment: sumSegments, archive.KindPartial: sumPartials, archive.KindTail: sumTail,
	archive.KindIndex: sumIndex, archive.KindGap: sumGaps, archive.KindMark: sumMarks, archive.KindBackup: sumFiles,
}

// sums add up, by kind.
type sums map[string]Sum

func (s sums) add(what string, bytes int64) {
	one := s[what]
	s[what] = Sum{What: what, Objects: one.Objects + 1, Bytes: one.Bytes + bytes}
}

func (s sums) list() (list []Sum) {
	for _, one := range s {
		list = append(list, one)
	}
	slices.SortFunc(list, func(a, b Sum) int {
		return cmp.Compare(slices.Index(sumOrder, a.What), slices.Index(sumOrder, b.What))
	})
	return list
}

// count counts what goes.
func (p *Pruner) count(ctx context.Context, plan *Plan) error {
	s := sums{}
	for _, v := range plan.Backups {
		if !v.Keep {
			s.add(sumBackups, v.Stored)
		}
	}
	err := p.archive.EachCovered(ctx, plan.pruned(), func(page []archive.Covered) error {
		for _, o := range page {
			s.add(sumOf[o.Kind], o.Size)
		}
		return nil
	})
	plan.Sums = s.list()
	if err != nil {
		return fmt.Errorf("count what goes: %w", err)
	}
	return nil
}

// narrow takes back what base backups forbid that began, or went on, since the plan was
// made: they hold the WAL from their start on.
func (p *Plan) narrow(entries []backup.Entry, size segment.Size) error {
	known := map[string]*Verdict{}
	for i := range p.Backups {
		known[p.Backups[i].ID] = &p.Backups[i]
	}
	for _, e := range entries {
		v := known[e.ID]
		switch {
		case v != nil && (v.Keep || v.State == e.State):
			continue
		case v != nil:
			v.Keep, v.Why = true, fmt.Sprintf("it was %s, and is %s now", v.State, e.State)
		case e.StartLSN == 0:
			return fmt.Errorf("the base backup %s has come, and cannot be read (%w): nothing was removed", e.ID, e.Damage)
		}
		if start := size.Floor(e.StartLSN); start < p.Start {
			p.Start = start
			p.Notes = append(p.Notes, fmt.Sprintf("the WAL from %s on stays: %s has come", start, e.ID))
		}
	}
	return nil
}
