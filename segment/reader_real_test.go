package segment_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/segment"
)

func sampleOptions() segment.ReaderOptions {
	return segment.ReaderOptions{Identity: sampleID(), Major: 15}
}

// TestReaderOfRealSegments reads each sample by itself. The numbers are those of
// pg_waldump.
func TestReaderOfRealSegments(t *testing.T) {
	for base, want := range map[string]struct {
		events int
		about  []string // how the first, the second, the last but one and the last begin
	}{
		sampleHead: {1 + 15, []string{
			"unchecked 0/600000-0/600108",
			"record 0/600108-0/600168 tli 1 len 90 rm 8 info 20 xid 0 prev 0/5FE0E8",
			"record 0/600768-0/6007E0 tli 1 len 114 rm 0 info 00 xid 0 prev 0/600720",
			"record 0/6007E0-0/700000 tli 1 len 24 rm 0 info 40 xid 0 prev 0/600768 switch",
		}},
		sampleFull: {2 + 1038, []string{
			"unchecked 0/800000-0/8053F0",
			"record 0/8053F0-0/805418 tli 1 len 34 rm 1 info 00 xid 732 prev 0/7EF2C0 commit at 2026-11-21T22:28:50.636257Z",
			"record 0/8FFEE8-0/8FFFB8 tli 1 len 203 rm 10 info 00 xid 742 prev 0/8FFE18",
			"unchecked 0/8FFFB8-0/900000",
		}},
		sampleAbandoned: {1008, []string{
			"record 0/B00028-0/B00068 tli 1 len 59 rm 10 info 00 xid 745 prev 0/A21A40",
			"record 0/B00068-0/B00090 tli 1 len 34 rm 1 info 00 xid 745 prev 0/B00028 commit at 2026-11-21T22:28:50.857283Z",
			"record 0/B216D8-0/B21700 tli 1 len 34 rm 1 info 00 xid 747 prev 0/B21698 commit at 2026-11-21T22:28:51.274949Z",
			"record 0/B21700-0/C00000 tli 1 len 24 rm 0 info 40 xid 0 prev 0/B216D8 switch",
		}},
		samplePartial: {4 + 2, []string{
			"record 0/C00028-0/C16100 tli 1 len 90061 rm 21 info 00 xid 748 prev 0/B21700",
			"record 0/C16100-0/C16128 tli 1 len 34 rm 1 info 00 xid 748 prev 0/C00028 commit at 2026-11-21T22:28:51.302949Z",
			"fault: WAL at 0/C1AFE0: there is no record here, its length is 0",
			"unchecked 0/C1AFE0-0/D00000",
		}},
		sampleFork: {10, []string{
			"record 0/C00028-0/C16100 tli 1 len 90061 rm 21 info 00 xid 748 prev 0/B21700",
			"record 0/C16100-0/C16128 tli 1 len 34 rm 1 info 00 xid 748 prev 0/C00028 commit at 2026-11-21T22:28:51.302949Z",
			"record 0/C35FE8-0/C36028 tli 2 len 34 rm 1 info 00 xid 751 prev 0/C31158 commit at 2026-11-21T22:28:51.683572Z",
			"record 0/C36028-0/D00000 tli 2 len 24 rm 0 info 40 xid 0 prev 0/C35FE8 switch",
		}},
		sampleOldPages: {4, []string{
			"record 0/D00028-0/D00978 tli 2 len 2382 rm 10 info 00 xid 752 prev 0/C36028",
			"record 0/D00978-0/D009A0 tli 2 len 34 rm 1 info 00 xid 752 prev 0/D00028 commit at 2026-11-21T22:28:51.711912Z",
			"record 0/D009A0-0/D00A18 tli 2 len 114 rm 0 info 00 xid 0 prev 0/D00978",
			"record 0/D00A18-0/E00000 tli 2 len 24 rm 0 info 40 xid 0 prev 0/D009A0 switch",
		}},
	} {
		t.Run(base, func(t *testing.T) {
			n, data := readSample(t, base)
			got := readAll(t, sampleOptions(), n.Start(sampleSize), data)
			if len(got) != want.events {
				t.Fatalf("%d events; want %d", len(got), want.events)
			}
			wantEvents(t, slices.Concat(got[:2], got[len(got)-2:]), want.about)
			faults := slices.DeleteFunc(got, func(s string) bool { return !strings.HasPrefix(s, "fault") })
			if base != samplePartial && len(faults) > 0 {
				t.Error(faults)
			}
		})
	}
}

// sampleHistoryOf is the history of one of the samples' timelines.
func sampleHistoryOf(t *testing.T, timeline segment.TimelineID) segment.History {
	t.Helper()
	text, err := os.ReadFile("testdata/wal/00000003.history")
	if err != nil {
		t.Fatal(err)
	}
	h, err := segment.ParseHistory(3, text)
	if err != nil {
		t.Fatal(err)
	}
	h.Timeline = timeline
	h.Entries = h.Entries[:timeline-1] // they are 1 and 2
	return h
}

// TestReaderFollowsRealTimelines reads the segments from B on as a receiver gets
// them that stays connected through two promotions.
func TestReaderFollowsRealTimelines(t *testing.T) {
	fork, _, _ := sampleHistoryOf(t, 2).Bounds(2)
	e := &events{t: t}
	r := newReader(t, sampleOptions(), e)
	for _, base := range []string{sampleAbandoned, samplePartial, sampleFork, sampleOldPages} {
		n, data := readSample(t, base)
		if base == samplePartial {
			data = data[:sampleSize.Offset(fork)]
		}
		before := len(e.lines)
		h := sampleHistoryOf(t, n.Timeline)
		r.SetHistory(h)
		r.Feed(n.Start(sampleSize), data)
		o := sampleOptions()
		o.History = h
		wantEvents(t, e.lines[before:], readAll(t, o, n.Start(sampleSize), data))
		if r.End() != r.Position() {
			t.Errorf("%s ends at %s; want %s", base, r.End(), r.Position())
		}
	}
	overwritten := slices.ContainsFunc(e.lines, func(s string) bool { return strings.HasSuffix(s, "overwrite") })
	if !overwritten || len(e.lines) != 1008+4+10+4 {
		t.Errorf("%d records; one of them tells of an abandoned one: %v", len(e.lines), overwritten)
	}
	if major, known := r.Major(); major != 15 || !known {
		t.Errorf("major %d, known: %v", major, known)
	}
}

func TestFindEndOfRealSegments(t *testing.T) {
	for base, want := range map[string]segment.LSN{
		sampleHead: 0x700000, sampleFull: 0x8FFFB8, sampleAbandoned: 0xC00000,
		samplePartial: 0xC1AFE0, sampleFork: 0xD00000, sampleOldPages: 0xE00000,
	} {
		n, data := readSample(t, base)
		end, err := segment.FindEnd(bytes.NewReader(data), n, sampleOptions())
		if err != nil || end.LSN != want || (end.Reason != "") != (base == samplePartial) {
			t.Errorf("%s: %+v, %v; want %s", base, end, err, want)
		}
	}
}

// TestFindEndOfTornSegment cuts a real segment off everywhere, with nothing
// behind, with zeros, and with the bytes of a recycled file. The log must end
// where the last whole record does.
func TestFindEndOfTornSegment(t *testing.T) {
	n, data := readSample(t, sampleFork)
	zeros := make([]byte, len(data))
	_, old := readSample(t, sampleFull)
	for i := range old { // the headers stay, the rest must not be the same by chance
		if i%sampleBlock >= headerLen(i/sampleBlock) {
			old[i] ^= 0xFF
		}
	}
	var ends []segment.LSN
	start := n.Start(sampleSize)
	r := newReader(t, sampleOptions(), recordFunc(func(r *segment.Record) { ends = append(ends, r.End) }))
	r.Feed(start, data)
	last := 0xC36040 - int(start) // of the switch, of which zeros are a part
	for cut := 0; cut < last; cut += 211 + cut%97 {
		want := start
		for _, end := range ends {
			if end <= start+segment.LSN(cut+7)&^7 {
				want = end
			}
		}
		for name, rest := range map[string][]byte{"nothing": nil, "zeros": zeros[cut:], "recycled": old[cut:]} {
			torn := io.MultiReader(bytes.NewReader(data[:cut]), bytes.NewReader(rest))
			end, err := segment.FindEnd(torn, n, sampleOptions())
			if err != nil || end.LSN != want && !sameTorn(end.LSN, cut, start) || (end.Reason == "") != (name == "nothing") {
				t.Fatalf("cut off at %d, then %s: %+v, %v; want %s", cut, name, end, err, want)
			}
		}
	}
}

// sameTorn tells whether a record ends so close behind the cut that what follows
// happened to be the same bytes.
func sameTorn(end segment.LSN, cut int, start segment.LSN) bool {
	return end > start+segment.LSN(cut) && end < start+segment.LSN(cut+16)
}

// recordFunc is a Visitor that wants records only.
type recordFunc func(r *segment.Record)

func (recordFunc) Segment(segment.LSN)                {}
func (f recordFunc) Record(r *segment.Record)         { f(r) }
func (recordFunc) Fault(segment.Fault)                {}
func (recordFunc) Unchecked(segment.LSN, segment.LSN) {}

func TestFindEndSaysWhatItCannotRead(t *testing.T) {
	n, data := readSample(t, sampleFork)
	broken := errors.New("input/output error")
	src := &failingReader{data: data[:300_000], err: broken}
	if end, err := segment.FindEnd(src, n, sampleOptions()); !errors.Is(err, broken) {
		t.Errorf("%+v, %v", end, err)
	}
	if end, err := segment.FindEnd(bytes.NewReader(data), n, segment.ReaderOptions{}); err == nil {
		t.Errorf("no segment size: %+v", end)
	}
	n.Timeline = 1
	end, err := segment.FindEnd(bytes.NewReader(data), n, sampleOptions())
	if err != nil || end.LSN != 0xC1BFE8 && !strings.Contains(end.Reason, "timeline 2 is after 1") {
		t.Errorf("under the name of timeline 1: %+v, %v", end, err)
	}
}

// failingReader gives some bytes and then an error.
type failingReader struct {
	data []byte
	err  error
}

func (f *failingReader) Read(p []byte) (int, error) {
	if len(f.data) == 0 {
		return 0, f.err
	}
	n := copy(p, f.data)
	f.data = f.data[n:]
	return n, nil
}
