package verify

import (
	"context"
	"fmt"
	"slices"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/segment"
)

// seen is damage in a segment that somebody saw before and left word of.
type seen struct {
	key     string // where
	lsn     segment.LSN
	message string
	cleared bool // what is archived was read, and is sound
}

// recall reads the gaps or the marks, and says which of them are damaged.
func recall[T any](ctx context.Context, v *Verifier, read func(context.Context) ([]T, error)) (list []T, damaged []*archive.DamagedError, err error) {
	err = v.retry(ctx, func(ctx context.Context, _ func()) error {
		list, err = read(ctx)
		return err
	})
	if err != nil && !isFinding(err) {
		return nil, nil, err
	}
	return list, damages(err), nil
}

// forgotten reports gaps or marks that are damaged.
func (v *Verifier) forgotten(list []*archive.DamagedError, advice string) {
	for _, d := range list {
		v.found(Finding{Kind: KindDamaged, Object: d.Key, Message: d.Reason, Advice: advice})
	}
}

const (
	adviceGap  = "what it said of missing WAL is lost; put it there again from another copy"
	adviceMark = "what it said of damaged WAL is lost; put it there again from another copy, or verify with --deep"
)

// damages lists the damaged objects of which an error tells.
func damages(err error) (list []*archive.DamagedError) {
	switch e := err.(type) { //nolint:errorlint // the tree is walked by hand
	case nil:
	case *archive.DamagedError:
		return []*archive.DamagedError{e}
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			list = append(list, damages(one)...)
		}
	case interface{ Unwrap() error }:
		return damages(e.Unwrap())
	}
	return list
}

func (v *Verifier) seenByReceiver(m segment.Mark) seen {
	return seen{
		key:     archive.Object{System: v.id.SystemID, Kind: archive.KindMark, File: m.FileName(v.id.SegmentSize)}.Key(),
		lsn:     m.LSN,
		message: fmt.Sprintf("the server sent damaged WAL, twice, as a mark of %s says: %s", m.Found.UTC().Format(timeFormat), m.Reason),
	}
}

// lookUp reads what the archive says of its segments, without reading them: the
// index, and the ends of the objects that are not in it.
func (v *Verifier) lookUp(ctx context.Context, s *survey) error {
	marks, damaged, err := recall(ctx, v, v.archive.Marks)
	if err != nil {
		return fmt.Errorf("read the marks of the archive: %w", err)
	}
	v.forgotten(damaged, adviceMark)
	var infos []archive.SegmentInfo
	err = v.retry(ctx, func(ctx context.Context, alive func()) error {
		infos = infos[:0]
		return v.archive.Infos(ctx, s.listing, s.index, func(i archive.SegmentInfo, err error) error {
			alive()
			if err == nil { // else the segment itself will tell
				infos = append(infos, i)
			}
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("read the index of the archive: %w", err)
	}
	s.since = v.since(infos)
	clears := map[segment.Name]archive.SegmentInfo{}
	for _, i := range infos {
		s.digests[i.Name] = i.Digest
		if i.Known && i.Summary.Verified() {
			clears[i.Name] = i
		}
		if i.Known && i.Summary.Faults > 0 {
			s.seen[i.Name] = append(s.seen[i.Name], seen{
				key: v.segmentObject(i.Name).key, lsn: i.Summary.FirstFault.LSN,
				message: "it was damaged before it was archived: " + i.Summary.FirstFault.Reason,
			})
		}
	}
	for _, m := range marks {
		if s.listing.IsPruned(m.Name) {
			continue
		}
		one := v.seenByReceiver(m)
		one.cleared = clears[m.Name].Clears(m)
		s.seen[m.Name] = append(s.seen[m.Name], one)
	}
	return nil
}

// since is where the first segment begins that is of interest. Times of commits
// need not increase: what is taken is the oldest segment with a commit at that
// time or after it, and the one before that; also those in front of it of which no
// commit is known.
func (v *Verifier) since(infos []archive.SegmentInfo) segment.LSN {
	size, t := v.id.SegmentSize, v.options.SinceTime
	if t.IsZero() || len(infos) == 0 {
		return size.Floor(v.options.Since)
	}
	infos = slices.Clone(infos)
	slices.SortFunc(infos, func(a, b archive.SegmentInfo) int { return a.Name.Compare(b.Name) })
	first := infos[len(infos)-1].Name.Number
	for _, i := range infos {
		if i.Known && !i.Summary.LastCommit.Before(t) {
			first = i.Name.Number
			break
		}
	}
	before := infos[0].Name.Number
	for _, i := range infos {
		if i.Name.Number < first && i.Known && !i.Summary.LastCommit.IsZero() {
			before = i.Name.Number
		}
	}
	return size.Start(before)
}

// repeat tells again what was seen of a segment before. f is nil if its records
// were not read now.
func (v *Verifier) repeat(s *survey, n segment.Name, f *follower) {
	for _, one := range s.seen[n] {
		d := Finding{Kind: KindMark, Object: one.key, Timeline: n.Timeline, LSN: one.lsn, Message: one.message}
		switch {
		case f != nil:
			if len(f.tally.faults) == 0 && f.reader.End() > one.lsn {
				d.Message += "; what is archived is sound"
			}
		case v.options.Deep: // why its records were not read was told
		case !s.holds(n):
			d.Message += "; the archive does not have the segment"
		case one.cleared:
			d.Message += "; what was archived was read then, and is sound"
		default:
			d.Kind = KindMarked
			d.Advice = fmt.Sprintf("verify with --deep, which reads the records, and compare the segment with another copy; recovery past %s on timeline %d is not possible if it is so",
				one.lsn, uint32(n.Timeline))
			v.found(d)
			continue
		}
		v.notice(d)
	}
}
