package push

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/walrecv/walrecv/segment"
)

// kind is what a server archives.
type kind int

const (
	sealed  kind = iota // a segment, by its name a complete one
	partial             // the last segment of a timeline that has ended
	history             // where a timeline came from
	backup              // what a base backup left
)

// file is what the name of a file says.
type file struct {
	base     string
	kind     kind
	timeline segment.TimelineID
	segment  string // file name of the segment; "" for a history
}

// parseFile reads the name of a file that a server archives.
func parseFile(base string) (file, error) {
	if t, err := segment.ParseHistoryName(base); err == nil {
		return file{base: base, kind: history, timeline: t}, nil
	}
	f := file{base: base, kind: sealed, segment: base}
	switch name, isPartial := strings.CutSuffix(base, segment.PartialSuffix); {
	case isPartial:
		f.kind, f.segment = partial, name
	case segment.IsBackupHistoryName(base):
		f.kind = backup
		f.segment, _, _ = strings.Cut(base, ".")
	}
	if !segment.IsSegmentName(f.segment) {
		return file{}, fmt.Errorf("%q: %w", base, ErrNotWAL)
	}
	const digits = 8
	t, err := strconv.ParseUint(f.segment[:digits], 16, 32)
	if err != nil || t == 0 {
		return file{}, fmt.Errorf("%q has timeline 0: %w", base, ErrNotWAL)
	}
	f.timeline = segment.TimelineID(t)
	return f, nil
}
