package segment_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"pgregory.net/rapid"

	"github.com/walrecv/walrecv/segment"
)

// The flags of a page header.
const (
	flagContinued = 1
	flagLong      = 2
	flagRemovable = 4
	flagAbandoned = 8
)

// encodeHeader writes a page header as a little-endian server does.
func encodeHeader(h segment.PageHeader) []byte {
	return appendHeader(nil, h, binary.LittleEndian)
}

func appendHeader(b []byte, h segment.PageHeader, order binary.AppendByteOrder) []byte {
	b = order.AppendUint16(b, h.Magic)
	b = order.AppendUint16(b, h.Info)
	b = order.AppendUint32(b, uint32(h.Timeline))
	b = order.AppendUint64(b, uint64(h.Addr))
	b = order.AppendUint32(b, h.RemLen)
	b = order.AppendUint32(b, 0)
	if !h.Long {
		return b
	}
	b = order.AppendUint64(b, h.SystemID)
	b = order.AppendUint32(b, h.SegmentSize)
	return order.AppendUint32(b, h.BlockSize)
}

func TestParsePageHeader(t *testing.T) {
	long := []byte{
		0x10, 0xD1, 0x07, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x60, 0x74, 0x16, 0x00, 0x00, 0x00,
		0xD9, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x53, 0x5D, 0x31, 0x77, 0x9B, 0x07, 0x02, 0xEB,
		0x00, 0x00, 0x10, 0x00, 0x00, 0x20, 0x00, 0x00, 0xFF, 0xFF,
	}
	want := segment.PageHeader{
		Magic: 0xD110, Info: 7, Timeline: 2, Addr: 0x1674600000, RemLen: 217, Long: true,
		SystemID: 0xEB02079B77315D53, SegmentSize: 1 << 20, BlockSize: 8192,
	}
	if got, err := segment.ParsePageHeader(long); err != nil || got != want {
		t.Errorf("long header: %+v, %v; want %+v", got, err, want)
	}
	short := bytes.Clone(long)
	short[2] = 5
	want = segment.PageHeader{Magic: 0xD110, Info: 5, Timeline: 2, Addr: 0x1674600000, RemLen: 217}
	if got, err := segment.ParsePageHeader(short); err != nil || got != want {
		t.Errorf("short header: %+v, %v; want %+v", got, err, want)
	}
	if got, err := segment.ParsePageHeader(short[:24]); err != nil || got != want {
		t.Errorf("short header and no more: %+v, %v; want %+v", got, err, want)
	}
	for _, tooShort := range [][]byte{nil, short[:23], long[:24], long[:39]} {
		if got, err := segment.ParsePageHeader(tooShort); err == nil {
			t.Errorf("%d bytes were read as %+v", len(tooShort), got)
		}
	}
}

func TestMajorOfMagic(t *testing.T) {
	for magic, want := range map[uint16]int{
		0xD097: 10, 0xD098: 11, 0xD101: 12, 0xD106: 13, 0xD10D: 14, 0xD110: 15, 0xD113: 16, 0xD116: 17, 0xD118: 18,
	} {
		if got, known := segment.MajorOfMagic(magic); got != want || !known {
			t.Errorf("%04X is of major %d, %v; want %d", magic, got, known, want)
		}
		if got, known := segment.MajorOfMagic(magic<<8 | magic>>8); known {
			t.Errorf("%04X with its bytes swapped is of major %d", magic, got)
		}
	}
	for _, magic := range []uint16{0, 0xD111, 0xFFFF} {
		if got, known := segment.MajorOfMagic(magic); got != 0 || known {
			t.Errorf("%04X is of major %d, %v", magic, got, known)
		}
	}
}

func TestPageHeaderRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := segment.PageHeader{
			Magic:    rapid.Uint16().Draw(t, "magic"),
			Info:     rapid.Uint16().Draw(t, "info"),
			Timeline: segment.TimelineID(rapid.Uint32().Draw(t, "timeline")),
			Addr:     segment.LSN(rapid.Uint64().Draw(t, "addr")),
			RemLen:   rapid.Uint32().Draw(t, "rem_len"),
		}
		if want.Info&flagLong != 0 {
			want.Long = true
			want.SystemID = rapid.Uint64().Draw(t, "system identifier")
			want.SegmentSize = rapid.Uint32().Draw(t, "segment size")
			want.BlockSize = rapid.Uint32().Draw(t, "block size")
		}
		if got, err := segment.ParsePageHeader(encodeHeader(want)); err != nil || got != want {
			t.Fatalf("%+v became %+v, %v", want, got, err)
		}
	})
}

// FuzzParsePageHeader asserts that a header that is read is written back the
// same, apart from four bytes of padding.
func FuzzParsePageHeader(f *testing.F) {
	f.Add(encodeHeader(segment.PageHeader{Magic: 0xD110, Info: flagContinued, Timeline: 1, Addr: 0x602000, RemLen: 9}))
	f.Add(encodeHeader(segment.PageHeader{Magic: 0xD110, Info: flagLong, Long: true, SystemID: 1, BlockSize: 8192}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, p []byte) {
		h, err := segment.ParsePageHeader(p)
		if err != nil {
			if len(p) >= 40 {
				t.Errorf("%d bytes are said to be too few: %v", len(p), err)
			}
			return
		}
		b := encodeHeader(h)
		want := bytes.Clone(p[:len(b)])
		clear(want[20:24])
		if !bytes.Equal(b, want) {
			t.Errorf("%x was written back as %x", want, b)
		}
	})
}
