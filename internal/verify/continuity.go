package verify

import (
	"errors"
	"fmt"
	"slices"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/segment"
)

// continuity reports what the listing and the histories show: no segment has been
// read for it.
func (v *Verifier) continuity(s *survey) {
	for _, b := range s.chain.Branches {
		v.problem(s, b)
		for _, h := range b.Holes {
			if v.id.SegmentSize.Start(h.Last) >= s.since {
				v.hole(s, h)
			}
		}
	}
	for n := range s.seen {
		if !s.listing.Has(n) && n.Start(v.id.SegmentSize) >= s.since {
			v.repeat(s, n, nil)
		}
	}
	v.losses(s)
	v.indexed(s)
	v.leftovers(s)
	v.strange(&s.strangers, s.listing)
}

// problem reports what is wrong with the history of a timeline.
func (v *Verifier) problem(s *survey, b archive.Branch) {
	if b.Problem == nil {
		return
	}
	f := Finding{
		Kind: KindHistory, Object: archive.Object{System: v.id.SystemID, Kind: archive.KindHistory, Timeline: b.Timeline}.Key(),
		Timeline: b.Timeline, LSN: b.Fork, Message: b.Problem.Error(),
	}
	if err := s.unread[b.Timeline]; err != nil {
		f.Kind, f.Message, f.Advice = KindUnreadable, err.Error(), adviceStore
		v.unread(f)
		return
	}
	if b.Arriving {
		f.Kind, f.Advice = KindArriving, adviceArriving
		v.notice(f)
		return
	}
	var damaged *archive.DamagedError
	if errors.As(b.Problem, &damaged) {
		f.Message = damaged.Reason
	}
	f.Advice = fmt.Sprintf("copy %s from the pg_wal of a server on that timeline; until then recovery to timeline %d can fail or take another way",
		segment.HistoryName(b.Timeline), uint32(b.Timeline))
	v.found(f)
}

// hole reports segments that are missing.
func (v *Verifier) hole(s *survey, h archive.Hole) {
	f := v.missing(h)
	if h.Gap != nil {
		f.Kind = KindGap
		f.Message += fmt.Sprintf("; accepted on %s: %s", h.Gap.Found.UTC().Format(timeFormat), h.Gap.Reason)
		f.Advice = fmt.Sprintf("a base backup from before %s cannot be recovered past it", f.LSN)
		v.notice(f)
		return
	}
	known := slices.ContainsFunc(s.lost, func(l archive.Hole) bool {
		return l.Timeline == h.Timeline && l.First <= h.Last && h.First <= l.Last
	})
	if known {
		f.Message += indexHas
	} else if h.Arriving {
		f.Kind, f.Advice = KindArriving, adviceArriving
		v.notice(f)
		return
	}
	v.found(f)
}

// missing is the finding that segments are.
func (v *Verifier) missing(h archive.Hole) Finding {
	size := v.id.SegmentSize
	first, last := segment.Name{Timeline: h.Timeline, Number: h.First}, segment.Name{Timeline: h.Timeline, Number: h.Last}
	count := h.Last - h.First + 1
	f := Finding{
		Kind: KindHole, Object: v.segmentObject(first).key, Timeline: h.Timeline, LSN: first.Start(size), End: last.End(size),
		Message: fmt.Sprintf("%s missing: %s", segments(count), first.Format(size)), Advice: v.adviceMissing(first),
	}
	if count > 1 {
		f.Message += " to " + last.Format(size)
	}
	return f
}

const (
	adviceArriving = "they can be on their way: verify again in a while"
	indexHas       = "; the index of the archive has it"
)

// timeFormat is how times are told to people; they are UTC.
const timeFormat = "2006-01-02 15:04:05Z"

func segments(n uint64) string {
	if n == 1 {
		return "1 segment is"
	}
	return fmt.Sprintf("%d segments are", n)
}
