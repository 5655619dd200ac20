package segment_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/segment"
)

func TestReaderBeginsWhereSegmentsDo(t *testing.T) {
	w := newWAL(1<<20, 8192, testStart)
	w.fillSegment(4096)
	first := w.pos()
	w.record(rmHeap, 1, 2, filler(40001)) // over five pages of the next segment
	second := w.pos()
	w.record(rmHeap, 1, 2, filler(40))
	w.lose(filler(3<<20), w.roomFor(200)) // a segment that begins inside of a record that is abandoned
	w.overwrite()
	third := w.pos()
	w.record(rmHeap, 1, 2, filler(40))
	index := func(at segment.LSN) int {
		return slices.IndexFunc(w.want, func(s string) bool { return strings.HasPrefix(s, "record "+at.String()+"-") })
	}
	got := readAll(t, w.options(), w.start+1<<20, w.data[1<<20:])
	wantEvents(t, got, append([]string{fmt.Sprintf("unchecked %s-%s", w.start+1<<20, second)}, w.want[index(second):]...))
	got = readAll(t, w.options(), w.start+2<<20, w.data[2<<20:])
	overwritten := index(third) - 1
	wantEvents(t, got[1:], w.want[overwritten:])
	if !strings.HasPrefix(got[0], "unchecked 5/200000-") {
		t.Errorf("the beginning of a record that was abandoned: %s", got[0])
	}
	cut := int(first-w.start) + 100 // ends inside of the record
	got = readAll(t, w.options(), w.start, w.data[:cut])
	wantEvents(t, got, append(w.want[:index(first):index(first)], fmt.Sprintf("unchecked %s-%s", first, first+100)))
}

// TestReaderBeginsAnywhere feeds logs from every page and from odd places on. A
// Reader that has not seen a segment's beginning does not know the pages.
func TestReaderBeginsAnywhere(t *testing.T) {
	w := newWAL(1<<20, 8192, testStart)
	for w.pos() < w.start+2<<20 {
		w.record(rmHeap, 0, 1, filler(24+len(w.want)%3000))
	}
	for at := 1; at < 1<<20; at += 36_000 - 7 {
		e := &events{t: t}
		newReader(t, w.options(), e).Feed(w.start+segment.LSN(at), w.data[at:])
		w.wantFrom(t, e.lines, at, 1<<20)
	}
	for at := 41; at < 1<<20; at += 36_000 - 7 {
		e := &events{t: t}
		r := newReader(t, w.options(), e)
		r.Feed(w.start, w.data[:40])
		r.Feed(w.start+segment.LSN(at), w.data[at:])
		w.wantFrom(t, e.lines, at, (at+8191)&^8191)
	}
}

// wantFrom asserts that all records are told of that begin from an offset on,
// and nothing else but that what is before, from another offset on, was not
// checked.
func (w *walMaker) wantFrom(t *testing.T, got []string, unchecked, from int) {
	t.Helper()
	var want []string
	for i, line := range w.want {
		if w.recordLSN(t, line) >= w.start+segment.LSN(from) {
			want = append(want, w.want[i:]...)
			break
		}
	}
	first := fmt.Sprintf("unchecked %s-%s", w.start+segment.LSN(unchecked), w.recordLSN(t, want[0]))
	wantEvents(t, got, append([]string{first}, want...))
}

// recordLSN is where the record of an event begins.
func (w *walMaker) recordLSN(t *testing.T, line string) segment.LSN {
	t.Helper()
	text, _, _ := strings.Cut(strings.TrimPrefix(line, "record "), "-")
	l, err := segment.ParseLSN(text)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestReaderGoesBackToTheBorder(t *testing.T) {
	w := newWAL(1<<20, 8192, testStart)
	w.fillSegment(96)
	w.record(rmHeap, 1, 2, filler(3000))
	w.fillSegment(48)
	w.record(rmHeap, 1, 2, filler(3000))
	w.fill(0)
	inSegment := func(n int) (lines []string) {
		for _, line := range w.want { // those that end in it
			var from, to string
			if _, err := fmt.Sscanf(strings.ReplaceAll(line, "-", " "), "record %s %s", &from, &to); err != nil {
				t.Fatal(err)
			}
			end, err := segment.ParseLSN(to)
			if err != nil {
				t.Fatal(err)
			}
			if w.segmentSize.Number(end-1)-w.segmentSize.Number(w.start) >= uint64(n) {
				lines = append(lines, line)
			}
		}
		return lines
	}
	e := &events{t: t}
	r := newReader(t, w.options(), e)
	for _, from := range []int{0, 2, 1, 2, 1} {
		e.lines = nil
		at := w.start + segment.LSN(from<<20)
		r.Feed(at, w.data[from<<20:])
		if _, open := r.Open(); open {
			t.Fatalf("from segment %d on something is not checked", from)
		}
		wantEvents(t, e.lines, inSegment(from))
	}
	// A border that lies further back is a beginning.
	e.lines = nil
	w2 := newWAL(1<<20, 8192, testStart+5<<20)
	w2.record(rmHeap, 0, 0, filler(60))
	r.Feed(w2.start, w2.data)
	wantEvents(t, e.lines, w2.want)
	r.Feed(w.start, w.data[:1<<20])
	if len(e.lines) < 10 || strings.HasPrefix(e.lines[1], "fault") {
		t.Error("the first segment was not read again")
	}
}

func TestReaderFollowsTimelines(t *testing.T) {
	w := newWAL(1<<20, 8192, testStart)
	w.record(rmHeap, 0, 1, filler(9000))
	fork := w.pos()
	w.Timeline = 2 // from the next page on
	w.record(rmHeap, 0, 1, filler(9000))
	w.fill(0)
	second := w.pos() // where a page ends
	w.Timeline = 5
	w.record(rmHeap, 0, 1, filler(90))
	history := segment.History{Timeline: 5, Entries: []segment.HistoryEntry{{Timeline: 1, End: fork}, {Timeline: 2, End: second}}}
	o := w.options()
	for name, h := range map[string]segment.History{"full": history, "no ancestors": {Timeline: 5}, "none": {}, "later": {Timeline: 9}} {
		o.History = h
		t.Run(name, func(t *testing.T) { wantEvents(t, readAll(t, o, w.start, w.data), w.want) })
	}
	for name, c := range map[string]struct {
		history segment.History
		want    string
	}{
		"ended":         {segment.History{Timeline: 2}, fmt.Sprintf("fault: WAL at %s: timeline 5 is after 2", second)},
		"only timeline": {segment.History{Timeline: 1}, "fault: WAL at 5/4000: timeline 2 is after 1"},
		"fork later": {
			segment.History{Timeline: 5, Entries: []segment.HistoryEntry{{Timeline: 1, End: fork + 8192}, {Timeline: 2, End: second}}},
			"fault: WAL at 5/4000: timeline 2, but the history has 1 here",
		},
		"not an ancestor": {
			segment.History{Timeline: 5, Entries: []segment.HistoryEntry{{Timeline: 1, End: fork}, {Timeline: 3, End: second}}},
			"fault: WAL at 5/4000: timeline 2, but the history has 3 here",
		},
	} {
		o.History = c.history
		got := readAll(t, o, w.start, w.data)
		if i := slices.IndexFunc(got, func(s string) bool { return strings.HasPrefix(s, "fault") }); i < 0 || !strings.HasPrefix(got[i], c.want) {
			t.Errorf("%s: %q; want %s", name, got, c.want)
		}
	}
}

// TestReaderTakesOverAtFork feeds a timeline to its end and then the next one
// from the start of the segment with the fork, as a server sends them.
func TestReaderTakesOverAtFork(t *testing.T) {
	old := newWAL(1<<20, 8192, testStart)
	old.fillSegment(104)
	old.record(rmHeap, 1, 2, filler(3000)) // over the border
	fork := old.pos()
	next := *old
	next.data, next.want = bytes.Clone(old.data), slices.Clone(old.want)
	old.record(rmHeap, 0, 1, filler(30000)) // never reached the standby
	next.Timeline = 2
	next.record(rmHeap, 9, 9, filler(50000))
	e := &events{t: t}
	r := newReader(t, old.options(), e)
	r.Feed(old.start, old.data[:len(old.data)-100])
	n := len(old.want) - 1
	wantEvents(t, e.lines, old.want[:n])
	e.lines = nil
	r.SetHistory(segment.History{Timeline: 2, Entries: []segment.HistoryEntry{{Timeline: 1, End: fork}}})
	r.Feed(next.start+1<<20, next.data[1<<20:])
	gone := fmt.Sprintf("unchecked %s-%s", fork, old.pos()-100)
	wantEvents(t, e.lines, append([]string{gone}, next.want[n-1:]...))
}

func TestReaderOfUnknownVersion(t *testing.T) {
	w := newWAL(1<<20, 8192, testStart)
	w.Magic = 0xD1AA
	w.record(77, 1, 2, filler(300)) // whatever that is
	o := w.options()
	e := &events{t: t}
	r := newReader(t, o, e)
	if _, known := r.Major(); known {
		t.Error("the version is known before anything was read")
	}
	r.Feed(w.start, w.data)
	wantEvents(t, e.lines, w.want)
	if major, known := r.Major(); known {
		t.Errorf("an unknown version is said to be %d", major)
	}
	o.Major = 15
	if got := readAll(t, o, w.start, w.data); !strings.Contains(got[0], "D1AA is not that of PostgreSQL 15") {
		t.Errorf("an unknown magic number for 15: %s", got[0])
	}
	o.Major = 21
	wantEvents(t, readAll(t, o, w.start, w.data), w.want)
	w.data[0], w.data[1] = 0x18, 0xD1
	if got := readAll(t, o, w.start, w.data); !strings.Contains(got[0], "PostgreSQL 18 instead of 21") {
		t.Errorf("18 for 21: %s", got[0])
	}
}

// TestReaderKnowsManagers goes through all resource managers of some versions.
func TestReaderKnowsManagers(t *testing.T) {
	for magic, custom := range map[uint16]bool{0xD097: false, 0xD10D: false, 0xD110: true, 0xD118: true} {
		for manager := range 256 {
			w := newWAL(1<<20, 8192, testStart)
			w.Magic = magic
			w.record(byte(manager), 0x10, 2, filler(300))
			got := readAll(t, w.options(), w.start, w.data)
			sound := manager <= 21 || custom && manager >= 128
			if strings.HasPrefix(got[0], "record") != sound {
				t.Errorf("%04X, manager %d: %s", magic, manager, got[0])
			}
		}
	}
}

// TestReaderIsTheSameHoweverItIsCut cuts sound and damaged logs at random.
func TestReaderIsTheSameHoweverItIsCut(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	for range 20 {
		w := newWAL(1<<20, 1<<(10+rnd.UintN(7)), testStart)
		w.random(rnd, 300)
		for range rnd.IntN(4) {
			w.data[rnd.IntN(len(w.data))] ^= 1 << rnd.UintN(8)
		}
		want := readAll(t, w.options(), w.start, w.data)
		e := &events{t: t}
		r := newReader(t, w.options(), e)
		for at := 0; at < len(w.data); {
			n := min(1+rnd.IntN(1<<rnd.UintN(18)), len(w.data)-at)
			r.Feed(w.start+segment.LSN(at), w.data[at:at+n])
			at += n
		}
		r.Finish()
		wantEvents(t, e.lines, want)
	}
}
