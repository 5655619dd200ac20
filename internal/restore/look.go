package restore

import (
	"context"
	"errors"
	"io/fs"
	"iter"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/pgdata"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
)

// transfer opens something in a place and gives it to use, with the patience of
// a transfer. Absent is an error that wraps fs.ErrNotExist.
func (c *call) transfer(a *attempt, open func(context.Context) (*stream, error), use func(*stream) error) error {
	f := a.flow()
	defer f.end()
	st, err := open(f.ctx)
	if err == nil {
		f.watch(st)
		err = use(st)
		st.body.Close() // it was only read
	}
	if err != nil && f.ctx.Err() != nil {
		err = errors.Join(err, context.Cause(f.ctx))
	}
	return err
}

// sealed looks for a sealed copy of a segment, place by place, until use takes
// one. A copy that is damaged, or a place that fails, does not keep the next
// place from being asked. What went wrong is in t.
func (c *call) sealed(a *attempt, n segment.Name, t *troubles, use func(*stream) error) bool {
	for _, p := range c.places {
		src, err := c.source(a, p)
		if err == nil {
			err = c.transfer(a, func(ctx context.Context) (*stream, error) { return src.segment(ctx, n) }, use)
			if err == nil {
				return true
			}
		}
		if !isAbsent(err) {
			t.add(c.troubled(p, err))
		}
	}
	return false
}

// isAbsent tells whether a place has proven that it does not have a file. What
// the disk that is restored to fails with proves nothing.
func isAbsent(err error) bool {
	var local *localError
	return errors.Is(err, fs.ErrNotExist) && !errors.As(err, &local)
}

// partials lists the partials of a segment in all places.
func (c *call) partials(a *attempt, n segment.Name, t *troubles) []partial {
	var all []partial
	if c.o.Tail == TailNever {
		return nil
	}
	for _, p := range c.places {
		src, err := c.source(a, p)
		var there []partial
		if err == nil {
			there, err = within(a, func(ctx context.Context) ([]partial, error) { return src.partials(ctx, n) })
		}
		if err != nil {
			t.add(c.troubled(p, err))
		}
		all = append(all, there...)
	}
	return all
}

// tails are the places that hold segments in chunks.
func (c *call) tails(a *attempt, t *troubles) iter.Seq2[*openPlace, tailSource] {
	return func(yield func(*openPlace, tailSource) bool) {
		if c.o.Tail == TailNever {
			return
		}
		for _, p := range c.places {
			src, err := c.source(a, p)
			if err != nil {
				t.add(c.troubled(p, err))
				continue
			}
			if held, ok := src.(tailSource); ok && !yield(p, held) {
				return
			}
		}
	}
}

// begun tells whether there is anything of a segment that is not complete.
func (c *call) begun(a *attempt, n segment.Name, t *troubles) bool {
	for p, src := range c.tails(a, t) {
		there, err := within(a, func(ctx context.Context) ([]archive.Chunk, error) { return src.chunks(ctx, n) })
		if err != nil {
			t.add(c.troubled(p, err))
		}
		if _, end := archive.Cover(there, 0); end >= pageHeader {
			return true
		}
	}
	return len(c.partials(a, n, t)) > 0
}

// held lists what all places hold from a segment on, in the order in which WAL
// moves: what leaves the spool while it is listed is in the archive when that is. A
// place that was unmounted meanwhile is an empty directory, which proves nothing: so
// its identity must still be there. next is what will be asked for then.
func (c *call) held(a *attempt, from segment.Name, t *troubles, next ...storage.Request) everything {
	var all everything
	for _, p := range c.places {
		src, err := c.source(a, p)
		var h holdings
		if err == nil {
			h, err = within(a, func(ctx context.Context) (holdings, error) { return src.holdings(ctx, from) })
		}
		if err == nil {
			c.expect(a).begin(next...)
			err = c.confirm(a, p)
		}
		if err != nil {
			t.add(c.troubled(p, err))
			continue
		}
		all = append(all, h)
	}
	return all
}

// removed adds to t that prune has removed a segment of which nothing is left, and
// nothing that is later tells that it ever was. What was removed on purpose is no end of
// the WAL: a recovery must not open the database there.
func (c *call) removed(a *attempt, n segment.Name, t *troubles) {
	for _, p := range c.places {
		src, err := c.source(a, p)
		var cut segment.LSN
		if held, ok := src.(prunedSource); ok && err == nil {
			cut, err = within(a, func(ctx context.Context) (segment.LSN, error) { return held.pruned(ctx, n.Timeline) })
		}
		switch {
		case err != nil:
			t.add(c.troubled(p, err))
		case n.End(c.size) <= cut:
			t.add(finding{hole, problemf(hole, "it was removed by prune, with all WAL of timeline %d before %s: "+
				"recover from a base backup that begins there or later", uint32(n.Timeline), cut)})
		}
	}
}

// history reads a history file from the places. Two that differ are damage: two
// branches have taken the same timeline. Without one it is fs.ErrNotExist, if
// nothing is in t.
func (c *call) history(a *attempt, timeline segment.TimelineID, t *troubles) ([]byte, error) {
	var found []byte
	for _, p := range c.places {
		data, err := c.historyIn(a, p, timeline)
		switch {
		case err == nil && found != nil && string(found) != string(data):
			t.add(finding{damaged, problemf(damaged, "%s is not the same in %s as in the spool: two branches have taken one timeline",
				segment.HistoryName(timeline), p)})
			return nil, fs.ErrNotExist
		case err == nil:
			found = data
		case !isAbsent(err):
			t.add(c.troubled(p, err))
		}
	}
	if found == nil {
		return nil, fs.ErrNotExist
	}
	return found, nil
}

// historyIn reads a history file from one place.
func (c *call) historyIn(a *attempt, p *openPlace, timeline segment.TimelineID) ([]byte, error) {
	src, err := c.source(a, p)
	if err != nil {
		return nil, err
	}
	return within(a, func(ctx context.Context) ([]byte, error) { return src.history(ctx, timeline) })
}

// descent reads the histories of all timelines above one that the places have
// anything of.
func (c *call) descent(a *attempt, above segment.TimelineID, held everything, t *troubles) []segment.History {
	var histories []segment.History
	for _, timeline := range held.timelines(above) {
		if !held.hasHistory(timeline) {
			t.add(finding{hole, problemf(hole, "there is WAL of timeline %d, but %s is missing",
				uint32(timeline), segment.HistoryName(timeline))})
			continue
		}
		data, err := c.history(a, timeline, t)
		if err != nil {
			if !t.any() {
				// Listed a moment ago: places do not forget by themselves.
				t.add(finding{unknown, problemf(unknown, "%s was listed, but is not there", segment.HistoryName(timeline))})
			}
			continue
		}
		if h, err := pgdata.ParseHistory(timeline, data); err == nil {
			histories = append(histories, h)
		}
	}
	return histories
}
