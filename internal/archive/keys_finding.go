package archive

import (
	"strconv"
	"strings"

	"github.com/walrecv/walrecv/segment"
)

// parseIndex reads what stands below "index/".
func parseIndex(rest string) (Object, bool) {
	dir, base, _ := strings.Cut(rest, "/")
	base, ok := strings.CutSuffix(base, suffixIndex)
	names, digest, _ := strings.Cut(base, ".")
	first, last, _ := strings.Cut(names, "-")
	t, okFirst := timelineOf(first)
	u, okLast := timelineOf(last)
	if !ok || !okFirst || !okLast || t != u || dir != t.String() || last < first || !isShortDigest(digest) {
		return Object{}, false
	}
	return Object{Kind: KindIndex, Timeline: t, Segment: first, Last: last, Digest: digest}, true
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
