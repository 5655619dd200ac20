package main

import (
	"testing"

	"github.com/walrecv/walrecv/segment"
)

func TestOpenGaps(t *testing.T) {
	const size = segment.Size(16 << 20)
	gap := func(tli segment.TimelineID, first, last uint64) segment.Gap {
		return segment.Gap{Timeline: tli, From: size.Start(first), To: size.Start(last + 1)}
	}
	one, two, three := gap(1, 5, 6), gap(2, 8, 8), gap(2, 20, 1<<30)
	var o openGaps
	if n := o.count(nil); n != 0 {
		t.Errorf("%d before anything is known", n)
	}
	if n := o.count([]string{one.FileName()}); n != 1 {
		t.Errorf("%d with one in the spool", n)
	}
	held := segment.NewHeld()
	held.Gaps = []segment.Gap{one, two, three}
	for number := range uint64(6) {
		held.AddSealed(segment.Name{Timeline: 1, Number: number}) // half of the first gap
		held.AddSealed(segment.Name{Timeline: 1, Number: number + 8})
	}
	o.note(held, size)
	if n := o.count([]string{one.FileName(), two.FileName()}); n != 3 {
		t.Errorf("%d, want 3", n)
	}
	if n := o.count([]string{gap(3, 1, 1).FileName()}); n != 4 {
		t.Errorf("%d with another one in the spool", n)
	}
	held.AddSealed(segment.Name{Timeline: 1, Number: 6})
	held.AddSealed(segment.Name{Timeline: 2, Number: 8})
	o.note(held, size)
	if n := o.count([]string{one.FileName(), two.FileName()}); n != 1 {
		t.Errorf("%d when two are filled", n)
	}
}
