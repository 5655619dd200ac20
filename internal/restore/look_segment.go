package restore

import (
	"errors"
	"fmt"

	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
)

// lookSegment is one look for a segment. On delivered it is in its place.
func (c *call) lookSegment(a *attempt) finding {
	if c.ahead == nil {
		c.ahead = c.prefetching()
	}
	c.ahead.tell(c.req.file)
	if f, done := c.ahead.deliver(a); done {
		return f
	}
	if c.ahead.missed() {
		c.expect(a).noSegment(c.req)
	} else {
		c.expect(a).segment(c.req)
	}
	var t troubles
	n, ok := c.name(a, &t)
	if !ok {
		return t.worst
	}
	limit, f := c.leaves(a, n)
	if f.err != nil {
		return f
	}
	start := n.Start(c.size)
	if limit <= start {
		return finding{verdict: absent} // beyond the fork
	}
	cut := int64(min(limit, n.End(c.size)) - start)
	return c.searchSegment(a, n, cut)
}

// name is the asked segment, as soon as the size of segments is known.
func (c *call) name(a *attempt, t *troubles) (segment.Name, bool) {
	for _, p := range c.places {
		if _, err := c.source(a, p); err != nil {
			t.add(c.troubled(p, err))
		}
		if c.size != 0 {
			break
		}
	}
	if c.size == 0 || t.worst.verdict == misconfigured {
		return segment.Name{}, false
	}
	n, err := segment.ParseName(c.req.file, c.size)
	if err != nil {
		t.add(finding{misconfigured, err})
	}
	return n, err == nil
}

// searchSegment looks for a segment whose first cut bytes are wanted, in the
// order that package's documentation gives.
func (c *call) searchSegment(a *attempt, n segment.Name, cut int64) finding {
	var t troubles
	if f, done := c.deliverSealed(a, n, cut, 0, &t); done {
		return f
	}
	if !c.ahead.missed() {
		c.expect(a).tail(c.req)
	}
	tail := tail{call: c, name: n, cut: cut}
	defer tail.discard()
	tail.chunks(a, &t)
	c.expect(a).again(c.req)
	partials := c.partials(a, n, &t)
	if t.any() {
		return t.worst
	}
	tail.gather(a, partials, &t)
	if t.any() {
		return t.worst
	}
	if f, done := c.deliverSealed(a, n, cut, 1-tail.slot, &t); done {
		return f
	}
	var next []storage.Request
	if tail.best == nil {
		next = append(next, c.expect(a).Pruned())
	}
	held := c.held(a, n, &t, next...)
	histories := c.descent(a, n.Timeline, held, &t)
	if held.hasSegment(n) || tail.gone != "" {
		// It came a moment ago, or its name is all that is left of it.
		t.add(finding{unknown, problemf(unknown, "it was listed, but is not there")})
	}
	if t.any() {
		return t.worst
	}
	end, why := owed(n, c.size, held, histories)
	if tail.best == nil && end == n.Start(c.size) {
		if c.removed(a, n, &t); t.any() {
			return t.worst
		}
	}
	return tail.conclude(min(cut, int64(end-n.Start(c.size))), why)
}

// deliverSealed delivers a sealed copy, if there is one, by way of a slot that is free.
// done says that there is nothing more to look for.
func (c *call) deliverSealed(a *attempt, n segment.Name, cut int64, slot int, t *troubles) (f finding, done bool) {
	var s *staged
	found := c.sealed(a, n, t, func(st *stream) (err error) {
		c.ahead.begin(a.base, n, st)
		s, err = c.takeSealed(st, n, slot)
		return err
	})
	if !found {
		c.ahead.end(false)
		return t.worst, t.any()
	}
	f = c.deliver(s, cut)
	c.ahead.end(f.verdict == delivered)
	if f.verdict == delivered {
		c.passed(n, cut)
	}
	return f, true
}

// passed ends a call that has delivered a complete segment up to cut.
func (c *call) passed(n segment.Name, cut int64) {
	c.whole = cut == int64(c.size)
	c.keeper("").passed(n)
}

// deliver gives a staged segment to PostgreSQL, with zeros behind its first cut
// bytes.
func (c *call) deliver(s *staged, cut int64) finding {
	err := s.blank(cut, int64(c.size))
	if err != nil {
		s.discard()
	} else if err = s.deliver(c.target); err != nil {
		err = &localError{err}
	}
	if err != nil {
		return judge(err)
	}
	return finding{verdict: delivered}
}

// tail chooses among the partials of a segment, and what there is of it in chunks, and
// delivers one. At most two of them are on disk at a time.
type tail struct {
	call *call
	name segment.Name
	cut  int64
	best *staged // nil if there is none with any WAL
	slot int     // of best
	gone string  // a partial that was listed and was not there when it was opened
}

func (l *tail) discard() {
	if l.best != nil {
		l.best.discard()
		l.best = nil
	}
}

// chunks takes what there is of the segment in chunks.
func (l *tail) chunks(a *attempt, t *troubles) {
	c := l.call
	for p, src := range c.tails(a, t) {
		next := 1 - l.slot
		s, err := c.assemble(a, src, p.String(), l.name, l.cut, next)
		if err == nil {
			err = l.compare(a, s, next, t)
		}
		switch {
		case err == nil:
		case errors.Is(err, errVanished):
			l.gone = p.String()
		case !isAbsent(err):
			t.add(c.troubled(p, err))
		}
	}
}

// gather takes the partials one after the other and keeps the best. One that is
// gone was sealed meanwhile, or cannot be had.
func (l *tail) gather(a *attempt, partials []partial, t *troubles) {
	for _, p := range partials {
		next := 1 - l.slot
		var s *staged
		err := l.call.transfer(a, p.open, func(st *stream) (err error) {
			s, err = l.call.takePartial(st, l.name, next)
			return err
		})
		if err == nil {
			err = l.compare(a, s, next, t)
		}
		switch {
		case err == nil:
		case isAbsent(err):
			l.gone = p.where
		default:
			t.add(judge(err))
		}
	}
}

// compare keeps s or what was best so far.
func (l *tail) compare(a *attempt, s *staged, slot int, t *troubles) error {
	if s.end == 0 {
		s.discard() // begun, but still empty
		return nil
	}
	if l.best == nil {
		l.best, l.slot = s, slot
		return nil
	}
	winner, err := better(l.best, s, l.cut)
	var p *problem
	if errors.As(err, &p) {
		winner, err = better(l.best, s, l.fork(a, t))
	}
	if err != nil || winner == l.best {
		s.discard()
		return err
	}
	l.best.discard()
	l.best, l.slot = s, slot
	return nil
}

// fork is where partials of the segment may begin to differ: the first fork in
// it, be it the server's way or not.
func (l *tail) fork(a *attempt, t *troubles) int64 {
	c := l.call
	histories := c.descent(a, l.name.Timeline, c.held(a, l.name, t), t)
	return int64(min(firstFork(l.name, c.size, histories), l.name.End(c.size)) - l.name.Start(c.size))
}

// advice says what can be done about a hole that begins at an offset.
func (l *tail) advice(offset int64) string {
	return fmt.Sprintf("; bring it back, or let the recovery end in front of %s (recovery_target_lsn)",
		l.name.Start(l.call.size)+segment.LSN(offset))
}

// conclude ends a look that found no sealed copy. Up to owed there must be WAL;
// why says how that is known.
func (l *tail) conclude(owed int64, why string) finding {
	c := l.call
	switch {
	case l.best == nil && owed > 0:
		return judge(problemf(hole, "it is missing, but %s%s", why, l.advice(0)))
	case l.best == nil:
		return finding{verdict: absent}
	case !l.best.covers(owed):
		return judge(problemf(hole, "%s ends at offset %d, but %s%s", l.best.where, l.best.end, why, l.advice(l.best.end)))
	}
	end := min(l.best.end, l.cut)
	if end < l.cut {
		// Not where the partial reaches the fork: then the server must not
		// go on with what its own copy has beyond.
		has, err := c.serverHas(l.best.file, end)
		if err != nil {
			return finding{unknown, err}
		}
		if has {
			return finding{verdict: absent}
		}
	}
	s := l.best
	l.best = nil
	return c.deliver(s, end)
}
