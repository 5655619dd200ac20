package archive

import (
	"slices"

	"github.com/walrecv/walrecv/segment"
)

// standing is what is known of a chunk that this process has put, or has tried to.
type standing int

const (
	asCame  standing = iota // it is what came
	doubted                 // some of what came then was damaged
	wrong                   // it is not what came again
)

// doubts keeps account of the chunks that this process has put of segments that are
// not complete in the archive yet. What came damaged comes again, and a chunk that was
// put before and differs then is not another branch. The lock of the [Tail] guards it.
type doubts struct {
	size segment.Size
	own  map[segment.Name]map[Chunk]standing
	from segment.Position // what the next stream brings behind this may differ; zero: nothing
}

// Damaged says that some of what came from a position on was damaged, and that the
// server is asked for it again. What streams bring that begin later takes the place of
// what the archive's tail has got from here and is not the same.
func (t *Tail) Damaged(from segment.Position) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.doubts.from = from
	t.doubts.apply() // a stream may have begun already
}

// apply doubts what came from a position on.
func (d *doubts) apply() {
	for name, chunks := range d.own {
		if d.from.LSN == 0 || name.Timeline < d.from.Timeline || name.Timeline == d.from.Timeline && name.End(d.size) <= d.from.LSN {
			continue
		}
		for c, s := range chunks {
			chunks[c] = max(s, doubted)
		}
	}
}

// begin turns to a new stream, which puts nothing under the keys it returns.
func (d *doubts) begin() map[Chunk]bool {
	d.apply() // to what was put meanwhile
	d.from = segment.Position{}
	bad := map[Chunk]bool{}
	for _, chunks := range d.own {
		for c, s := range chunks {
			if s == wrong {
				bad[c] = true
			}
		}
	}
	return bad
}

// puts notes that a chunk is about to be put.
func (d *doubts) puts(c Chunk) {
	if d.own[c.Name] == nil {
		d.own[c.Name] = map[Chunk]standing{}
	}
	d.own[c.Name][c] = d.of(c)
}

// of is what is known of a chunk; one of somebody else is not doubted.
func (d *doubts) of(c Chunk) standing { return d.own[c.Name][c] }

// set notes what a chunk has turned out to be.
func (d *doubts) set(c Chunk, s standing) {
	if _, own := d.own[c.Name][c]; own {
		d.own[c.Name][c] = s
	}
}

// undoubted leaves out the chunks that may differ from what came again.
func (t *Tail) undoubted(chunks []Chunk) []Chunk {
	if t == nil {
		return chunks
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(chunks), func(c Chunk) bool { return t.doubts.of(c) != asCame })
}

// distrusted takes note of a chunk that was put here before, and differs from what
// came again. It stays until what came again is there: the server may have removed it.
func (r *tailRun) distrusted(c Chunk) {
	if r.doubts.own[c.Name] == nil {
		return // the complete segment has its place
	}
	r.doubts.set(c, wrong)
	log, what := r.log.Warn, "a piece of the archive's tail came damaged, and what came again takes its place"
	if r.obsolete.refused {
		log, what = r.log.Error, "a piece of the archive's tail came damaged, and cannot be deleted: until its segment is complete in the archive, a recovery may read it"
	}
	log(what, "object", r.archive.chunkKey(c))
}

// superseded gives up the doubted chunks of a segment that the archive has again, up
// to where they end.
func (r *tailRun) superseded(f *frontier, name segment.Name) {
	if s := r.obsolete.segments[name]; s != nil {
		covered := f.coveredOf(name.Number)
		r.obsolete.sweep(name, s, func(c Chunk) bool { return r.doubts.of(c) != asCame && c.To <= covered })
	}
}
