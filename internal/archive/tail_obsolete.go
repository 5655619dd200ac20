package archive

import (
	"slices"

	"github.com/walrecv/walrecv/segment"
)

// obsolete keeps account of the chunks that there are, or may be, so that they are
// deleted when they say nothing new any more. The lock of the [Tail] guards it.
type obsolete struct {
	segments map[segment.Name]*superseded
	queue    []Chunk // to be deleted
	refused  bool    // nothing can be deleted: there is nothing to keep account of
	wake     chan struct{}
}

// superseded is what there is of one segment.
type superseded struct {
	chunks []Chunk
	flying []Chunk
	whole  bool // the archive has the complete segment
}

// maxObsolete is how many chunks wait to be deleted. What is more is found by the
// next start.
const maxObsolete = 10000

func (o *obsolete) of(name segment.Name) *superseded {
	s := o.segments[name]
	if s == nil {
		s = &superseded{}
		o.segments[name] = s
	}
	return s
}

// found notes a chunk that is there.
func (o *obsolete) found(c Chunk) {
	if !o.refused {
		s := o.of(c.Name)
		s.chunks = append(s.chunks, c)
	}
}

// begun notes that a chunk is put, or compared with the one that is there.
func (o *obsolete) begun(c Chunk) {
	if o.refused {
		return
	}
	s := o.of(c.Name)
	s.flying = append(s.flying, c)
	if !slices.Contains(s.chunks, c) {
		s.chunks = append(s.chunks, c)
	}
}

// ended notes that a chunk is not on its way any more: it is there, or may be.
func (o *obsolete) ended(c Chunk) {
	s := o.segments[c.Name]
	if s == nil {
		return
	}
	s.flying = slices.DeleteFunc(s.flying, func(f Chunk) bool { return f == c })
	o.sweep(c.Name, s, func(Chunk) bool { return s.whole })
}

// replacedBy notes that a chunk is there, and what lies within it is not needed.
func (o *obsolete) replacedBy(by Chunk) {
	if s := o.segments[by.Name]; s != nil {
		o.sweep(by.Name, s, func(c Chunk) bool { return c != by && by.From <= c.From && c.To <= by.To })
	}
}

// whole notes that the archive has a complete segment.
func (o *obsolete) whole(name segment.Name) {
	if s := o.segments[name]; s != nil {
		s.whole = true
		o.sweep(name, s, func(Chunk) bool { return true })
	}
}

// sweep queues the chunks that are not needed, unless they are on their way.
func (o *obsolete) sweep(name segment.Name, s *superseded, needless func(Chunk) bool) {
	s.chunks = slices.DeleteFunc(s.chunks, func(c Chunk) bool {
		if !needless(c) || slices.Contains(s.flying, c) {
			return false
		}
		if len(o.queue) < maxObsolete {
			o.queue = append(o.queue, c)
		}
		return true
	})
	if s.whole && len(s.flying) == 0 {
		delete(o.segments, name)
	}
	if len(o.queue) > 0 {
		select {
		case o.wake <- struct{}{}:
		default:
		}
	}
}

// next takes up to n chunks out of the queue.
func (o *obsolete) next(n int) []Chunk {
	n = min(n, len(o.queue))
	chunks := slices.Clone(o.queue[:n])
	o.queue = slices.Delete(o.queue, 0, n)
	return chunks
}
