package prune

import (
	"errors"
	"fmt"
	"time"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/segment"
)

// errNoTimes says that a time cannot be found in the WAL.
var errNoTimes = errors.New("the archive does not tell when anything was committed in it (encrypted segments need --decrypt-with); give a position or a segment instead of a time")

// line is the way to the end of a timeline, on which a time is looked for. Where the
// WAL is at some time lies behind the last commit before it, and before the first one
// after it. On an idle server that is far apart.
type line struct {
	history segment.History

	last  segment.LSN // start of the segment with the last commit before
	older bool        // last is known
	later bool        // there is a commit after it
}

// moment looks for a time in an archive.
type moment struct {
	size   segment.Size
	time   time.Time
	lines  []*line     // to the ends of all timelines; that of the newest is the last
	oldest segment.LSN // start of the oldest segment
}

func newMoment(look archive.Look, size segment.Size, t time.Time) *moment {
	m := &moment{size: size, time: t, oldest: segment.MaxLSN}
	for _, b := range look.Chain.Branches {
		m.lines = append(m.lines, &line{history: b.History})
	}
	return m
}

// see looks at a segment, of which err may say that nothing is known.
func (m *moment) see(i archive.SegmentInfo, err error) {
	m.oldest = min(m.oldest, i.Name.Start(m.size))
	for _, l := range m.lines {
		if err == nil {
			l.see(i, m.size, m.time)
		}
	}
}

// see looks at a segment. They come by timeline, and on each in order: so do those that
// lie on the line.
func (l *line) see(i archive.SegmentInfo, size segment.Size, t time.Time) {
	reach := l.history.Segment(i.Name.Number, size)
	if l.later || reach[len(reach)-1] != i.Name.Timeline || !i.Known || i.Summary.LastCommit.IsZero() {
		return
	}
	if i.Summary.LastCommit.After(t) || i.Summary.FirstCommit.After(t) {
		l.later = true
		return
	}
	l.last, l.older = i.Name.Start(size), true
}

// position finds the segment in which the WAL was at the time, or an earlier one, on all
// timelines that had not ended by then. note says if nothing is later than the time.
func (m *moment) position() (at segment.LSN, note string, err error) {
	if len(m.lines) == 0 {
		return 0, "", errNoTimes
	}
	at = segment.MaxLSN
	for _, l := range m.lines {
		switch {
		case l.later && l.older:
			at = min(at, l.last)
		case l.later:
			at = min(at, m.oldest)
		}
	}
	newest := m.lines[len(m.lines)-1] // it has not ended
	switch {
	case newest.later:
	case !newest.older:
		return 0, "", errNoTimes
	default:
		at = min(at, newest.last)
		note = fmt.Sprintf("no commit on timeline %d is later than %s: the WAL from the last one on stays", uint32(newest.history.Timeline), stamp(m.time))
	}
	return at, note, nil
}
