package segment_test

import (
	"math/bits"
	"testing"

	"pgregory.net/rapid"

	"github.com/walrecv/walrecv/segment"
)

// allSizes are the eleven sizes that a segment can have.
func allSizes() []segment.Size {
	var sizes []segment.Size
	for s := segment.MinSize; s <= segment.MaxSize; s *= 2 {
		sizes = append(sizes, s)
	}
	return sizes
}

func TestSizeValid(t *testing.T) {
	if n := len(allSizes()); n != 11 {
		t.Fatalf("%d sizes; want 11", n)
	}
	for _, s := range allSizes() {
		if err := s.Valid(); err != nil {
			t.Errorf("%d: %v", int64(s), err)
		}
		for _, bad := range []segment.Size{s - 1, s + 1, s * 3, -s} {
			if bad.Valid() == nil {
				t.Errorf("%d is taken as valid", int64(bad))
			}
		}
	}
	for _, bad := range []segment.Size{0, 1, 1 << 19, 1 << 31, -1 << 63} {
		if bad.Valid() == nil {
			t.Errorf("%d is taken as valid", int64(bad))
		}
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]segment.Size{
		"1MB": 1 << 20, "2MB": 1 << 21, "16MB": 1 << 24, "512MB": 1 << 29, "1024MB": 1 << 30, "1GB": 1 << 30,
	} {
		if got, err := segment.ParseSize(text); err != nil || got != want {
			t.Errorf("ParseSize(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "MB", "GB", "16", "16 MB", " 16MB", "16MB ", "16mb", "16MiB", "16M", "+16MB", "-16MB", "016MB",
		"0MB", "3MB", "2GB", "2048MB", "16384kB", "16777216", "16777216B", "1.0GB", "0x10MB", "1MBMB",
		"18446744073709551617MB", "1_6MB", "16MB\x00",
	} {
		if got, err := segment.ParseSize(text); err == nil {
			t.Errorf("ParseSize(%q) = %v; want an error", text, got)
		}
	}
}

func TestSizeString(t *testing.T) {
	for _, s := range allSizes() {
		if got, err := segment.ParseSize(s.String()); err != nil || got != s {
			t.Errorf("%d is written %s and read back as %d, %v", int64(s), s, int64(got), err)
		}
	}
	for s, want := range map[segment.Size]string{
		1 << 20: "1MB", 1 << 24: "16MB", 1 << 30: "1GB", 3 << 20: "3MB", 12345: "12345B", 0: "0B", -1: "-1B",
	} {
		if got := s.String(); got != want {
			t.Errorf("%d is written %s; want %s", int64(s), got, want)
		}
	}
}

// TestSizeLaws ties the four ways of cutting a position to each other.
func TestSizeLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.SampledFrom(allSizes()).Draw(t, "size")
		l := drawLSN(t, s)
		number, offset := s.Number(l), s.Offset(l)
		if offset < 0 || offset >= int64(s) {
			t.Fatalf("offset %d is outside of the segment", offset)
		}
		if got := s.Start(number) + segment.LSN(offset); got != l {
			t.Fatalf("segment %d and offset %d make %v", number, offset, got)
		}
		if got := s.Floor(l); got != s.Start(number) || s.Offset(got) != 0 || s.Number(got) != number {
			t.Fatalf("the floor %v is not the start of segment %d", got, number)
		}
		if want := uint64(l) >> bits.TrailingZeros64(uint64(s)); number != want {
			t.Fatalf("number %d; want %d", number, want)
		}
	})
}

// drawLSN picks any position, or one within two bytes of a segment's border,
// preferably where the middle part of the name changes.
func drawLSN(t *rapid.T, s segment.Size) segment.LSN {
	if rapid.Bool().Draw(t, "anywhere") {
		return segment.LSN(rapid.Uint64().Draw(t, "lsn"))
	}
	near := segment.LSN(rapid.Uint64Range(0, 4).Draw(t, "near")) - 2
	if rapid.Bool().Draw(t, "at 4 GiB") {
		return segment.LSN(rapid.Uint64Range(0, 1<<32-1).Draw(t, "log"))<<32 + near
	}
	number := rapid.Uint64Range(0, uint64(segment.MaxLSN)/uint64(s)).Draw(t, "number")
	return s.Start(number) + near
}
