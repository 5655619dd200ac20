package segment_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/segment"
)

// recordsFrom are the events of the records that begin at a position or behind.
func (w *walMaker) recordsFrom(t *testing.T, from segment.LSN) []string {
	t.Helper()
	i := slices.IndexFunc(w.want, func(line string) bool { return w.recordLSN(t, line) >= from })
	return w.want[i:]
}

// recordsBefore are the events of the records that begin before a position.
func (w *walMaker) recordsBefore(t *testing.T, to segment.LSN) []string {
	t.Helper()
	return w.want[:len(w.want)-len(w.recordsFrom(t, to))]
}

// manyRecords writes short records over some pages.
func manyRecords(pages int) *walMaker {
	w := newWAL(1<<20, 8192, testStart)
	for w.pos() < w.start+segment.LSN(pages)*8192 {
		w.record(rmHeap, 0, 1, filler(200))
	}
	return w
}

// wantLoss asserts that one fault costs the records from one position to where
// a page begins, and no others.
func (w *walMaker) wantLoss(t *testing.T, o segment.ReaderOptions, fault string, from, page segment.LSN) {
	t.Helper()
	next := w.recordsFrom(t, page)
	want := slices.Concat(w.recordsBefore(t, from), []string{
		"fault: WAL at " + fault, fmt.Sprintf("unchecked %s-%s", from, w.recordLSN(t, next[0])),
	}, next)
	got := readAll(t, o, w.start, w.data)
	for i := range got {
		got[i] = strings.Replace(got[i], " tli 9 ", " tli 1 ", 1) // as a page was made to say
	}
	wantEvents(t, got, want)
}

func TestReaderTellsOfEachDamage(t *testing.T) {
	w := manyRecords(10)
	for _, at := range []int{100, 300, 40_000, 60_000} { // two of them in one page
		w.data[at] ^= 1
	}
	if got := w.faults(t); len(got) != 3 {
		t.Errorf("%q", got)
	}
}

// TestReaderForgetsWhatMayBeWrong: what the first pages said is no measure for
// those behind, when they do not agree.
func TestReaderForgetsWhatMayBeWrong(t *testing.T) {
	w := manyRecords(10)
	o := w.options()
	o.Major = 0
	w.data[0] = 0x13 // 16, on the first page only
	second := w.recordsFrom(t, w.start+8192-200)[0]
	w.wantLoss(t, o, "5/2000: the magic number is D110, but D113 on the pages before", w.recordLSN(t, second), w.start+2*8192)
	w.data[0] = 0x10
	o.History = segment.History{}
	w.data[8192+4] = 9
	third := w.recordsFrom(t, w.start+2*8192-200)[0]
	w.wantLoss(t, o, "5/4000: timeline 1, but the page before has 9", w.recordLSN(t, third), w.start+3*8192)
}

func TestReaderForgetsAnotherCluster(t *testing.T) {
	w := manyRecords(3*128 + 5)
	o := w.options()
	o.Identity.SystemID = 0
	w.data[24] ^= 1
	var got []string
	for _, line := range readAll(t, o, w.start, w.data) {
		if strings.HasPrefix(line, "fault") {
			got = append(got, line)
		}
	}
	if len(got) != 1 || !strings.Contains(got[0], "5/100000: it belongs to the cluster") {
		t.Errorf("one of four segments differs: %q", got)
	}
}

func TestReaderGoesOnBehindDamagedOverwrite(t *testing.T) {
	w := newWAL(1<<20, 8192, testStart)
	w.record(rmHeap, 0, 1, filler(100))
	w.lose(filler(30000), w.roomFor(1))
	w.overwrite()
	at := w.prev
	for range 100 {
		w.record(rmHeap, 0, 1, filler(200))
	}
	w.data[at-w.start+33] ^= 1
	w.wantLoss(t, w.options(), at.String()+": the checksum of the record does not match", 0x5_0000_0090, w.start+2*8192)
}

// TestReaderForgetsBordersItPassed: a segment that is read again may be another
// one, and what came behind the old one says nothing about it.
func TestReaderForgetsBordersItPassed(t *testing.T) {
	old, next := newWAL(1<<20, 8192, testStart), newWAL(1<<20, 8192, testStart)
	for i, w := range []*walMaker{old, next} {
		w.fillSegment(0)
		for n := range 20 + i {
			w.record(rmHeap, 0, 1, filler(70_000+1000*i+n))
		}
	}
	e := &events{t: t}
	r := newReader(t, old.options(), e)
	r.Feed(old.start, old.data[:5<<19])
	r.Feed(next.start+1<<20, next.data[1<<20:3<<19])
	e.lines = nil
	r.Feed(next.start+2<<20, next.data[2<<20:])
	_, open := r.Open()
	got, want := e.lines, next.recordsFrom(t, next.start+2<<20)
	if len(got) < 2 || !strings.HasPrefix(got[0], "unchecked 5/1") || !strings.HasPrefix(got[1], "unchecked 5/200000-") || open {
		t.Fatalf("%q", got)
	}
	wantEvents(t, got[2:], want)
}

// TestFindEndBehindRest: a segment can end with the record that began in the one
// before.
func TestFindEndBehindRest(t *testing.T) {
	n, data := readSample(t, sampleHead)
	clear(data[0x108:])
	end, err := segment.FindEnd(bytes.NewReader(data), n, sampleOptions())
	if err != nil || end.LSN != 0x600108 || !strings.Contains(end.Reason, "no record here") {
		t.Errorf("%+v, %v", end, err)
	}
	end, err = segment.FindEnd(bytes.NewReader(data[:0x100]), n, sampleOptions())
	if err != nil || end.LSN != 0x600000 || end.Reason != "" {
		t.Errorf("cut off: %+v, %v", end, err)
	}
}
