package verify

import (
	"slices"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/segment"
)

const (
	// A Deep stretch is so long, in segments, that what is read twice, one segment
	// before it, does not count, and so short that all workers are busy to the end.
	minStretch         = 16
	maxStretch         = 256
	stretchesPerWorker = 8
)

// stretch is a run of segments of one timeline that one worker reads in order,
// or what there is of one that is not complete.
type stretch struct {
	timeline    segment.TimelineID
	first, last uint64
	partial     *archive.Partial // then first and last are its number
	chunks      []archive.Chunk  // the same
}

// bytes is how many plain bytes are to be read.
func (t stretch) bytes(size segment.Size) int64 {
	if len(t.chunks) > 0 {
		return tailBytes(t.chunks)
	}
	return int64(t.last-t.first+1) * int64(size)
}

// plan cuts into stretches what is to be read.
func (v *Verifier) plan(s *survey) []stretch {
	size := v.id.SegmentSize
	since := size.Number(s.since)
	var runs []stretch
	var total uint64
	for _, b := range s.chain.Branches {
		for _, r := range b.Ranges {
			if r.Last >= since {
				runs = append(runs, stretch{timeline: b.Timeline, first: max(r.First, since), last: r.Last})
				total += r.Last - max(r.First, since) + 1
			}
		}
	}
	length := uint64(1)
	if v.options.Deep {
		length = min(max(total/uint64(v.options.Workers*stretchesPerWorker), minStretch), maxStretch)
	}
	var todo []stretch
	for _, r := range runs {
		todo = append(todo, r.cut(length)...)
	}
	for _, p := range s.strangers.partials {
		if n := p.Name.Number; n >= since {
			todo = append(todo, stretch{timeline: p.Name.Timeline, first: n, last: n, partial: &p})
		}
	}
	for _, t := range s.listing.Timelines() {
		for _, n := range s.listing.Tails(t) {
			if n.Number >= since {
				todo = append(todo, stretch{timeline: t, first: n.Number, last: n.Number, chunks: s.listing.Chunks(n)})
			}
		}
	}
	return todo
}

// cut cuts a run of segments into stretches of a length.
func (t stretch) cut(length uint64) []stretch {
	var pieces []stretch
	for first := t.first; ; first += length {
		piece := stretch{timeline: t.timeline, first: first, last: t.last}
		if t.last-first < length {
			return append(pieces, piece)
		}
		piece.last = first + length - 1
		pieces = append(pieces, piece)
	}
}

// before lists the segments to be read before one, so that the record that goes
// on at its beginning is known: back to one in which a record begins. The oldest
// comes first. It ends early where the archive does, or where a segment cannot be
// read.
func (w *worker) before(h segment.History, number uint64, look func(object) (segment.PageHeader, bool)) []object {
	var list []object
	for number > 0 {
		number--
		timelines := h.Segment(number, w.id.SegmentSize)
		n := segment.Name{Timeline: timelines[len(timelines)-1], Number: number}
		if !w.survey.listing.Has(n) {
			break
		}
		o := w.segmentObject(n)
		list = append(list, o)
		if head, ok := look(o); !ok || beginsRecord(head, w.id.SegmentSize) {
			break
		}
	}
	slices.Reverse(list)
	return list
}

// The lengths of the headers of pages, in bytes.
const (
	longHeader  = 40
	shortHeader = 24
)

// beginsRecord tells from the first page of a segment whether a record begins in
// it. If not, it is full of one that began before.
func beginsRecord(head segment.PageHeader, size segment.Size) bool {
	if head.BlockSize < shortHeader {
		return true // no header; whatever it is will be found
	}
	pages := int64(size) / int64(head.BlockSize)
	room := int64(size) - longHeader - (pages-1)*shortHeader
	const aligned = 8
	return int64(head.RemLen)+aligned <= room
}
