package segment

import (
	"cmp"
	"fmt"
	"strings"
)

// TimelineID names a branch of a cluster's history. It counts from 1; 0 is
// never a timeline.
type TimelineID uint32

// String gives the timeline as it stands in file names: eight upper-case
// hexadecimal digits.
func (t TimelineID) String() string {
	return fmt.Sprintf("%08X", uint32(t))
}

// PartialSuffix ends the name of a segment that is still being written, or
// that stayed unfinished because its timeline ended in it.
const PartialSuffix = ".partial"

const (
	// nameDigits is the length of a segment's file name: three parts of
	// partDigits.
	nameDigits = 3 * partDigits
	partDigits = 8

	historySuffix = ".history"
	backupSuffix  = ".backup"
)

// Name identifies a WAL segment file: the timeline it was written on, and the
// number of the segment, counted from the beginning of the log. Which bytes it
// covers and how its file is called depend on the cluster's [Size].
type Name struct {
	Timeline TimelineID
	Number   uint64
}

// Format is the file name of the segment: 24 upper-case hexadecimal digits.
func (n Name) Format(s Size) string {
	per := s.perLog()
	return fmt.Sprintf("%08X%08X%08X", uint32(n.Timeline), n.Number/per, n.Number%per)
}

// Start is the position of the segment's first byte.
func (n Name) Start(s Size) LSN {
	return s.Start(n.Number)
}

// End is the position after the segment's last byte, which is the start of the
// next one. The very last segment of the address space ends at [MaxLSN].
func (n Name) End(s Size) LSN {
	start := s.Start(n.Number)
	if end := start + LSN(s); end > start {
		return end
	}
	return MaxLSN
}

// Next names the segment that follows on the same timeline.
func (n Name) Next() Name {
	return Name{Timeline: n.Timeline, Number: n.Number + 1}
}

// Compare orders segments by their place in the log first, and by timeline
// only among those that begin at the same position. Ordering by timeline first
// would put the tail of an old branch before the beginning of a newer one. The
// result is negative, zero or positive, as for [cmp.Compare].
func (n Name) Compare(m Name) int {
	if c := cmp.Compare(n.Number, m.Number); c != 0 {
		return c
	}
	return cmp.Compare(n.Timeline, m.Timeline)
}

// ParseName reads the file name of a segment. It must be exactly 24 upper-case
// hexadecimal digits, its timeline must not be 0, and its last part must be
// one that exists with segments of this size. Suffixes are not cut off.
func ParseName(text string, s Size) (Name, error) {
	if err := s.Valid(); err != nil {
		return Name{}, err
	}
	timeline, logPart, last, ok := splitName(text)
	if !ok {
		return Name{}, fmt.Errorf("%q is not a WAL segment name", text)
	}
	if timeline == 0 {
		return Name{}, fmt.Errorf("WAL segment name %q has timeline 0", text)
	}
	if uint64(last) >= s.perLog() {
		return Name{}, fmt.Errorf("WAL segment name %q does not exist with segments of %s", text, s)
	}
	number := uint64(logPart)*s.perLog() + uint64(last)
	return Name{Timeline: TimelineID(timeline), Number: number}, nil
}

// IsSegmentName tells whether text has the shape of a segment's file name: 24
// upper-case hexadecimal digits and nothing else. It is for places that do not
// know the size of the segments; [ParseName] refuses some of these names.
func IsSegmentName(text string) bool {
	_, _, _, ok := splitName(text)
	return ok
}

// IsBackupHistoryName tells whether text has the shape of the file that a
// server archives after a base backup: a segment name, a dot, the offset in
// the segment as eight upper-case hexadecimal digits, and ".backup".
func IsBackupHistoryName(text string) bool {
	text, ok := strings.CutSuffix(text, backupSuffix)
	if !ok {
		return false
	}
	name, offset, ok := strings.Cut(text, ".")
	if !ok || !IsSegmentName(name) || len(offset) != partDigits {
		return false
	}
	_, ok = parseHex(offset)
	return ok
}

// HistoryName is the name of a timeline's history file, as in
// "00000002.history".
func HistoryName(t TimelineID) string {
	return t.String() + historySuffix
}

// ParseHistoryName reads the name of a timeline history file: eight upper-case
// hexadecimal digits that are not all zero, and ".history".
func ParseHistoryName(text string) (TimelineID, error) {
	digits, ok := strings.CutSuffix(text, historySuffix)
	if !ok || len(digits) != partDigits {
		return 0, fmt.Errorf("%q is not the name of a timeline history file", text)
	}
	timeline, ok := parseHex(digits)
	if !ok || timeline == 0 {
		return 0, fmt.Errorf("%q is not the name of a timeline history file", text)
	}
	return TimelineID(timeline), nil
}

// splitName reads the three parts of a segment's file name.
func splitName(text string) (timeline, logPart, last uint32, ok bool) {
	if len(text) != nameDigits {
		return 0, 0, 0, false
	}
	timeline, ok1 := parseHex(text[:partDigits])
	logPart, ok2 := parseHex(text[partDigits : 2*partDigits])
	last, ok3 := parseHex(text[2*partDigits:])
	return timeline, logPart, last, ok1 && ok2 && ok3
}
