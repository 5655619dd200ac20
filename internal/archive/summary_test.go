package archive

import (
	"bytes"
	"compress/gzip"
	"io"
	"math/rand/v2"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage/storagetest"
)

// randomSummary makes a summary of a segment that a reader could have made.
func randomSummary(rng *rand.Rand, n segment.Name) segment.Summary {
	some := func() bool { return rng.IntN(2) == 0 }
	start := n.Start(testSize)
	s := segment.Summary{Start: start, End: n.End(testSize)}
	if some() {
		s.End -= segment.LSN(rng.IntN(int(testSize) - 1))
	}
	if some() {
		s.First = start + segment.LSN(rng.Int64N(int64(s.End-start)))
		s.Last = s.First + segment.LSN(rng.Int64N(int64(s.End-s.First)))
		s.Open = s.Last
		s.FirstCommit = randomTime(rng)
		s.LastCommit = randomTime(rng)
		s.Switched = some()
	}
	for range rng.IntN(17) {
		name := make([]byte, rng.IntN(64))
		for i := range name {
			name[i] = byte(rng.IntN(256))
			if some() {
				name[i] &= 0x7f
			}
		}
		s.RestorePoints = append(s.RestorePoints, segment.NamedPoint{Name: string(name), LSN: s.End, Time: randomTime(rng)})
		s.MoreRestorePoints = rng.IntN(3)
	}
	if some() {
		s.Faults = 1 + rng.IntN(9)
		s.FirstFault = segment.Fault{LSN: s.End, End: s.Start, Reason: "page <\x01> \u2028 & \"more\""}
		s.Unchecked = rng.Int64N(int64(testSize))
	}
	return s
}

func randomTime(rng *rand.Rand) time.Time {
	return time.Unix(rng.Int64N(1<<34), rng.Int64N(1_000_000)*1000).UTC()
}

func TestSummaryRoundTrip(t *testing.T) {
	for seed := range uint64(500) {
		rng := rand.New(rand.NewPCG(seed, 3))
		n := name(1, rng.Uint64N(1<<40))
		want := randomSummary(rng, n)
		end := sealTrailer(t, want, n)
		got, err := decodeTrailer(end)
		if err != nil || got.BadSummary != nil || len(end) > maxTrailer {
			t.Fatalf("seed %d: %d bytes, %v, %v", seed, len(end), err, got.BadSummary)
		}
		if s, err := decodeSummary(got.Summary, n, testSize); err != nil || !reflect.DeepEqual(s, want) {
			t.Fatalf("seed %d: %v\ngot  %+v\nwant %+v\n%s", seed, err, s, want, got.Summary)
		}
	}
}

// sealTrailer is the end of the object of a segment.
func sealTrailer(t testing.TB, s segment.Summary, n segment.Name) []byte {
	t.Helper()
	text, err := encodeSummary(s, n, testSize)
	if err != nil || text == nil {
		t.Fatalf("%s, %v", text, err)
	}
	end, err := trailer{Size: int64(testSize), Summary: text}.encode()
	if err != nil {
		t.Fatal(err)
	}
	return end
}

// The longest summary that a reader makes fits into the end of an object.
func TestLongestSummary(t *testing.T) {
	for _, letter := range []string{"a", "<", "\x01", "\xff", "\u2028", "😀"} {
		n := name(0xFFFFFFFF, 1<<44-1)
		far := segment.MaxLSN - 1
		at := time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC)
		s := segment.Summary{
			Start: n.Start(testSize), End: n.End(testSize) - 1, First: n.Start(testSize), Last: n.End(testSize) - 2, Open: n.End(testSize) - 2,
			Switched: true, FirstCommit: at, LastCommit: at, MoreRestorePoints: 1 << 20, Faults: 1 << 20, Unchecked: int64(testSize),
			FirstFault: segment.Fault{LSN: far, End: far, Reason: strings.Repeat(letter, 400)},
		}
		for range 16 {
			s.RestorePoints = append(s.RestorePoints, segment.NamedPoint{Name: strings.Repeat(letter, 63)[:63], LSN: far, Time: at})
		}
		end := sealTrailer(t, s, n)
		if len(end) > maxTrailer {
			t.Errorf("%q: %d bytes", letter, len(end))
		}
		tr, err := decodeTrailer(end)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeSummary(tr.Summary, n, testSize)
		if err != nil || !strings.HasPrefix(s.FirstFault.Reason, got.FirstFault.Reason) {
			t.Errorf("%q: %+v, %v", letter, got, err)
		}
		got.FirstFault.Reason = s.FirstFault.Reason
		if !reflect.DeepEqual(got, s) {
			t.Errorf("%q: %+v", letter, got)
		}
	}
}

// What has no place in an object is left out, and keeps no segment from being
// archived.
func TestSummaryThatIsLeftOut(t *testing.T) {
	n := name(1, 7)
	long := segment.Summary{Start: n.Start(testSize), End: n.End(testSize)}
	for range 17 {
		long.RestorePoints = append(long.RestorePoints, segment.NamedPoint{Name: strings.Repeat("x", 1000)})
	}
	for _, s := range []segment.Summary{long, {Start: n.End(testSize), End: n.End(testSize) + 1}} {
		if text, err := encodeSummary(s, n, testSize); text != nil || err != nil {
			t.Errorf("%d bytes, %v", len(text), err)
		}
	}
	odd := segment.Summary{Start: n.Start(testSize), End: n.End(testSize), FirstCommit: time.Unix(1<<50, 0)}
	text, err := encodeSummary(odd, n, testSize)
	if err != nil {
		t.Fatal(err)
	}
	odd.FirstCommit = time.Time{}
	if got, err := decodeSummary(text, n, testSize); err != nil || !reflect.DeepEqual(got, odd) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestSummariesThatMakeNoSense(t *testing.T) {
	for _, text := range []string{
		``, `[]`, `{`, `{"first_lsn":"0/1"}`, `{"first_lsn":"0/700000"}`, `{"last_lsn":"0/700000"}`, `{"first_lsn":"0/700100","last_lsn":"0/700000"}`,
		`{"end_lsn":"0/700000"}`, `{"end_lsn":"0/800001"}`, `{"open_lsn":"0/800001"}`, `{"faults":-1}`, `{"unchecked_bytes":1048577}`,
		`{"first_lsn":"0/700000","last_lsn":"0/800000"}`, `{"first_commit":"yesterday"}`, `{"end_lsn":7}`,
		`{"restore_points":[{"name_hex":"f","lsn":"0/700000"}]}`, `{"restore_points":[{"name":"a","lsn":"0/700000","time":"x"}]}`,
	} {
		if s, err := decodeSummary([]byte(text), name(1, 7), testSize); err == nil {
			t.Errorf("%s was read as %+v", text, s)
		}
	}
	if s, err := decodeSummary([]byte(`{"later":[1,2]}`), name(1, 7), testSize); err != nil || s.End != name(1, 8).Start(testSize) {
		t.Errorf("%+v, %v", s, err)
	}
}

// A summary is about a segment; what the end of an object says without one, or
// with one that is not its own, is told apart.
func TestObjectsWithoutSummary(t *testing.T) {
	store := storagetest.NewMem()
	a, _, _ := newArchive(t, store)
	n := name(1, 7)
	data := small(n)
	object, old := encoded(t, data)
	store.Set(a.segmentKey(n), object)
	if info, err := a.SegmentInfo(t.Context(), n); err != nil || info.Known || info.Digest != old.Digest {
		t.Errorf("%+v, %v", info, err)
	}
}

// realSegment reads a segment that a server wrote.
func realSegment(t testing.TB, base string) []byte {
	t.Helper()
	file, err := os.Open("../../segment/testdata/wal/" + base + ".gz")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	plain, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(plain)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// realIdentity is the cluster of the segments that realSegment reads.
var realIdentity = Identity{SystemID: 7710755342863415827, SegmentSize: 1 << 20, Major: 15}

func TestSummaryOfRealSegments(t *testing.T) {
	a, err := Init(t.Context(), storagetest.NewMem(), realIdentity, Keys{})
	if err != nil {
		t.Fatal(err)
	}
	_, scratch, _ := newArchive(t, storagetest.NewMem())
	for _, base := range []string{"000000010000000000000008", "00000001000000000000000B", "00000002000000000000000C", "00000003000000000000000D"} {
		n, err := segment.ParseName(base, testSize)
		if err != nil {
			t.Fatal(err)
		}
		data := realSegment(t, base)
		mustPut(t, a, scratch, n, data)
		sums := segment.NewSummarizer(nil)
		r, err := segment.NewReader(segment.ReaderOptions{Identity: realIdentity.Segment(), Major: 15}, sums)
		if err != nil {
			t.Fatal(err)
		}
		r.Feed(n.Start(testSize), data)
		want, ok := sums.Summary(r)
		info, err := a.SegmentInfo(t.Context(), n)
		if !ok || err != nil || !info.Known || !reflect.DeepEqual(info.Summary, want) {
			t.Errorf("%s: %v\ngot  %+v\nwant %+v", base, err, info.Summary, want)
		}
		if want.Faults > 0 || want.Last == 0 && want.Open == 0 {
			t.Errorf("%s: %+v", base, want)
		}
	}
}

func FuzzDecodeTrailer(f *testing.F) {
	n := name(1, 7)
	for seed := range uint64(4) {
		f.Add(sealTrailer(f, randomSummary(rand.New(rand.NewPCG(seed, 3)), n), n))
	}
	old, err := trailer{Size: 7}.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(old)
	f.Fuzz(func(t *testing.T, end []byte) {
		tr, err := decodeTrailer(end)
		if err != nil || tr.Summary == nil {
			return
		}
		s, err := decodeSummary(tr.Summary, n, testSize)
		if err != nil {
			return
		}
		text, err := encodeSummary(s, n, testSize)
		if err != nil {
			t.Fatal(err)
		}
		if text == nil {
			return // longer than what is written
		}
		if again, err := decodeSummary(text, n, testSize); err != nil || !sameSummary(again, s) {
			t.Fatalf("%v\n%+v\n%+v", err, s, again)
		}
	})
}

// sameSummary compares what is written of two summaries.
func sameSummary(s, u segment.Summary) bool {
	a, errA := encodeSummary(s, name(1, 7), testSize)
	b, errB := encodeSummary(u, name(1, 7), testSize)
	return errA == nil && errB == nil && bytes.Equal(a, b)
}
