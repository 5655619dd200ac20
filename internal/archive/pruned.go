package archive

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
)

// Pruned says that the WAL before a position was removed from an archive on
// purpose, or is being removed: of a timeline and of all with a lower number. What
// is still there of it counts for nothing, so that it can be deleted in any order,
// and nobody takes what is deleted for lost.
//
// Timelines that came later can have WAL before that position, after a recovery to
// a point that lies further back.
type Pruned struct {
	Timeline segment.TimelineID // the newest one it is about
	Before   segment.LSN        // start of the first segment that was kept
}

const suffixPruned = ".pruned"

// file is the name that the object has.
func (p Pruned) file() string {
	return fmt.Sprintf("%s.%016X%s", p.Timeline, uint64(p.Before), suffixPruned)
}

// prunedOfName reads the name of the object, which says it all.
func prunedOfName(file string) (p Pruned, ok bool) {
	name, ok := strings.CutSuffix(file, suffixPruned)
	timeline, before, _ := strings.Cut(name, ".")
	t, errTimeline := strconv.ParseUint(timeline, 16, 32)
	l, errBefore := strconv.ParseUint(before, 16, 64)
	p = Pruned{Timeline: segment.TimelineID(t), Before: segment.LSN(l)}
	return p, ok && errTimeline == nil && errBefore == nil && t != 0 && l != 0 && p.file() == file
}

type prunedFile struct {
	Timeline uint32      `json:"timeline"`
	Before   segment.LSN `json:"before_lsn"`
	Pruned   time.Time   `json:"pruned"`
}

// PutPruned says, durably, what is about to be removed. That it was said before is
// success.
func (a *Archive) PutPruned(ctx context.Context, p Pruned, now time.Time) error {
	content, err := json.Marshal(prunedFile{uint32(p.Timeline), p.Before, now.UTC().Truncate(time.Second)})
	if err != nil {
		return err
	}
	return a.putFinding(ctx, KindPruned, p.file(), append(content, '\n'))
}

// PrunedKey is the key of the object that says it.
func (a *Archive) PrunedKey(p Pruned) string {
	return Object{System: a.id.SystemID, Kind: KindPruned, File: p.file()}.Key()
}

// Pruned lists what was said to be removed, by timeline and position.
func (a *Archive) Pruned(ctx context.Context) (list []Pruned, err error) {
	err = a.store.List(ctx, prunedPrefix(a.id.SystemID), func(info storage.Info) error {
		if o, err := ParseKey(info.Key); err == nil && o.Kind == KindPruned {
			p, _ := prunedOfName(o.File)
			list = append(list, p)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list what was pruned: %w", err)
	}
	return list, nil
}

func prunedPrefix(system uint64) string { return systemDir(system) + prunedDir + "/" }

// Implies tells whether what one says follows from the other.
func (p Pruned) Implies(q Pruned) bool { return q.Timeline <= p.Timeline && q.Before <= p.Before }

// Covers tells whether an object is about nothing but WAL that was removed: the WAL
// itself, or what is known of it. Histories are of the whole log, and stay.
func (p Pruned) Covers(o Object, size segment.Size) bool {
	if o.Timeline == 0 || o.Timeline > p.Timeline {
		return false
	}
	last := o.Segment
	switch o.Kind {
	case KindGap:
		g, ok := segment.GapOfName(o.File)
		return ok && g.To <= p.Before
	case KindIndex:
		last = o.Last
	case KindSegment, KindPartial, KindTail, KindBackup, KindMark:
	default:
		return false
	}
	n, err := segment.ParseName(last, size)
	return err == nil && n.End(size) <= p.Before
}

// Pruned lists what was said to be removed. What is not credible is left out: prune
// never removes the newest segment.
func (l *Listing) Pruned() []Pruned { return slices.Clone(l.pruned) }

// Doubted lists what was said to be removed and is not credible.
func (l *Listing) Doubted() []Pruned { return slices.Clone(l.doubted) }

// Start is where the WAL of a timeline begins at the earliest: everything before was
// removed on purpose. 0: nothing was.
func (l *Listing) Start(t segment.TimelineID) (start segment.LSN) {
	for _, p := range l.pruned {
		if t <= p.Timeline {
			start = max(start, p.Before)
		}
	}
	return start
}

// Left tells whether an object is left over from what was removed on purpose.
func (l *Listing) Left(o Object) bool {
	return slices.ContainsFunc(l.pruned, func(p Pruned) bool { return p.Covers(o, l.size) })
}

// IsPruned tells whether a segment was removed on purpose.
func (l *Listing) IsPruned(n segment.Name) bool { return n.End(l.size) <= l.Start(n.Timeline) }

// forget leaves out what was removed on purpose, of which something may still be
// there.
func (l *Listing) forget(pruned []Pruned) {
	newest := segment.LSN(0)
	for _, t := range l.timelines {
		if n := len(t.ranges); n > 0 {
			newest = max(newest, l.size.Start(t.ranges[n-1].Last))
		}
	}
	for _, p := range pruned {
		if p.Before > newest {
			l.doubted = append(l.doubted, p)
		} else {
			l.pruned = append(l.pruned, p)
		}
	}
	for id, t := range l.timelines {
		if start := l.Start(id); start != 0 {
			t.forget(l.size.Number(start))
		}
		if !t.history && !t.any {
			delete(l.timelines, id)
		}
	}
}

// forget leaves out the numbers below one.
func (t *timelineListing) forget(start uint64) {
	t.ranges = slices.DeleteFunc(t.ranges, func(r Range) bool { return r.Last < start })
	if len(t.ranges) > 0 {
		t.ranges[0].First = max(t.ranges[0].First, start)
	}
	t.partials = slices.DeleteFunc(t.partials, func(p Partial) bool { return p.Name.Number < start })
	for number := range t.chunks {
		if number < start {
			delete(t.chunks, number)
		}
	}
	t.any = t.any && t.highest >= start
}
