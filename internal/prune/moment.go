package prune

import (
	"context"
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

// positionOf finds the segment in which the WAL was at a time, or an earlier one, on all
// timelines that had not ended by then. note says if nothing is later than the time.
func positionOf(ctx context.Context, a *archive.Archive, look archive.Look, t time.Time) (at segment.LSN, note string, err error) {
	size := a.Identity().SegmentSize
	var lines []*line
	for _, b := range look.Chain.Branches {
		lines = append(lines, &line{history: b.History})
	}
	index, err := a.Index(ctx)
	if err != nil {
		index = nil // a cache
	}
	oldest := segment.MaxLSN
	err = a.Infos(ctx, look.Listing, index, func(i archive.SegmentInfo, infoErr error) error {
		oldest = min(oldest, i.Name.Start(size))
		for _, l := range lines {
			if infoErr == nil {
				l.see(i, size, t)
			}
		}
		return nil
	})
	if err != nil {
		return 0, "", fmt.Errorf("look for a time in the archive: %w", err)
	}
	if len(lines) == 0 {
		return 0, "", errNoTimes
	}
	at = segment.MaxLSN
	for _, l := range lines {
		switch {
		case l.later && l.older:
			at = min(at, l.last)
		case l.later:
			at = min(at, oldest)
		}
	}
	newest := lines[len(lines)-1] // it has not ended
	switch {
	case newest.later:
	case !newest.older:
		return 0, "", errNoTimes
	default:
		at = min(at, newest.last)
		note = fmt.Sprintf("no commit on timeline %d is later than %s: the WAL from the last one on stays", uint32(newest.history.Timeline), stamp(t))
	}
	return at, note, nil
}
