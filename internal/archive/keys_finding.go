package archive

import (
	"strconv"
	"strings"

	"github.com/walrecv/walrecv/segment"
)

// parseIndex reads what stands below "index/".
func parseIndex(rest string) (Object, bool) {
	dir, base, _ := strings.Cut(rest, "/")
	base, encrypted := strings.CutSuffix(base, suffixEncrypted)
	base, ok := strings.CutSuffix(base, suffixJSON+suffixZstd)
	names, digest, _ := strings.Cut(base, ".")
	first, last, _ := strings.Cut(names, "-")
	t, okFirst := timelineOf(first)
	u, okLast := timelineOf(last)
	if !ok || !okFirst || !okLast || t != u || dir != t.String() || last < first || !isShortDigest(digest) {
		return Object{}, false
	}
	return Object{Kind: KindIndex, Timeline: t, Segment: first, Last: last, Digest: digest, Encrypted: encrypted}, true
}

// parseGap reads what stands below "gaps/".
func parseGap(file string) (Object, bool) {
	if !segment.IsGapName(file) {
		return Object{}, false
	}
	t, ok := timelineFrom(file[:timelineDigits])
	return Object{Kind: KindGap, Timeline: t, File: file}, ok
}

// parseMark reads what stands below "marks/".
func parseMark(file string) (Object, bool) {
	if !segment.IsMarkName(file) {
		return Object{}, false
	}
	name, _, _ := strings.Cut(file, ".")
	t, ok := timelineOf(name)
	return Object{Kind: KindMark, Timeline: t, Segment: name, File: file}, ok
}

// parseTail reads what stands below "tail/".
func parseTail(rest string) (Object, bool) {
	name, base, _ := strings.Cut(rest, "/")
	t, okName := timelineOf(name)
	base, encrypted := strings.CutSuffix(base, suffixEncrypted)
	base, okSuffix := strings.CutSuffix(base, suffixZstd)
	fromText, toText, _ := strings.Cut(base, "-")
	from, okFrom := parseOffset(fromText)
	to, okTo := parseOffset(toText)
	if !okName || !okSuffix || !okFrom || !okTo || from >= to {
		return Object{}, false
	}
	return Object{Kind: KindTail, Timeline: t, Segment: name, From: from, To: to, Encrypted: encrypted}, true
}

// parseOffset reads an offset in a segment: 8 upper-case hexadecimal digits.
func parseOffset(digits string) (int64, bool) {
	if len(digits) != offsetDigits || strings.Trim(digits, "0123456789ABCDEF") != "" {
		return 0, false
	}
	offset, err := strconv.ParseInt(digits, 16, 64)
	return offset, err == nil && offset <= int64(segment.MaxSize)
}

// offsetDigits is how many digits an offset in a segment has.
const offsetDigits = 8

// timelineDigits is how many digits of a segment's file name are its timeline.
const timelineDigits = 8

// timelineOf is the timeline of the file name of a segment.
func timelineOf(name string) (segment.TimelineID, bool) {
	if !segment.IsSegmentName(name) {
		return 0, false
	}
	return timelineFrom(name[:timelineDigits])
}

// timelineFrom reads hexadecimal digits, which must not be those of 0.
func timelineFrom(digits string) (segment.TimelineID, bool) {
	t, err := strconv.ParseUint(digits, 16, 32)
	return segment.TimelineID(t), err == nil && t != 0
}
