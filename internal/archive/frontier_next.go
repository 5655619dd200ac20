package archive

import (
	"slices"
	"time"

	"github.com/walrecv/walrecv/segment"
)

// tailStep is what should be done next.
type tailStep struct {
	chunk    Chunk         // to be put
	found    bool          // or to be compared with what is there
	ahead    []Chunk       // or to be compared with the beginning of what is there
	complete *segment.Name // or this complete segment is to be compared
}

// next says what should be done now; ok is false if nothing should be, and then
// wait says how long that stays so if nothing happens; 0: for ever. What it returns
// is taken for begun.
func (f *frontier) next(now time.Time) (step tailStep, wait time.Duration, ok bool) {
	if !f.ready || f.flights >= f.pace.flights || f.behind() {
		return tailStep{}, 0, false
	}
	f.position() // moves base
	for n := f.base; f.has(n) > 0; n++ {
		s := f.segment(n)
		switch {
		case s.whole:
			continue
		case s.again:
			if s.archived && !s.comparing && f.has(n) == int64(f.size) {
				s.comparing = true
				f.flights++
				return tailStep{complete: &s.name}, 0, true
			}
			continue
		case s.foundEnd > f.has(n) && !s.ahead:
			// The server has it, since it sent it once, and sends it again. It does not
			// if it was put back to an older state, or if this is the end.
			if step, ok := f.nextAhead(s); ok {
				f.take(step.chunk, f.lastPut)
				return step, 0, true
			}
			continue
		case len(s.found) > 0 && s.foundEnd <= f.has(n):
			if c, ok := s.nextFound(); ok {
				f.take(c, f.lastPut)
				return tailStep{chunk: c, found: true}, 0, true
			}
			continue
		}
		if n > f.base {
			// Behind a hole it would be of no use to anybody; and should nothing
			// fill the hole any more, a recovery could not tell it from a loss.
			continue
		}
		planned := s.planned()
		if planned >= f.has(n) {
			continue
		}
		if due := f.due(s, planned); due.After(now) {
			if left := due.Sub(now); wait == 0 || left < wait {
				wait = left
			}
			continue
		}
		if step, ok := f.extend(s, planned); ok {
			f.take(step.chunk, now)
			return step, 0, true
		}
	}
	return tailStep{}, wait, false
}

// nextAhead plans a look at chunks that reach further than what came, for somebody
// who waits: all that came is to be compared with them.
func (f *frontier) nextAhead(s *tailSegment) (tailStep, bool) {
	to := f.has(s.name.Number)
	if len(s.flight) > 0 || s.covered >= to || f.size.Start(s.name.Number)+segment.LSN(s.covered) >= f.urgent {
		return tailStep{}, false
	}
	needed, end := Cover(slices.Concat(s.found, s.equal), s.covered)
	if end < to {
		s.ahead = true // there is a hole in between
		return tailStep{}, false
	}
	return tailStep{chunk: Chunk{Name: s.name, From: s.covered, To: to}, ahead: needed}, true
}

// behind tells whether more complete segments wait than are uploaded at a time: the
// tail would stand behind a hole, and take their place on the way to the store.
func (f *frontier) behind() bool {
	waiting := 0
	for n := f.base; f.has(n) == int64(f.size); n++ {
		if s := f.segments[n]; s == nil || !s.whole {
			waiting++
		}
	}
	return waiting > f.pace.sealed
}

// due is when the rest of a segment should be put.
func (f *frontier) due(s *tailSegment, planned int64) time.Time {
	rest := f.has(s.name.Number) - planned
	sealed := !s.filled.IsZero()
	if f.size.Start(s.name.Number)+segment.LSN(planned) < f.urgent && (!sealed || rest <= maxSmallObject) {
		return time.Time{}
	}
	due := f.lastPut.Add(f.pace.interval)
	if late := s.filled.Add(f.pace.interval); sealed && late.After(due) {
		due = late // its object is on the way
	}
	return due
}

// nextFound is the next chunk to be compared.
func (s *tailSegment) nextFound() (Chunk, bool) {
	for _, c := range s.found {
		flying := false
		for _, o := range s.flight {
			flying = flying || o == c
		}
		if !flying {
			return c, true
		}
	}
	return Chunk{}, false
}

// extend plans the k-th chunk of a segment: up to what is synced now, from where
// the chunk before the last 2^c ended, where 2^c is the largest power of two that
// divides k. So no more than about log2 k chunks are needed to read all of it.
// When somebody waits for it, it is no larger than what is soon compressed.
func (f *frontier) extend(s *tailSegment, planned int64) (step tailStep, ok bool) {
	to := f.has(s.name.Number)
	k := s.puts + 1
	i := len(s.ends)
	for i > 1 && s.ends[i-1].k > k&(k-1) {
		i--
	}
	urgent := f.size.Start(s.name.Number)+segment.LSN(planned) < f.urgent
	for urgent && i < len(s.ends) && to-s.ends[i-1].end > maxSmallObject {
		i++
	}
	for i > 1 && s.ends[i-1].end > planned { // of one that did not get there
		i--
	}
	c := Chunk{Name: s.name, From: min(s.ends[i-1].end, planned), To: to, Encrypted: f.encrypted}
	if f.bad[c] {
		c.From = planned
	}
	if f.bad[c] {
		c.To = (c.From + c.To) / 2
	}
	if c.From == c.To {
		return tailStep{}, false
	}
	s.puts = k
	s.ends = append(s.ends[:i], chunkEnd{k, c.To})
	return tailStep{chunk: c}, true
}
