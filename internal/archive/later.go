package archive

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
)

// Later is what an archive held of one segment, of later ones of the same timeline,
// and of later timelines. It is safe for concurrent use.
type Later struct {
	from      segment.Name
	complete  bool                        // the segment
	beyond    bool                        // anything behind the segment on its timeline
	timelines map[segment.TimelineID]bool // those of which anything was found, and whether the history was
}

// Later looks for what the archive holds from a segment on, complete or not. From
// number 0 on, that is all of the timeline, with its history. It takes a few requests
// for every later timeline and does not depend on how much there is. What was there
// when it began, and is still there or has been completed when it ends, is found.
func (a *Archive) Later(ctx context.Context, from segment.Name) (*Later, error) {
	l := &Later{from: from, timelines: map[segment.TimelineID]bool{}}
	file := from.Format(a.id.SegmentSize)
	if from.Number == 0 {
		file = ""
	}
	for _, dir := range laterDirs(a.id.SystemID) {
		err := a.scan(ctx, dir.path, dir.begin(from.Timeline, file), func(key string) string {
			if t, enough := l.add(key, a.id.SegmentSize); enough && t < ^segment.TimelineID(0) {
				return dir.path + (t + 1).String()
			}
			return ""
		})
		if err != nil {
			return nil, fmt.Errorf("list the archive: %w", err)
		}
	}
	return l, nil
}

// A laterDir is where WAL is looked for that comes later.
type laterDir struct {
	path        string
	byTimelines bool
}

// laterDirs are in the order in which WAL moves: what leaves the tail is complete then.
func laterDirs(system uint64) []laterDir {
	return []laterDir{{systemDir(system) + tailDir + "/", false}, {systemDir(system) + walDir + "/", true}}
}

// begin is where the listing of a timeline begins, from the segment with a file name on;
// empty: from its beginning.
func (d laterDir) begin(t segment.TimelineID, file string) string {
	switch {
	case file == "":
		return d.path + t.String()
	case d.byTimelines:
		return d.path + t.String() + "/" + file
	}
	return d.path + file
}

// add adds an object. enough says that nothing more needs to be known of its
// timeline.
func (l *Later) add(key string, size segment.Size) (t segment.TimelineID, enough bool) {
	o, err := ParseKey(key)
	if err != nil || o.Timeline < l.from.Timeline {
		return 0, false
	}
	if o.Kind == KindHistory {
		l.timelines[o.Timeline] = true
		return 0, false
	}
	n, err := segment.ParseName(o.Segment, size)
	if err != nil {
		return 0, false // does not exist with this size of segments
	}
	if _, known := l.timelines[o.Timeline]; !known {
		l.timelines[o.Timeline] = false
	}
	if o.Timeline > l.from.Timeline {
		return o.Timeline, true
	}
	if n == l.from {
		l.complete = l.complete || o.Kind == KindSegment
		return 0, false
	}
	l.beyond = true
	return o.Timeline, true
}

// Timelines lists the timelines of which anything was found, ascending: that of the
// segment, and later ones.
func (l *Later) Timelines() []segment.TimelineID {
	return slices.Sorted(maps.Keys(l.timelines))
}

// HasHistory tells whether the history file of a later timeline is there.
func (l *Later) HasHistory(t segment.TimelineID) bool { return l.timelines[t] }

// Has tells whether the complete segment is there, encrypted or not. It is to be
// asked for the segment that Later was asked for.
func (l *Later) Has(name segment.Name) bool { return name == l.from && l.complete }

// After tells whether anything of a later segment is there on the same timeline: a
// complete segment, a partial, a chunk, or a backup history file. It is to be asked
// for the segment that Later was asked for.
func (l *Later) After(name segment.Name) bool { return name == l.from && l.beyond }

// scan calls see with the keys below prefix that do not come before from. see says
// where to go on, "" at the next key.
func (a *Archive) scan(ctx context.Context, prefix, from string, see func(key string) (next string)) error {
	for from != "" {
		next := ""
		err := storage.ListFrom(ctx, a.store, prefix, from, func(info storage.Info) error {
			if next = see(info.Key); next != "" {
				return errFound
			}
			return nil
		})
		if err != nil && !errors.Is(err, errFound) {
			return err
		}
		from = next
	}
	return nil
}

// tailDir and walDir are where the chunks and the segments stand.
func (a *Archive) tailDir() string { return systemDir(a.id.SystemID) + tailDir + "/" }
func (a *Archive) walDir() string  { return systemDir(a.id.SystemID) + walDir + "/" }
