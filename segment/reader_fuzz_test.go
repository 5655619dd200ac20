package segment_test

import (
	"testing"

	"github.com/walrecv/walrecv/segment"
)

// FuzzReader feeds any bytes at any position, then goes back or elsewhere, whole
// and in pieces. The Reader must tell the same both times, in order, and of no
// more than there can be.
func FuzzReader(f *testing.F) {
	d := forDamage()
	f.Add(uint64(d.start), uint16(1000), uint16(7), d.data)
	w := newWAL(1<<20, 1<<10, testStart)
	w.record(rmHeap, 0, 1, filler(61))
	w.lose(filler(3000), w.roomFor(2))
	w.overwrite()
	w.restorePoint("fuzz", 1)
	w.switchSegment()
	f.Add(uint64(w.start), uint16(0), uint16(1), w.data[:5<<10])
	w.Magic = 0xD1AA
	w.data = nil
	w.start = 0
	w.record(255, 0xFF, 1, filler(500))
	f.Add(uint64(0), uint16(41), uint16(24), w.data)
	f.Add(^uint64(0)-100, uint16(3), uint16(3), w.data)
	f.Fuzz(func(t *testing.T, at uint64, cut, piece uint16, log []byte) {
		start := segment.LSN(at)
		whole := &orderly{events: events{t: t}}
		r := newReader(t, segment.ReaderOptions{Identity: segment.Identity{Size: 1 << 20}}, whole)
		pieces := &orderly{events: events{t: t}}
		p := newReader(t, segment.ReaderOptions{Identity: segment.Identity{Size: 1 << 20}}, pieces)
		middle := min(int(cut), len(log))
		for _, from := range []int{0, middle, 0, len(log)} {
			whole.last, pieces.last = 0, 0
			r.Feed(start+segment.LSN(from), log[from:])
			for i := from; i < len(log); i += int(piece) + 1 {
				p.Feed(start+segment.LSN(i), log[i:min(i+int(piece)+1, len(log))])
			}
			if r.Position() != p.Position() || r.End() != p.End() {
				t.Fatalf("at %s, sound up to %s; in pieces %s, %s", r.Position(), r.End(), p.Position(), p.End())
			}
		}
		r.Finish()
		p.Finish()
		wantEvents(t, pieces.lines, whole.lines)
		if most := 4 * (len(log)/8 + 3); len(whole.lines) > most {
			t.Fatalf("%d events for %d bytes", len(whole.lines), len(log))
		}
	})
}

// orderly is a Visitor that refuses to be told of records out of order.
type orderly struct {
	events
	last segment.LSN
}

func (o *orderly) Record(r *segment.Record) {
	if r.LSN <= o.last && r.LSN>>63 == o.last>>63 { // positions may start over
		o.t.Errorf("record at %s after the one at %s", r.LSN, o.last)
	}
	o.last = r.LSN
	o.events.Record(r)
}
