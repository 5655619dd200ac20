package archive

import (
	"slices"
	"time"

	"github.com/walrecv/walrecv/segment"
)

// frontier is what the archive has of one stream: of the WAL that one connection
// received on one timeline, from the start of a segment on. It knows the position
// below which nothing is missing, and what should be put next to move it. It does
// nothing by itself, and reads no clock. It belongs to one goroutine at a time.
type frontier struct {
	at     segment.Position
	size   segment.Size
	pace   pace
	synced segment.LSN // end of what the spool has, of this stream
	urgent segment.LSN // somebody waits until the archive has everything before this

	adopted bool   // what the archive had before the stream began is known
	since   uint64 // the uploader's looks at the spool until then
	ready   bool   // and nothing older than the stream waits in the spool

	base      uint64 // the first segment that the archive does not have to its end
	segments  map[uint64]*tailSegment
	early     map[uint64]bool // archived whole before adopted was true
	flights   int
	encrypted bool      // new chunks are
	lastPut   time.Time // when a chunk was begun last
	lateSince time.Time // what was synced last, and is in the archive, was synced at this time or later
	bad       map[Chunk]bool
}

// pace says how often the tail is put.
type pace struct {
	interval time.Duration // between two puts that nobody waits for
	flights  int           // chunks in flight
	sealed   int           // complete segments that may wait while the tail is put
}

// tailSegment is one segment of a stream.
type tailSegment struct {
	name    segment.Name
	whole   bool // the archive has the complete segment, and it is what came
	covered int64
	landed  []Chunk // beyond a hole
	flight  []Chunk
	filled  time.Time // when it was complete in the spool; zero: not yet

	// What was there before the stream began is compared with the stream before
	// anything is built on it: the chunks, and the complete segment.
	found     []Chunk // not compared yet
	equal     []Chunk
	foundEnd  int64 // the highest To of all that were found
	ahead     bool  // a look at those that reach further than what came is of no use
	again     bool  // the spool or the archive had the complete segment
	comparing bool
	archived  bool // with again: the archive has it by now

	puts int        // since the stream began
	ends []chunkEnd // of those puts that a later one may begin at, ascending
}

// chunkEnd is where the k-th chunk of a segment ended.
type chunkEnd struct {
	k   int
	end int64
}

func newFrontier(at segment.Position, size segment.Size, p pace) *frontier {
	return &frontier{
		at: at, size: size, pace: p, synced: at.LSN, base: size.Number(at.LSN),
		segments: map[uint64]*tailSegment{}, early: map[uint64]bool{}, bad: map[Chunk]bool{},
	}
}

// segment is the state of a segment from base on, made where there is none.
func (f *frontier) segment(number uint64) *tailSegment {
	s := f.segments[number]
	if s == nil {
		s = &tailSegment{name: segment.Name{Timeline: f.at.Timeline, Number: number}, ends: []chunkEnd{{}}}
		f.segments[number] = s
	}
	return s
}

// sync notes that the spool has everything before a position.
func (f *frontier) sync(to segment.LSN, now time.Time) {
	if f.synced == f.position() {
		f.lateSince = now
	}
	for n := f.size.Number(f.synced); n < f.size.Number(to); n++ {
		if n >= f.base {
			f.segment(n).filled = now
		}
	}
	f.synced = max(f.synced, to)
}

// has is how many bytes of a segment the spool has, of this stream.
func (f *frontier) has(number uint64) int64 {
	start := f.size.Start(number)
	if f.synced <= start {
		return 0
	}
	return min(int64(f.synced-start), int64(f.size))
}

// found is what the archive and the spool had when the stream began.
type found struct {
	chunks    []Chunk         // of segments from the stream's first one on
	complete  map[uint64]bool // segments that were complete; true: in the archive
	doubted   []uint64        // segments of which there are chunks that may differ from what comes now
	encrypted bool            // new chunks will be
}

// adopt takes note of what was there before.
func (f *frontier) adopt(had found) {
	f.adopted, f.encrypted = true, had.encrypted
	for _, c := range had.chunks {
		if _, complete := had.complete[c.Name.Number]; !complete && c.Name.Number >= f.base && !f.bad[c] {
			s := f.segment(c.Name.Number)
			s.found = append(s.found, c)
			s.foundEnd = max(s.foundEnd, c.To)
		}
	}
	for _, s := range f.segments {
		s.found = worthComparing(s.found)
	}
	for _, n := range had.doubted {
		f.segment(n).ahead = true
	}
	for n, archived := range had.complete {
		s := f.segment(n)
		s.again, s.archived = true, archived
	}
	for n := range f.early {
		f.settled(n)
	}
	f.early = nil
}

// maxCompared is how many chunks of a segment are compared, whatever they cover. There
// are more only where superseded ones cannot be deleted.
const maxCompared = 64

// worthComparing leaves out chunks, if there are many, that a reader has no reason to
// read: all that others cover, but for those beyond a hole.
func worthComparing(chunks []Chunk) []Chunk {
	if len(chunks) <= maxCompared {
		return slices.Clone(chunks)
	}
	needed, end := Cover(chunks, 0)
	for _, c := range chunks {
		if c.To > end {
			needed = append(needed, c)
		}
	}
	return needed
}

// settled notes that the uploader has archived a complete segment. One that was
// complete before the stream began says nothing yet: it may be another one than
// what comes now.
func (f *frontier) settled(number uint64) {
	switch {
	case number < f.base:
	case !f.adopted:
		f.early[number] = true
	default:
		s := f.segment(number)
		s.archived = true
		if !s.again {
			f.wholly(s)
		}
	}
}

// compared notes whether the complete segment of the archive is what came.
func (f *frontier) compared(number uint64, equal bool) {
	f.flights--
	s := f.segments[number]
	if s == nil {
		return
	}
	s.comparing = false
	if equal {
		f.wholly(s)
	}
}

// wholly notes that the archive has a complete segment, and that it is what came.
func (f *frontier) wholly(s *tailSegment) {
	before := f.position()
	s.whole = true
	if f.position() > before && s.filled.After(f.lateSince) {
		f.lateSince = s.filled
	}
}

// position is the end of what the archive has of the stream, without a hole, and
// of what the connection received. It is where the stream begins until the archive
// is known to have everything before that.
func (f *frontier) position() segment.LSN {
	if !f.ready {
		return f.at.LSN
	}
	for s := f.segments[f.base]; s != nil && (s.whole || s.covered == int64(f.size)); s = f.segments[f.base] {
		if f.has(f.base) < int64(f.size) {
			return f.synced
		}
		delete(f.segments, f.base)
		f.base++
	}
	at := f.size.Start(f.base)
	if s := f.segments[f.base]; s != nil {
		at += segment.LSN(s.covered)
	}
	return min(at, f.synced)
}

// coveredOf is the end of what the archive has of a segment in chunks, without a hole.
func (f *frontier) coveredOf(number uint64) int64 {
	if number < f.base {
		return int64(f.size)
	}
	if s := f.segments[number]; s != nil {
		return s.covered
	}
	return 0
}

// take notes that a chunk is on its way.
func (f *frontier) take(c Chunk, now time.Time) {
	s := f.segment(c.Name.Number)
	s.flight = append(s.flight, c)
	f.flights++
	f.lastPut = now
}

// landed notes that the archive has a chunk, and that it is what came. It was
// begun at a time.
func (f *frontier) landed(c Chunk, began time.Time) {
	if s := f.leaves(c); s != nil {
		before := f.position()
		if i := slices.Index(s.found, c); i >= 0 {
			s.found = slices.Delete(s.found, i, i+1)
			s.equal = append(s.equal, c)
			if len(s.found) == 0 {
				s.adoptEqual()
			}
		} else {
			s.landed = append(s.landed, c)
			s.cover()
		}
		if f.position() > before {
			f.lateSince = began
		}
	}
}

// notAhead notes that chunks that reach further than what came cannot be compared
// with its beginning.
func (f *frontier) notAhead(c Chunk) {
	if s := f.leaves(c); s != nil {
		s.ahead = true
	}
}

// failed notes that a chunk did not get there, as far as is known.
func (f *frontier) failed(c Chunk) { f.leaves(c) }

// unsound notes that what stands under a chunk's key is damaged, or cannot be
// compared: it does not count, and the key is never used again.
func (f *frontier) unsound(c Chunk) {
	f.bad[c] = true
	f.gone(c)
}

// gone notes that a chunk that was found is not there any more.
func (f *frontier) gone(c Chunk) {
	if s := f.leaves(c); s != nil {
		s.found = slices.DeleteFunc(s.found, func(o Chunk) bool { return o == c })
		if len(s.found) == 0 {
			s.adoptEqual()
		}
	}
}

// leaves takes a chunk out of those in flight. nil: nobody cares any more.
func (f *frontier) leaves(c Chunk) *tailSegment {
	f.flights--
	s := f.segments[c.Name.Number]
	if s != nil {
		s.flight = slices.DeleteFunc(s.flight, func(o Chunk) bool { return o == c })
	}
	return s
}

// adoptEqual builds on the chunks that were found, and are what came.
func (s *tailSegment) adoptEqual() {
	s.landed = append(s.landed, s.equal...)
	s.equal = nil
	s.cover()
	s.ends = []chunkEnd{{0, s.covered}}
	s.puts = 0
}

// cover moves the end of what is there without a hole.
func (s *tailSegment) cover() {
	_, s.covered = Cover(s.landed, s.covered)
	s.landed = slices.DeleteFunc(s.landed, func(c Chunk) bool { return c.To <= s.covered })
}

// planned is covered as it will be if all that is in flight gets there.
func (s *tailSegment) planned() int64 {
	_, end := Cover(slices.Concat(s.landed, s.flight), s.covered)
	return end
}
