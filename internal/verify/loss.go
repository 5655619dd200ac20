package verify

import (
	"context"
	"fmt"
	"slices"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/segment"
)

// empty reports that there is no WAL at all.
func (v *Verifier) empty() {
	v.found(Finding{
		Kind: KindEmpty, Object: v.systemDir(), Message: "there is no WAL in it: no segment, no partial",
		Advice: "if walrecv receive has not archived anything yet, let it; else the archive has lost its WAL: copy it from another archive, or take a base backup",
	})
}

// losses reports segments that the index has, and that are missed by nothing else:
// at the end of a timeline, or all of one. What is older than all that is there
// can have been removed on purpose.
func (v *Verifier) losses(s *survey) {
	oldest, some := s.oldest()
	for _, lost := range s.lost {
		for _, h := range s.unexplained(lost) {
			if v.id.SegmentSize.Start(h.Last) < s.since {
				continue
			}
			f := v.missing(h)
			f.Message += indexHas
			if some && h.Last < oldest {
				f.Kind, f.Advice = KindRemoved, "nothing, if it was removed because it is old"
				v.notice(f)
				continue
			}
			v.found(f)
		}
	}
}

// vanished notes an object that was listed and is not there.
func (v *Verifier) vanished(o object) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.missed = append(v.missed, o)
}

// gone reports the objects that vanished, but for those that were pruned meanwhile:
// that is said before it is done.
func (v *Verifier) gone(ctx context.Context) {
	if len(v.missed) == 0 {
		return
	}
	var pruned []archive.Pruned
	err := v.retry(ctx, func(ctx context.Context, _ func()) (err error) {
		pruned, err = v.archive.Pruned(ctx)
		return err
	})
	if err != nil {
		pruned = nil
	}
	removed := 0
	for _, o := range v.missed {
		if slices.ContainsFunc(pruned, func(p archive.Pruned) bool { return p.Covers(o.at, v.id.SegmentSize) }) {
			removed++
			continue
		}
		v.found(v.at(KindGone, o, "it was listed, and is gone", v.adviceMissing(o.name)))
	}
	if removed > 0 {
		v.notice(Finding{Kind: KindRemoved, Message: fmt.Sprintf("%s to be read vanished: pruned meanwhile", objects(removed))})
	}
}

func objects(n int) string {
	if n == 1 {
		return "1 object"
	}
	return fmt.Sprintf("%d objects", n)
}

// oldest is the number of the oldest complete segment.
func (s *survey) oldest() (number uint64, ok bool) {
	for _, b := range s.chain.Branches {
		if len(b.Ranges) > 0 && (!ok || b.Ranges[0].First < number) {
			number, ok = b.Ranges[0].First, true
		}
	}
	return number, ok
}

// unexplained is what is left of lost segments without the holes that are found
// anyway.
func (s *survey) unexplained(lost archive.Hole) (left []archive.Hole) {
	b := s.chain.Branch(lost.Timeline)
	if b == nil {
		return []archive.Hole{lost}
	}
	for _, h := range b.Holes { // ascending
		if h.Gap != nil || h.Last < lost.First || h.First > lost.Last {
			continue
		}
		if h.First > lost.First {
			left = append(left, archive.Hole{Timeline: lost.Timeline, First: lost.First, Last: h.First - 1})
		}
		if h.Last >= lost.Last {
			return left
		}
		lost.First = h.Last + 1
	}
	return append(left, lost)
}

// indexed tells of an index that is not what it should be. It is only a cache.
func (v *Verifier) indexed(s *survey) {
	if err := s.indexless; err != nil {
		v.notice(Finding{
			Kind: KindIndex, Object: v.systemDir() + "index/", Message: fmt.Sprintf("not checked: %v", err),
			Advice: "it is a cache, and the segments were verified without it; see that the store answers",
		})
	}
	for _, d := range s.index.Damaged() {
		v.notice(Finding{Kind: KindIndex, Object: d.Key, Message: d.Reason, Advice: archive.AdviceIndex})
	}
}

// missized finds out that the identity names another size of segments than the
// archive has. With the wrong one no name and no position means anything.
func (v *Verifier) missized(ctx context.Context, s *survey) bool {
	var size int64
	for _, b := range s.chain.Branches {
		for _, r := range b.Ranges {
			for _, n := range []uint64{r.First, r.Last} {
				has, err := v.archive.PlainSize(ctx, segment.Name{Timeline: b.Timeline, Number: n})
				if err != nil || has == int64(v.id.SegmentSize) || size != 0 && has != size || segment.Size(has).Valid() != nil {
					return false
				}
				size = has
			}
		}
	}
	if size == 0 {
		return false
	}
	v.found(Finding{
		Kind: KindDamaged, Object: archive.Object{System: v.id.SystemID, Kind: archive.KindIdentity}.Key(),
		Message: fmt.Sprintf("it says that segments have %s, but those that are there have %s; nothing else was verified", v.id.SegmentSize, segment.Size(size)),
		Advice:  "put the walrecv.json there that belongs to this archive, from another copy",
	})
	return true
}
