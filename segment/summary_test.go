package segment_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/walrecv/walrecv/segment"
)

// summaries reads a log segment by segment.
func summaries(t *testing.T, o segment.ReaderOptions, start segment.LSN, log []byte, v segment.Visitor) (all []segment.Summary) {
	t.Helper()
	s := segment.NewSummarizer(v)
	r := newReader(t, o, s)
	size := o.Identity.Size
	for p := range slices.Chunk(log, int(size)) {
		r.Feed(start, p)
		start += segment.LSN(len(p))
		sum, ok := s.Summary(r)
		if !ok || sum.End != start || sum.Start != size.Floor(start-1) {
			t.Fatalf("summary up to %s: %+v, %v", start, sum, ok)
		}
		all = append(all, sum)
	}
	return all
}

// summarize makes the summary of a segment from the events of a whole log, of
// which the last record is complete.
func summarize(t *testing.T, lines []string, start, end segment.LSN) segment.Summary {
	t.Helper()
	sum := segment.Summary{Start: start, End: end}
	for _, line := range lines {
		words := strings.Fields(line)
		from, to, _ := strings.Cut(words[1], "-")
		lsn, recordEnd := mustLSN(t, from), mustLSN(t, to)
		if lsn < end && recordEnd > end {
			sum.Open = lsn
		}
		if lsn >= start && lsn < end {
			sum.Last = lsn
			if sum.First == 0 {
				sum.First = lsn
			}
		}
		if recordEnd <= start || recordEnd > end {
			continue
		}
		at, _ := time.Parse("2006-01-02T15:04:05.000000Z07:00", words[len(words)-1])
		switch {
		case strings.Contains(line, " commit at "):
			if sum.FirstCommit.IsZero() {
				sum.FirstCommit = at
			}
			sum.LastCommit = at
		case strings.HasSuffix(line, " switch"):
			sum.Switched = true
		case strings.Contains(line, " restore point "):
			_, name, _ := strings.Cut(line, `"`)
			name, _, _ = strings.Cut(name, `"`)
			if len(sum.RestorePoints) < 16 {
				sum.RestorePoints = append(sum.RestorePoints, segment.NamedPoint{Name: name, LSN: recordEnd, Time: at})
			} else {
				sum.MoreRestorePoints++
			}
		}
	}
	return sum
}

func mustLSN(t *testing.T, text string) segment.LSN {
	t.Helper()
	l, err := segment.ParseLSN(text)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestSummary(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	for range 5 {
		w := newWAL(1<<20, 8192, testStart)
		w.random(rnd, 500)
		w.record(rmHeap, 0, 1, filler(5<<19)) // covers a segment
		w.random(rnd, 500)
		passed := &events{t: t}
		for i, got := range summaries(t, w.options(), w.start, w.data, passed) {
			start := w.start + segment.LSN(i)<<20
			want := summarize(t, w.want, start, min(start+1<<20, w.pos()))
			if !reflect.DeepEqual(got, want) || !got.Verified() {
				t.Fatalf("segment %d:\n got %+v\nwant %+v", i, got, want)
			}
		}
		wantEvents(t, passed.lines, w.want)
	}
}

func TestSummaryNamesNotAllRestorePoints(t *testing.T) {
	w := newWAL(1<<20, 8192, testStart)
	for i := range 20 {
		w.restorePoint(fmt.Sprint("point ", i), uint64(i))
	}
	got := summaries(t, w.options(), w.start, w.data, nil)
	want := summarize(t, w.want, w.start, w.pos())
	if !reflect.DeepEqual(got, []segment.Summary{want}) || want.MoreRestorePoints != 4 {
		t.Errorf("got %+v; want %+v", got, want)
	}
}

// TestSummaryOfWhatIsNotSound reads a log without its first segment and with
// damage, some of which shows only in the next segment.
func TestSummaryOfWhatIsNotSound(t *testing.T) {
	w := newWAL(1<<20, 8192, testStart)
	w.fillSegment(4096)
	w.record(rmHeap, 1, 2, filler(40000))
	first := w.pos()
	w.fillSegment(4096)
	split := w.record(rmHeap, 1, 2, filler(8000))
	w.record(rmHeap, 1, 2, filler(10000))
	after := w.pos()
	w.fillSegment(0)
	w.data[split-w.start+100] ^= 1
	got := summaries(t, w.options(), w.start+1<<20, w.data[1<<20:], nil)
	headLen := int64(first) - int64(w.start+1<<20)
	if s := got[0]; s.First != first || s.Last != split || s.Open != split || s.Faults != 0 || s.Unchecked != headLen || s.Verified() {
		t.Errorf("without the segment before: %+v", s)
	}
	want := segment.Fault{LSN: split, End: split, Reason: "the checksum of the record does not match"}
	if s := got[1]; s.First != after || s.Faults != 1 || s.FirstFault != want || s.Unchecked != int64(after)-int64(w.start+2<<20) || s.Verified() {
		t.Errorf("with damage: %+v", s)
	}
	clear(w.data[2<<20:])
	got = summaries(t, w.options(), w.start+1<<20, w.data[1<<20:], nil)
	if s := got[1]; s.First != 0 || s.Last != 0 || s.Open != 0 || s.Faults != 1 || s.Unchecked != 1<<20 {
		t.Errorf("empty: %+v", s)
	}
}

func TestSummaryNeedsAllOfTheSegment(t *testing.T) {
	w := newWAL(1<<20, 8192, testStart)
	w.fillSegment(0)
	w.fillSegment(0)
	s := segment.NewSummarizer(nil)
	r := newReader(t, w.options(), s)
	has := func(want bool, what string) {
		t.Helper()
		if sum, ok := s.Summary(r); ok != want {
			t.Errorf("%s: %+v, %v", what, sum, ok)
		}
	}
	has(false, "nothing read")
	r.Feed(w.start+8192, w.data[8192:16384])
	has(false, "from the middle on")
	r.Feed(w.start, w.data[:100_000])
	has(true, "a part")
	r.Feed(w.start+200_000, w.data[200_000:1<<20])
	has(false, "with a gap")
	r.Feed(w.start+1<<20, w.data[1<<20:])
	has(true, "the next segment")
	r.Feed(w.start+1<<20, w.data[1<<20:])
	has(true, "again")
	r.Finish()
	has(false, "finished")
}

func TestSummaryOfRealSegments(t *testing.T) {
	utc := func(text string) time.Time {
		at, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	for base, want := range map[string]segment.Summary{
		sampleFull: {
			Start: 0x800000, End: 0x900000, First: 0x8053F0, Last: 0x8FFFB8, Open: 0x8FFFB8, Unchecked: 0x53F0,
			FirstCommit: utc("2026-11-21T22:28:50.636257Z"), LastCommit: utc("2026-11-21T22:28:50.746455Z"),
		},
		sampleFork: {
			Start: 0xC00000, End: 0xD00000, First: 0xC00028, Last: 0xC36028, Switched: true,
			FirstCommit: utc("2026-11-21T22:28:51.302949Z"), LastCommit: utc("2026-11-21T22:28:51.683572Z"),
		},
	} {
		n, data := readSample(t, base)
		got := summaries(t, sampleOptions(), n.Start(sampleSize), data, nil)
		if !reflect.DeepEqual(got, []segment.Summary{want}) {
			t.Errorf("%s:\n got %+v\nwant %+v", base, got, want)
		}
	}
}
