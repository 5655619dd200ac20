package segment_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/segment"
)

// The samples in testdata/wal; see the README there.
const (
	sampleSize   = segment.Size(1 << 20)
	sampleBlock  = 8192
	sampleSystem = 7710755342863415827

	sampleHead      = "000000010000000000000006"
	sampleFull      = "000000010000000000000008"
	sampleAbandoned = "00000001000000000000000B"
	samplePartial   = "00000001000000000000000C.partial"
	sampleFork      = "00000002000000000000000C"
	sampleOldPages  = "00000003000000000000000D"
)

func sampleID() segment.Identity {
	return segment.Identity{SystemID: sampleSystem, Size: sampleSize}
}

func allSamples() []string {
	return []string{sampleHead, sampleFull, sampleAbandoned, samplePartial, sampleFork, sampleOldPages}
}

// readSample unpacks a segment that a real server wrote.
func readSample(t testing.TB, base string) (segment.Name, []byte) {
	t.Helper()
	n, err := segment.ParseName(strings.TrimSuffix(base, segment.PartialSuffix), sampleSize)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Open("testdata/wal/" + base + ".gz")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	unpacked, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(unpacked)
	if err != nil {
		t.Fatal(err)
	}
	if len(data) != int(sampleSize) {
		t.Fatalf("%s has %d bytes", base, len(data))
	}
	return n, data
}

// usedPages is the number of pages before the zeros at the end of a segment.
func usedPages(data []byte) int {
	end := len(bytes.TrimRight(data, "\x00"))
	return (end + sampleBlock - 1) / sampleBlock
}

func page(data []byte, number int) []byte {
	return data[number*sampleBlock:][:sampleBlock]
}

// wantCorrupt asserts that err is a CorruptError for n at offset.
func wantCorrupt(t *testing.T, err error, n segment.Name, offset int64, reason string) {
	t.Helper()
	var corrupt *segment.CorruptError
	if !errors.As(err, &corrupt) {
		t.Errorf("got %v; want corruption at offset %d: %s", err, offset, reason)
		return
	}
	if corrupt.Segment != n.Format(sampleSize) || corrupt.Offset != offset || !strings.Contains(corrupt.Reason, reason) {
		t.Errorf("got %v; want offset %d and %q", err, offset, reason)
	}
	if !strings.Contains(err.Error(), corrupt.Segment) || !strings.Contains(err.Error(), corrupt.Reason) {
		t.Errorf("%q names neither segment nor reason", err)
	}
}

func TestRealSegmentsAreSound(t *testing.T) {
	for _, base := range allSamples() {
		n, data := readSample(t, base)
		for _, id := range []segment.Identity{sampleID(), {Size: sampleSize}} {
			if err := segment.CheckPages(bytes.NewReader(data), n, id); err != nil {
				t.Errorf("%s: %v", base, err)
			}
			if err := segment.CheckFirstPage(data[:40], n, id); err != nil {
				t.Errorf("%s: %v", base, err)
			}
		}
	}
}

// TestRealSamplesShowTheirCase keeps the samples honest: each is there for a
// thing that a check could take for damage.
func TestRealSamplesShowTheirCase(t *testing.T) {
	header := func(base string, number int) segment.PageHeader {
		_, data := readSample(t, base)
		h, err := segment.ParsePageHeader(page(data, number))
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	if h := header(sampleHead, 0); h.Info != flagContinued|flagLong|flagRemovable || h.RemLen != 217 {
		t.Errorf("%s does not begin inside of a record: %+v", sampleHead, h)
	}
	if h := header(sampleFull, 0); h.RemLen <= sampleBlock {
		t.Errorf("%s does not begin inside of a long record: %+v", sampleFull, h)
	}
	if h := header(sampleAbandoned, 8); h.Info != flagAbandoned|flagRemovable {
		t.Errorf("%s does not abandon a record: %+v", sampleAbandoned, h)
	}
	if a, b := header(sampleFork, 13), header(sampleFork, 14); a.Timeline != 1 || b.Timeline != 2 {
		t.Errorf("%s has no fork: %+v, %+v", sampleFork, a, b)
	}
	if h := header(sampleOldPages, 0); h.Timeline != 2 {
		t.Errorf("%s has a page of its own timeline: %+v", sampleOldPages, h)
	}
	for base, want := range map[string]int{
		sampleHead: 1, sampleFull: 128, sampleAbandoned: 17, samplePartial: 14, sampleFork: 28, sampleOldPages: 1,
	} {
		if _, data := readSample(t, base); usedPages(data) != want {
			t.Errorf("%s uses %d pages; want %d", base, usedPages(data), want)
		}
	}
}

func TestRealHistory(t *testing.T) {
	data, err := os.ReadFile("testdata/wal/00000003.history")
	if err != nil {
		t.Fatal(err)
	}
	h, err := segment.ParseHistory(3, data)
	const reason = "no recovery target specified"
	want := []segment.HistoryEntry{{Timeline: 1, End: 0xC1AFE0, Reason: reason}, {Timeline: 2, End: 0xD009A0, Reason: reason}}
	if err != nil || !slices.Equal(h.Entries, want) {
		t.Fatalf("%+v, %v; want %+v", h.Entries, err, want)
	}
	if !bytes.Equal(historyText(h), data) {
		t.Errorf("written back as %q", historyText(h))
	}
	for number, want := range map[uint64][]segment.TimelineID{0xB: {1}, 0xC: {1, 2}, 0xD: {2, 3}, 0xE: {3}} {
		if got := h.Segment(number, sampleSize); !slices.Equal(got, want) {
			t.Errorf("segment %X holds timelines %v; want %v", number, got, want)
		}
	}
}

// TestDamageIsFound damages real segments in every way that page headers can
// show, and says where it must be noticed and why.
func TestDamageIsFound(t *testing.T) {
	_, head := readSample(t, sampleHead)
	_, full := readSample(t, sampleFull)
	for name, c := range map[string]struct {
		base   string
		damage func(data []byte) []byte
		page   int // where it is noticed
		reason string
	}{
		"zeroed page inside of a record": {sampleFull, func(d []byte) []byte { clear(page(d, 5)); return d }, 5, "70757 bytes are left of a record"},
		"zeroed page between records":    {sampleAbandoned, func(d []byte) []byte { clear(page(d, 12)); return d }, 12, "is in use"},
		"zeroed first page":              {sampleFull, func(d []byte) []byte { clear(page(d, 0)); return d }, 0, "first page is empty"},
		"zeroed header":                  {sampleFull, func(d []byte) []byte { clear(page(d, 5)[:24]); return d }, 5, "page address is 0/0"},
		"zeroed from the middle on": {sampleFull, func(d []byte) []byte {
			clear(d[64*sampleBlock:])
			return d
		}, 64, "are left of a record"},
		"all zero":      {sampleFull, func(d []byte) []byte { clear(d); return d }, 0, "first page is empty"},
		"page repeated": {sampleFull, func(d []byte) []byte { copy(page(d, 6), page(d, 5)); return d }, 6, "0/80A000 instead of 0/80C000"},
		"pages swapped": {sampleFull, func(d []byte) []byte {
			kept := bytes.Clone(page(d, 100))
			copy(page(d, 100), page(d, 101))
			copy(page(d, 101), kept)
			return d
		}, 100, "0/8CA000 instead of 0/8C8000"},
		"shifted by a page": {sampleFull, func(d []byte) []byte {
			copy(d[50*sampleBlock:], d[51*sampleBlock:])
			return d
		}, 50, "page address"},
		"stale page of a recycled segment": {sampleAbandoned, func(d []byte) []byte {
			copy(page(d, 17), page(full, 17))
			return d
		}, 17, "0/822000 instead of 0/B22000"},
		"used page after unused ones": {sampleFork, func(d []byte) []byte {
			d[len(d)-1] = 1
			return d
		}, 28, "the one at offset 1040384 is in use"},
		"first page of another segment": {sampleFull, func(d []byte) []byte {
			copy(page(d, 0), page(head, 0))
			return d
		}, 0, "0/600000 instead of 0/800000"},
		"first page of the other branch": {sampleFork, func(d []byte) []byte {
			d[4] = 2
			return d
		}, 1, "timeline 1, but the page before has 2"},
		"long header inside": {sampleFull, func(d []byte) []byte {
			page(d, 7)[2] |= flagLong
			return d
		}, 7, "long page header"},
		"lost continuation": {sampleFull, func(d []byte) []byte {
			page(d, 7)[2] &^= flagContinued
			clear(page(d, 7)[16:20])
			return d
		}, 7, "0 bytes instead of 54421"},
		"abandonment taken away": {sampleAbandoned, func(d []byte) []byte {
			page(d, 8)[2] &^= flagAbandoned
			return d
		}, 8, "0 bytes instead of 134941"},
	} {
		n, data := readSample(t, c.base)
		err := segment.CheckPages(bytes.NewReader(c.damage(data)), n, sampleID())
		t.Run(name, func(t *testing.T) { wantCorrupt(t, err, n, int64(c.page)*sampleBlock, c.reason) })
	}
}

func TestWrongLengthIsFound(t *testing.T) {
	n, data := readSample(t, sampleFull)
	for _, size := range []int{0, 1, 39, 40, sampleBlock, 128<<10 - 1, 128 << 10, 500_000, len(data) - 1} {
		err := segment.CheckPages(bytes.NewReader(data[:size]), n, sampleID())
		wantCorrupt(t, err, n, int64(size), "the file ends here")
	}
	longer := append(data, 0)
	err := segment.CheckPages(bytes.NewReader(longer), n, sampleID())
	wantCorrupt(t, err, n, int64(sampleSize), "the file goes on")
}

func TestForeignSegmentIsFound(t *testing.T) {
	for name, c := range map[string]struct {
		base   string
		name   segment.Name
		id     segment.Identity
		reason string
	}{
		"number before":       {sampleFull, segment.Name{Timeline: 1, Number: 7}, sampleID(), "page address is 0/800000 instead of 0/700000"},
		"number after":        {sampleFull, segment.Name{Timeline: 1, Number: 9}, sampleID(), "page address is 0/800000 instead of 0/900000"},
		"timeline before":     {sampleOldPages, segment.Name{Timeline: 1, Number: 0xD}, sampleID(), "timeline 2 is after 1, the newest there can be"},
		"another cluster":     {sampleFull, segment.Name{Timeline: 1, Number: 8}, segment.Identity{SystemID: 1, Size: sampleSize}, "system identifier 7710755342863415827 instead of 1"},
		"another size":        {sampleFull, segment.Name{Timeline: 1, Number: 4}, segment.Identity{SystemID: sampleSystem, Size: 2 << 20}, "segments of 1MB instead of 2MB"},
		"another size, start": {sampleHead, segment.Name{Timeline: 1, Number: 0}, segment.Identity{Size: 16 << 20}, "page address"},
	} {
		_, data := readSample(t, c.base)
		var corrupt *segment.CorruptError
		if err := segment.CheckPages(bytes.NewReader(data), c.name, c.id); !errors.As(err, &corrupt) || !strings.Contains(corrupt.Reason, c.reason) {
			t.Errorf("%s: all pages: %v; want %s", name, err, c.reason)
		}
		if err := segment.CheckFirstPage(data, c.name, c.id); !errors.As(err, &corrupt) || !strings.Contains(corrupt.Reason, c.reason) {
			t.Errorf("%s: first page: %v; want %s", name, err, c.reason)
		}
	}
	// Pages of timeline 2 under a name of timeline 1 are found on page 14.
	_, data := readSample(t, sampleFork)
	n := segment.Name{Timeline: 1, Number: 0xC}
	err := segment.CheckPages(bytes.NewReader(data), n, sampleID())
	wantCorrupt(t, err, n, 14*sampleBlock, "timeline 2 is after 1, the newest there can be")
}

func TestOlderPagesInLaterTimelineAreSound(t *testing.T) {
	for _, base := range allSamples() {
		n, data := readSample(t, base)
		n.Timeline = 1<<32 - 1
		if err := segment.CheckPages(bytes.NewReader(data), n, sampleID()); err != nil {
			t.Errorf("%s under %s: %v", base, n.Format(sampleSize), err)
		}
	}
}

// TestBitFlipsAreFound flips every single bit of a header, on the first page,
// inside of a long record, where it is abandoned, at the fork and on the last
// page in use. What the headers cannot show is listed in unseen, and must be
// accepted.
func TestBitFlipsAreFound(t *testing.T) {
	for base, pages := range map[string][]int{
		sampleFull:      {0, 1, 2, 64, 127},
		sampleAbandoned: {0, 7, 8, 16},
		sampleFork:      {0, 13, 14, 27},
	} {
		n, data := readSample(t, base)
		for _, number := range pages {
			p := page(data, number)
			for bit := range headerLen(number) * 8 {
				sees := !unseen(t, data, number, bit)
				p[bit/8] ^= 1 << (bit % 8)
				err := segment.CheckPages(bytes.NewReader(data), n, sampleID())
				p[bit/8] ^= 1 << (bit % 8)
				var corrupt *segment.CorruptError
				if errors.As(err, &corrupt) != sees || !sees && err != nil {
					t.Errorf("%s, page %d, bit %d of byte %d: %v", base, number, bit%8, bit/8, err)
				}
			}
		}
	}
}

// unseen lists the bits that can change without a header contradicting itself
// or another one: the padding, whether backup blocks may be removed, whether a
// page that nothing is owed to abandons a record, and how much is left of a
// record, as long as neither the page before nor the one after is concerned.
func unseen(t *testing.T, data []byte, number, bit int) bool {
	h, err := segment.ParsePageHeader(page(data, number))
	if err != nil {
		t.Fatal(err)
	}
	owed := number > 0 && remLen(data, number-1) > room(number-1)
	switch at := bit / 8; {
	case at >= 20 && at < 24:
		return true
	case at == 2 && 1<<(bit%8) == flagRemovable:
		return true
	case at == 2 && 1<<(bit%8) == flagAbandoned:
		return h.RemLen == 0 && !owed
	case at >= 16 && at < 20:
		flipped := int(h.RemLen) ^ 1<<(bit-16*8)
		last := number == int(sampleSize)/sampleBlock-1
		return h.RemLen > 0 && flipped > 0 && !owed && (last || flipped <= room(number))
	}
	return false
}

func remLen(data []byte, number int) int {
	return int(binary.LittleEndian.Uint32(page(data, number)[16:]))
}

func headerLen(number int) int {
	if number == 0 {
		return 40
	}
	return 24
}

// room is how much of a record fits on a page.
func room(number int) int { return sampleBlock - headerLen(number) }

func TestBigEndianIsSaid(t *testing.T) {
	n, data := readSample(t, sampleFull)
	for number := range usedPages(data) {
		p := page(data, number)
		h, err := segment.ParsePageHeader(p)
		if err != nil {
			t.Fatal(err)
		}
		copy(p, appendHeader(nil, h, binary.BigEndian))
	}
	err := segment.CheckPages(bytes.NewReader(data), n, sampleID())
	wantCorrupt(t, err, n, 0, "big-endian")
	data[0], data[1] = 0xEE, 0xEE // a version that is not known yet
	wantCorrupt(t, segment.CheckFirstPage(data, n, sampleID()), n, 0, "big-endian")
}
