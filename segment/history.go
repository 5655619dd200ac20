package segment

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// maxHistoryLen bounds what is taken for a history file. A timeline adds a
// line of some sixty bytes, so this leaves room for thousands of promotions.
const maxHistoryLen = 1 << 20

// blank are the bytes that may stand around the fields of a history line.
const blank = " \t\r\v\f"

// History is the line of descent of a timeline: which branches of the log it
// consists of, and where each of them ends. Use [ParseHistory], or a literal
// without entries for a timeline that has no ancestors, which timeline 1 never
// has. The methods rely on the order that ParseHistory has checked.
type History struct {
	Timeline TimelineID
	Entries  []HistoryEntry // the ancestors, oldest first
}

// HistoryEntry says where an ancestor was left: End is the position after its
// last byte, and the first one of the timeline that follows.
type HistoryEntry struct {
	Timeline TimelineID
	End      LSN
	Reason   string // free text of the server, for people
}

// ParseHistory reads the contents of timeline t's history file. The timelines
// in it must increase and be below t. An end that lies behind a later one is
// moved there: PostgreSQL writes such files where a recovery to a point before
// the fork of its target timeline branched off, and reads them as if nothing was
// taken from the timelines in between. A timeline above 1 must have an ancestor: an empty file is what a crash or a
// full disk leaves, and taking it for a history would cut off the past.
func ParseHistory(t TimelineID, data []byte) (History, error) {
	h := History{Timeline: t}
	if err := h.parse(data); err != nil {
		return History{}, fmt.Errorf("history of timeline %d: %w", uint32(t), err)
	}
	return h, nil
}

// Bounds tells which part of timeline t belongs to the history: from begin up
// to, but not including, end. The end of the history's own timeline is open and
// given as [MaxLSN]. ok is false if t is not in the history.
func (h History) Bounds(t TimelineID) (begin, end LSN, ok bool) {
	for _, e := range h.Entries {
		if e.Timeline == t {
			return begin, e.End, true
		}
		begin = e.End
	}
	if t != h.Timeline {
		return 0, 0, false
	}
	return begin, MaxLSN, true
}

// Contains tells whether t is the history's own timeline or an ancestor.
func (h History) Contains(t TimelineID) bool {
	_, _, ok := h.Bounds(t)
	return ok
}

// Continues tells whether the history agrees with that of one of its ancestors
// about all that came before it.
func (h History) Continues(ancestor History) bool {
	i := slices.IndexFunc(h.Entries, func(e HistoryEntry) bool { return e.Timeline == ancestor.Timeline })
	if i < 0 {
		return false
	}
	left := h.Entries[i].End // which may be before the ancestor began
	return slices.EqualFunc(h.Entries[:i], ancestor.Entries, func(ours, theirs HistoryEntry) bool {
		return ours.Timeline == theirs.Timeline && ours.End == min(theirs.End, left)
	})
}

// TimelineAt is the timeline that the byte at l was written on. The byte at a
// fork belongs to the newer one.
func (h History) TimelineAt(l LSN) TimelineID {
	for _, e := range h.Entries {
		if l < e.End {
			return e.Timeline
		}
	}
	return h.Timeline
}

// Segment lists the timelines of the history that have at least one byte in a
// segment, oldest first. There is always one; there are more if forks lie in
// the segment. A timeline that ends where the segment begins does not reach
// into it.
func (h History) Segment(number uint64, s Size) []TimelineID {
	var timelines []TimelineID
	first := s.Start(number)
	last := first + LSN(s-1)
	begin := LSN(0)
	for _, e := range h.Entries {
		if begin <= last && e.End > first && e.End > begin {
			timelines = append(timelines, e.Timeline)
		}
		begin = e.End
	}
	if begin <= last {
		timelines = append(timelines, h.Timeline)
	}
	return timelines
}

// parse adds the entries of a history file and checks their order.
func (h *History) parse(data []byte) error {
	if h.Timeline == 0 {
		return errors.New("there is no timeline 0")
	}
	if len(data) > maxHistoryLen {
		return fmt.Errorf("%d bytes are too many, the limit is %d", len(data), maxHistoryLen)
	}
	if i := bytes.IndexByte(data, 0); i >= 0 {
		return fmt.Errorf("zero byte at offset %d", i)
	}
	number := 0
	for line := range strings.SplitSeq(string(data), "\n") {
		number++
		line = strings.Trim(line, blank)
		if line == "" || line[0] == '#' {
			continue
		}
		if err := h.add(line); err != nil {
			return fmt.Errorf("line %d: %w", number, err)
		}
	}
	if len(h.Entries) == 0 && h.Timeline > 1 {
		return errors.New("it names no ancestor")
	}
	for i := len(h.Entries) - 2; i >= 0; i-- {
		h.Entries[i].End = min(h.Entries[i].End, h.Entries[i+1].End)
	}
	return nil
}

// add appends the entry of one line.
func (h *History) add(line string) error {
	e, err := parseHistoryLine(line)
	if err != nil {
		return err
	}
	if e.Timeline >= h.Timeline {
		return fmt.Errorf("timeline %d is not below the file's own", uint32(e.Timeline))
	}
	if last := len(h.Entries) - 1; last >= 0 {
		before := h.Entries[last]
		if e.Timeline <= before.Timeline {
			return fmt.Errorf("timeline %d comes after %d", uint32(e.Timeline), uint32(before.Timeline))
		}
	}
	h.Entries = append(h.Entries, e)
	return nil
}

// parseHistoryLine reads a timeline, the position where it was left, and the
// reason, which may be missing. Like PostgreSQL's own parser it takes any run
// of blanks between them.
func parseHistoryLine(line string) (HistoryEntry, error) {
	digits, rest := cutBlank(line)
	position, reason := cutBlank(rest)
	timeline, err := parseTimeline(digits)
	if err != nil {
		return HistoryEntry{}, err
	}
	end, err := ParseLSN(position)
	if err != nil {
		return HistoryEntry{}, err
	}
	// Cloned, so that the reason does not keep the whole file in memory.
	return HistoryEntry{Timeline: timeline, End: end, Reason: strings.Clone(reason)}, nil
}

// cutBlank splits text at its first run of blanks.
func cutBlank(text string) (before, after string) {
	i := strings.IndexAny(text, blank)
	if i < 0 {
		return text, ""
	}
	return text[:i], strings.TrimLeft(text[i:], blank)
}

// parseTimeline reads a timeline as history files have it: in decimal.
func parseTimeline(digits string) (TimelineID, error) {
	if len(digits) > 0 && len(digits) <= 10 {
		value, ok := parseDecimal(digits)
		if ok && value > 0 && value < 1<<32 {
			return TimelineID(value), nil
		}
	}
	return 0, fmt.Errorf("%q is not a timeline", digits)
}
