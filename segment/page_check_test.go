package segment_test

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/walrecv/walrecv/segment"
)

// writtenSegment makes a sound segment: used pages of the given length with one
// record going on from the first to the last of them, then zeros.
func writtenSegment(n segment.Name, id segment.Identity, block, used int) []byte {
	data := make([]byte, id.Size)
	owed := used*(block-24) - 16 // fills all of them
	for i := range used {
		h := segment.PageHeader{
			Magic: 0xD118, Info: flagContinued | flagRemovable, Timeline: n.Timeline,
			Addr: n.Start(id.Size) + segment.LSN(i*block), RemLen: uint32(owed),
		}
		if i == 0 {
			h.Info |= flagLong
			h.Long, h.SystemID, h.SegmentSize, h.BlockSize = true, id.SystemID, uint32(id.Size), uint32(block)
		}
		header := encodeHeader(h)
		p := data[i*block:][:block]
		copy(p, header)
		for k := len(header); k < block; k++ {
			p[k] = byte(k)
		}
		owed -= block - len(header)
	}
	return data
}

func TestCheckPagesOfEveryLength(t *testing.T) {
	id := segment.Identity{SystemID: 1<<64 - 1, Size: 1 << 21}
	n := segment.Name{Timeline: 1<<32 - 1, Number: 1 << 40}
	for block := 1 << 10; block <= 64<<10; block *= 2 {
		for _, used := range []int{1, 2, int(id.Size)/block - 1, int(id.Size) / block} {
			data := writtenSegment(n, id, block, used)
			if err := segment.CheckPages(bytes.NewReader(data), n, id); err != nil {
				t.Errorf("%d pages of %d bytes: %v", used, block, err)
			}
			data[(used-1)*block+8] ^= 1
			if segment.CheckPages(bytes.NewReader(data), n, id) == nil {
				t.Errorf("%d pages of %d bytes: a wrong address on the last is not noticed", used, block)
			}
		}
	}
	for _, block := range []int{0, 1, 512, 8193, 12 << 10, 128 << 10, -1} {
		data := writtenSegment(n, id, 8192, 2)
		data[36], data[37], data[38], data[39] = byte(block), byte(block>>8), byte(block>>16), byte(block>>24)
		var corrupt *segment.CorruptError
		if err := segment.CheckPages(bytes.NewReader(data), n, id); !errors.As(err, &corrupt) || corrupt.Offset != 0 {
			t.Errorf("pages of %d bytes: %v", block, err)
		}
	}
}

func TestUnknownMagicIsSound(t *testing.T) {
	id := segment.Identity{SystemID: 7, Size: 1 << 20}
	n := segment.Name{Timeline: 3, Number: 9}
	data := writtenSegment(n, id, 8192, 128)
	for i := range 128 {
		data[i*8192], data[i*8192+1] = 0x99, 0xD1
	}
	if err := segment.CheckPages(bytes.NewReader(data), n, id); err != nil {
		t.Error(err)
	}
	if err := segment.CheckFirstPage(data, n, id); err != nil {
		t.Error(err)
	}
}

// TestFlagsOfFirstPage goes through all combinations of the defined flags, with
// and without a record to continue, and through each undefined flag.
func TestFlagsOfFirstPage(t *testing.T) {
	id := segment.Identity{SystemID: 7, Size: 1 << 20}
	n := segment.Name{Timeline: 3, Number: 9}
	sound := segment.PageHeader{
		Magic: 0xD118, Timeline: 3, Addr: n.Start(id.Size), Long: true, SystemID: 7, SegmentSize: 1 << 20, BlockSize: 8192,
	}
	for info := range uint16(16) {
		for _, remLen := range []uint32{0, 1, 1<<32 - 1} {
			h := sound
			h.Info, h.RemLen = info, remLen
			continued := info&flagContinued != 0
			want := info&flagLong != 0 && continued == (remLen > 0) && !(continued && info&flagAbandoned != 0)
			if err := segment.CheckFirstPage(encodeHeader(h), n, id); (err == nil) != want {
				t.Errorf("flags %#x, %d bytes left: %v", info, remLen, err)
			}
		}
	}
	for bit := 4; bit < 16; bit++ {
		h := sound
		h.Info = flagLong | 1<<bit
		wantCorrupt(t, segment.CheckFirstPage(encodeHeader(h), n, id), n, 0, "unknown flags")
	}
	h := sound
	h.Info, h.Timeline = flagLong, 0
	wantCorrupt(t, segment.CheckFirstPage(encodeHeader(h), n, id), n, 0, "timeline 0")
	for length := range 40 {
		h := sound
		h.Info = flagLong
		wantCorrupt(t, segment.CheckFirstPage(encodeHeader(h)[:length], n, id), n, int64(length), "ends here")
	}
}

func TestCheckRefusesBadIdentity(t *testing.T) {
	n := segment.Name{Timeline: 1, Number: 1}
	var corrupt *segment.CorruptError
	for _, size := range []segment.Size{0, -1, 1 << 19, 3 << 20} {
		id := segment.Identity{Size: size}
		if err := segment.CheckFirstPage(make([]byte, 40), n, id); err == nil || errors.As(err, &corrupt) {
			t.Errorf("first page, size %d: %v", int64(size), err)
		}
		if err := segment.CheckPages(bytes.NewReader(nil), n, id); err == nil || errors.As(err, &corrupt) {
			t.Errorf("all pages, size %d: %v", int64(size), err)
		}
	}
}

// trackedReader notes what is read of a segment and can fail from an offset on.
type trackedReader struct {
	data    []byte
	failAt  int64 // no failure if negative
	err     error
	longest int
	next    int64 // end of the read before
	inOrder bool
}

func (r *trackedReader) ReadAt(p []byte, offset int64) (int, error) {
	r.longest = max(r.longest, len(p))
	r.inOrder = r.inOrder && offset == r.next
	r.next = offset + int64(len(p))
	if r.failAt >= 0 && r.next > r.failAt {
		return 0, r.err
	}
	n := copy(p, r.data[min(offset, int64(len(r.data))):])
	if r.next >= int64(len(r.data)) {
		return n, io.EOF // also with the last whole read, as a ReaderAt may
	}
	return n, nil
}

func TestCheckPagesReadsOnceInBoundedPieces(t *testing.T) {
	n, data := readSample(t, sampleFull)
	r := &trackedReader{data: data, failAt: -1, inOrder: true}
	if err := segment.CheckPages(r, n, sampleID()); err != nil {
		t.Fatal(err)
	}
	if r.longest > 128<<10 || !r.inOrder || r.next != int64(len(data))+1 {
		t.Errorf("longest read %d, in order: %v, up to %d", r.longest, r.inOrder, r.next)
	}
}

func TestReadErrorIsNotCorruption(t *testing.T) {
	n, data := readSample(t, sampleFull)
	broken := errors.New("input/output error")
	for _, at := range []int64{0, 500_000, int64(len(data)) - 1, int64(len(data))} {
		err := segment.CheckPages(&trackedReader{data: data, failAt: at, err: broken}, n, sampleID())
		var corrupt *segment.CorruptError
		if !errors.Is(err, broken) || errors.As(err, &corrupt) {
			t.Errorf("failure at %d: %v", at, err)
		}
	}
}

// TestCheckPagesAllocatesOnce shows that the number of pages costs no memory:
// there is the buffer, and what names the segment on the way.
func TestCheckPagesAllocatesOnce(t *testing.T) {
	n, data := readSample(t, sampleFull)
	r := bytes.NewReader(data)
	allocated := testing.AllocsPerRun(20, func() {
		if err := segment.CheckPages(r, n, sampleID()); err != nil {
			t.Error(err)
		}
	})
	if allocated > 4 {
		t.Errorf("%v allocations for 128 pages", allocated)
	}
}

func BenchmarkCheckPages(b *testing.B) {
	for _, base := range []string{sampleFull, sampleHead} {
		b.Run(base, func(b *testing.B) {
			n, data := readSample(b, base)
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				if err := segment.CheckPages(bytes.NewReader(data), n, sampleID()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// FuzzCheckPages edits bytes of real segments and asks a checker that works
// differently whether the result is sound. Each edit is four bytes: page,
// position in the page, how far the edit reaches, value.
func FuzzCheckPages(f *testing.F) {
	var names []segment.Name
	var originals [][]byte
	for _, base := range allSamples() {
		n, data := readSample(f, base)
		names = append(names, n)
		originals = append(originals, data)
	}
	f.Add(uint8(0), []byte{})
	f.Add(uint8(1), []byte{5, 8, 1, 0xFF})
	f.Add(uint8(2), []byte{8, 2, 1, flagRemovable})
	f.Add(uint8(4), []byte{14, 4, 1, 1, 0, 4, 1, 2})
	f.Add(uint8(5), []byte{127, 255, 1, 1})
	f.Add(uint8(2), []byte{16, 0, 255, 0})
	f.Fuzz(func(t *testing.T, which uint8, edits []byte) {
		i := int(which) % len(names)
		n, data := names[i], slices.Clone(originals[i])
		for ; len(edits) >= 4; edits = edits[4:] {
			p := page(data, int(edits[0])%128)
			for k := range edits[2] {
				p[min(int(edits[1])+int(k), len(p)-1)] = edits[3]
			}
		}
		err := segment.CheckPages(bytes.NewReader(data), n, sampleID())
		if want := soundPages(data, n); (err == nil) != want {
			t.Fatalf("%v; sound: %v", err, want)
		}
		first := segment.CheckFirstPage(data, n, sampleID())
		var corrupt *segment.CorruptError
		switch {
		case err == nil && first != nil:
			t.Errorf("only the first page is wrong: %v", first)
		case err != nil && (!errors.As(err, &corrupt) || corrupt.Offset%sampleBlock != 0 || corrupt.Offset >= int64(sampleSize)):
			t.Errorf("not a corruption of a page: %v", err)
		case err != nil && corrupt.Offset == 0 && (first == nil || first.Error() != err.Error()):
			t.Errorf("the first page is wrong: %v; by itself: %v", err, first)
		}
	})
}

// soundPages decides the same as CheckPages with the whole segment at hand.
func soundPages(data []byte, n segment.Name) bool {
	used := usedPages(data)
	if used == 0 {
		return false
	}
	var headers []segment.PageHeader
	for i := range used {
		h, err := segment.ParsePageHeader(page(data, i))
		if err != nil || h.Addr != n.Start(sampleSize)+segment.LSN(i*sampleBlock) || h.Long != (i == 0) {
			return false
		}
		headers = append(headers, h)
	}
	first := headers[0]
	if first.SystemID != sampleSystem || first.SegmentSize != uint32(sampleSize) || first.BlockSize != sampleBlock {
		return false
	}
	timelines := []segment.TimelineID{1}
	for _, h := range headers {
		timelines = append(timelines, h.Timeline)
		if h.Magic != first.Magic || !soundRecordFlags(h) {
			return false
		}
	}
	return slices.IsSorted(append(timelines, n.Timeline)) && soundContinuations(headers)
}

func soundRecordFlags(h segment.PageHeader) bool {
	switch h.Info &^ (flagLong | flagRemovable) {
	case 0, flagAbandoned:
		return h.RemLen == 0
	case flagContinued:
		return h.RemLen > 0
	}
	return false
}

func soundContinuations(headers []segment.PageHeader) bool {
	for i, h := range headers {
		left := int(h.RemLen) - room(i)
		if left <= 0 || i == int(sampleSize)/sampleBlock-1 {
			continue
		}
		if i == len(headers)-1 {
			return false
		}
		if next := headers[i+1]; int(next.RemLen) != left && next.Info&flagAbandoned == 0 {
			return false
		}
	}
	return true
}
