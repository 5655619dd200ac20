package segment

import (
	"fmt"
	"strconv"
	"strings"
)

// Size is the length of every WAL segment of a cluster, in bytes. The methods
// other than [Size.Valid] and [Size.String] need a valid size.
type Size int64

// The limits that PostgreSQL sets on the size of a segment.
const (
	MinSize Size = 1 << 20
	MaxSize Size = 1 << 30
)

// Valid says why s cannot be the size of a WAL segment, or nil: it must be a
// power of two from 1 MiB to 1 GiB.
func (s Size) Valid() error {
	if s < MinSize || s > MaxSize || s&(s-1) != 0 {
		return fmt.Errorf("%d bytes is not a WAL segment size: want a power of two from 1 MiB to 1 GiB", int64(s))
	}
	return nil
}

// String gives the size as SHOW wal_segment_size prints it, with MB and GB for
// the binary units: "16MB", "1GB". A size that is no whole number of either is
// printed in bytes, as in "12345B".
func (s Size) String() string {
	switch {
	case s > 0 && s%(1<<30) == 0:
		return strconv.FormatInt(int64(s>>30), 10) + "GB"
	case s > 0 && s%(1<<20) == 0:
		return strconv.FormatInt(int64(s>>20), 10) + "MB"
	default:
		return strconv.FormatInt(int64(s), 10) + "B"
	}
}

// ParseSize reads a size as SHOW wal_segment_size prints it: decimal digits
// and the unit MB or GB. The result is valid.
func ParseSize(text string) (Size, error) {
	digits, unit := text, Size(0)
	if d, ok := strings.CutSuffix(text, "MB"); ok {
		digits, unit = d, 1<<20
	} else if d, ok := strings.CutSuffix(text, "GB"); ok {
		digits, unit = d, 1<<30
	}
	count, ok := parseCount(digits)
	if unit == 0 || !ok {
		return 0, fmt.Errorf("%q is not a WAL segment size: want a number with MB or GB", text)
	}
	s := Size(count) * unit
	if err := s.Valid(); err != nil {
		return 0, fmt.Errorf("segment size %q: %w", text, err)
	}
	return s, nil
}

// Number is the number of the segment that holds the byte at l.
func (s Size) Number(l LSN) uint64 {
	return uint64(l) / uint64(s)
}

// Start is the position of the first byte of a segment.
func (s Size) Start(number uint64) LSN {
	return LSN(number * uint64(s))
}

// Offset is the distance of l from the start of the segment that holds it.
func (s Size) Offset(l LSN) int64 {
	return int64(uint64(l) % uint64(s))
}

// Floor is the start of the segment that holds the byte at l.
func (s Size) Floor(l LSN) LSN {
	return l - LSN(s.Offset(l))
}

// perLog is how many segments share one value of the middle part of a name,
// which counts in steps of 4 GiB.
func (s Size) perLog() uint64 {
	return 1 << 32 / uint64(s)
}

// parseCount reads one to four decimal digits without a leading zero: 1024 MB
// is the greatest number that can stand in a segment size.
func parseCount(digits string) (uint64, bool) {
	if len(digits) == 0 || len(digits) > 4 || digits[0] == '0' {
		return 0, false
	}
	return parseDecimal(digits)
}

// parseDecimal reads decimal digits and nothing else. The caller has limited
// their number so that the value cannot overflow.
func parseDecimal(digits string) (uint64, bool) {
	var value uint64
	for i := range len(digits) {
		c := digits[i]
		if c < '0' || c > '9' {
			return 0, false
		}
		value = value*10 + uint64(c-'0')
	}
	return value, true
}
