package segment_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/walrecv/walrecv/segment"
)

var year2000 = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func stamp(micros uint64) string {
	return stampTime(year2000.Add(time.Duration(micros) * time.Microsecond))
}

func stampTime(t time.Time) string { return t.Format("2006-01-02T15:04:05.000000Z07:00") }

func newReader(t testing.TB, o segment.ReaderOptions, v segment.Visitor) *segment.Reader {
	t.Helper()
	r, err := segment.NewReader(o, v)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// readAll gives what a Reader says of a log that is fed to it whole.
func readAll(t testing.TB, o segment.ReaderOptions, start segment.LSN, log []byte) []string {
	t.Helper()
	e := &events{t: t}
	r := newReader(t, o, e)
	r.Feed(start, log)
	r.Finish()
	return e.lines
}

// wantEvents compares and shows the first difference.
func wantEvents(t testing.TB, got, want []string) {
	t.Helper()
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Fatalf("event %d of %d:\n got %s\nwant %s", i, len(want), got[i], want[i])
		}
	}
	if len(got) != len(want) {
		longer := slices.Concat(got, want)[min(len(got), len(want)):]
		t.Fatalf("%d events; want %d: %s", len(got), len(want), longer[0])
	}
}

// check feeds the log in pieces of many lengths, and as segments are, and wants
// to be told the same each time.
func (w *walMaker) check(t *testing.T) {
	t.Helper()
	w.checkWants(t, w.want)
}

func (w *walMaker) checkWants(t *testing.T, want []string) {
	t.Helper()
	wantEvents(t, readAll(t, w.options(), w.start, w.data), want)
	for _, piece := range []int{1, 7, 8, 24, 25, 8191, 8192, 131072} {
		if len(w.data)/piece > 50_000 {
			continue // takes long and shows no more than with shorter logs
		}
		e := &events{t: t}
		r := newReader(t, w.options(), e)
		at := w.start
		for p := range slices.Chunk(w.data, piece) {
			r.Feed(at, p)
			at += segment.LSN(len(p))
		}
		r.Finish()
		wantEvents(t, e.lines, want)
		if at != r.Position() {
			t.Fatalf("at %s; want %s", r.Position(), at)
		}
	}
}

const testStart = segment.LSN(0x5_0000_0000)

// TestReaderReadsRecordsOfAllLengths writes records of all lengths up to a few
// pages, so that they and their headers end and are split everywhere.
func TestReaderReadsRecordsOfAllLengths(t *testing.T) {
	for block := uint32(1 << 10); block <= 64<<10; block *= 2 {
		t.Run(fmt.Sprint(block), func(t *testing.T) {
			w := newWAL(1<<20, block, testStart)
			for length := 24; length < min(3*int(block), 2000); length += 1 + length/200 {
				w.record(rmHeap, byte(length), uint32(length), filler(length))
			}
			for _, pages := range []int{1, 2, 3} {
				for d := -30; d < 30; d += 1 + int(block)>>12 {
					w.record(rmHeap, 0, 1, filler(pages*int(block)+d))
				}
			}
			w.check(t)
		})
	}
}

func TestReaderReadsHeadersSplitByPages(t *testing.T) {
	for _, on := range []int{8, 16, 24} {
		for _, length := range []int{24, 25, 31, 32, 33, 100, 9000} {
			w := newWAL(1<<20, 8192, testStart)
			w.fill(on)
			w.record(rmHeap, 1, 2, filler(length))
			w.record(rmHeap, 3, 4, filler(50))
			w.check(t)
		}
	}
}

func TestReaderReadsRecordsLongerThanSegments(t *testing.T) {
	w := newWAL(1<<20, 8192, testStart)
	w.record(rmHeap, 0, 1, filler(100))
	long := w.record(rmHeap, 0, 1, filler(3<<20+1<<19))
	w.record(rmHeap, 0, 1, filler(100))
	w.fill(16) // and a header split at a page of the last segment
	w.record(rmHeap, 0, 1, filler(1<<20))
	w.check(t)
	if first, last := w.segmentSize.Number(long), w.segmentSize.Number(w.pos()); last-first < 4 {
		t.Errorf("the long record is in segments %d to %d", first, last)
	}
}

// fillSegment writes records until n bytes are left of the segment.
func (w *walMaker) fillSegment(n int) {
	size := int(w.segmentSize)
	for size-len(w.data)%size > int(w.BlockSize) {
		w.fill(0)
		w.record(rmHeap, 0, 1, filler(24))
	}
	w.fill(n)
}

func TestReaderReadsOverSegmentBorders(t *testing.T) {
	for _, left := range []int{0, 8, 16, 24, 32, 4096} {
		for _, length := range []int{24, 40, 8000, 40000} {
			w := newWAL(1<<20, 8192, testStart)
			w.fillSegment(left)
			w.record(rmHeap, 1, 2, filler(length))
			w.commit(4, 5)
			w.check(t)
		}
	}
}

func TestReaderReadsSwitches(t *testing.T) {
	for _, left := range []int{0, 8, 16, 24, 32, 4096} {
		for _, last := range []bool{false, true} {
			w := newWAL(1<<20, 8192, testStart)
			if last { // the switch may be split by the border of segments
				w.fillSegment(left)
			} else {
				w.fill(left)
			}
			w.switchSegment()
			w.record(rmHeap, 1, 2, filler(30))
			w.switchSegment()
			w.fill(0)
			w.check(t)
		}
	}
}

func TestReaderReadsSwitchOfOldServers(t *testing.T) {
	w := newWAL(1<<20, 8192, testStart)
	w.Magic = 0xD097
	w.record(rmHeap, 1, 2, filler(30))
	w.switchSegment()
	w.record(rmHeap, 1, 2, filler(30))
	for at := 8192; at < 1<<20; at += 8192 { // these wrote the headers of pages not in use
		h := w.PageHeader
		h.Info, h.Addr = flagRemovable, w.start+segment.LSN(at)
		copy(w.data[at:], encodeHeader(h))
	}
	w.check(t)
}

func TestReaderReadsAbandonedRecords(t *testing.T) {
	for _, left := range []int{8, 16, 24, 4096} {
		for _, pages := range []int{1, 2, 5} {
			w := newWAL(1<<20, 8192, testStart)
			w.fill(left)
			w.lose(filler(60000), w.roomFor(pages))
			w.overwrite()
			w.record(rmHeap, 1, 2, filler(30))
			w.check(t)
		}
	}
	w := newWAL(1<<20, 8192, testStart)
	w.fillSegment(16)
	w.lose(filler(100), 16) // the page that abandons it begins a segment
	w.overwrite()
	w.fill(0)
	w.check(t)
	w = newWAL(1<<20, 8192, testStart)
	w.fillSegment(64) // and its segment is not the one before
	w.lose(filler(3<<20), w.roomFor(1+128))
	w.overwrite()
	w.lose(filler(30000), w.roomFor(2)) // and it happens again, at once
	w.overwrite()
	w.check(t)
}

func TestReaderTellsTimesAndNames(t *testing.T) {
	w := newWAL(1<<20, 8192, testStart)
	w.commit(700, 0)
	w.restorePoint("before the migration", 825638400_123456)
	w.restorePoint(strings.Repeat("x", 63), 1)
	w.fill(56) // split, so that it does not come in one piece
	w.restorePoint("split", 2)
	w.fill(32)
	w.commit(701, 3)
	w.check(t)
}

// TestReaderDescribesTransactions goes through what can stand in front of the
// time of a commit, and through the kinds of records that are none.
func TestReaderDescribesTransactions(t *testing.T) {
	at := []byte{0x40, 0x42, 0x0F, 0, 0, 0, 0, 0} // a second
	origin, top := []byte{253, 1, 0}, []byte{252, 1, 2, 3, 4}
	const second = "at 2000-01-01T00:00:01.000000Z"
	for name, c := range map[string]struct {
		info byte
		body []byte
		want string
	}{
		"commit":                {0x00, data(at...), "commit " + second},
		"commit, more data":     {0x80, data(slices.Concat(at, make([]byte, 40))...), "commit " + second},
		"commit, long data":     {0x80, data(slices.Concat(at, make([]byte, 400))...), "commit " + second},
		"commit of prepared":    {0xB0, data(at...), "commit " + second},
		"commit, origin":        {0x80, slices.Concat(origin, data(at...)), "commit " + second},
		"commit, top xid":       {0x80, slices.Concat(top, data(at...)), "commit " + second},
		"commit, both":          {0x80, slices.Concat(origin, top, data(at...)), "commit " + second},
		"abort":                 {0x20, data(at...), "abort " + second},
		"abort of prepared":     {0xC0, data(at...), "abort " + second},
		"prepare":               {0x10, data(at...), ""},
		"assignment":            {0x50, data(at...), ""},
		"before 2000":           {0x00, data(0xC0, 0xBD, 0xF0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF), "commit at 1999-12-31T23:59:59.000000Z"},
		"no data":               {0x00, nil, ""},
		"one byte":              {0x00, []byte{255}, ""},
		"data cut off":          {0x00, data(at[:7]...), ""},
		"length beyond the end": {0x00, slices.Concat([]byte{255, 200}, at[:7]), ""},
		"long length cut off":   {0x00, []byte{254, 8, 0}, ""},
		"top xid cut off":       {0x00, []byte{252, 8, 0}, ""},
		"origin cut off":        {0x00, []byte{253, 8}, ""},
		"block reference":       {0x00, slices.Concat([]byte{0, 0, 0, 0}, at), ""},
	} {
		w := newWAL(1<<20, 8192, testStart)
		w.record(rmXact, c.info, 1, c.body)
		got := readAll(t, w.options(), w.start, w.data)
		if _, kind, _ := strings.Cut(got[0], "prev 4/FFFFFFC0"); len(got) != 1 || strings.TrimSpace(kind) != c.want {
			t.Errorf("%s: %q; want %q", name, kind, c.want)
		}
	}
}

// TestReaderIsLost cuts a log off in different places: it does not reach the end of
// its segment then, unless a switch ends it. Damage in the middle is gone past.
func TestReaderIsLost(t *testing.T) {
	const size = 1 << 20
	whole := newWAL(size, 8192, testStart)
	whole.fillSegment(64)
	whole.record(rmHeap, 0, 1, filler(500)) // goes on in the next segment
	lost := func(data []byte) bool {
		r := newReader(t, whole.options(), &events{t: t})
		r.Feed(whole.start, data[:size])
		return r.Lost()
	}
	if lost(whole.data) {
		t.Error("a whole segment")
	}
	for _, end := range []int{40, 64, 8192, 8192 + 24, 300_000, size - 8192, size - 72, size - 64} {
		data := slices.Clone(whole.data[:size])
		clear(data[end:])
		if !lost(data) {
			t.Errorf("cut off at %d", end)
		}
	}
	for _, at := range []int{100, 8192, 300_000, size - 8192} {
		data := slices.Clone(whole.data[:size])
		data[at] ^= 0x40
		if got := lost(data); got != (at == size-8192) {
			t.Errorf("damaged at %d: %v", at, got)
		}
	}
	switched := newWAL(size, 8192, testStart)
	switched.fill(64)
	switched.switchSegment()
	if lost(switched.data) {
		t.Error("a segment that ends with a switch")
	}
}
