package restore

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
)

// localHistories are the history files in pg_wal.
type localHistories struct {
	sound  []segment.History
	broken map[segment.TimelineID]error
}

// histories reads the history files of pg_wal whose timelines are above t, which
// are the only ones that can have t as an ancestor.
func (d *dataDir) histories(t segment.TimelineID) (localHistories, error) {
	l := localHistories{broken: map[segment.TimelineID]error{}}
	entries, err := d.fsys.ReadDir(d.wal(""))
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return l, fmt.Errorf("look for histories in pg_wal: %w", err)
	}
	for _, e := range entries {
		timeline, err := segment.ParseHistoryName(e.Name)
		if err != nil || timeline <= t {
			continue
		}
		data, err := vfs.ReadFile(d.fsys, d.wal(e.Name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile, which the server does with none that it needs
		}
		if err != nil {
			return l, fmt.Errorf("read a history in pg_wal: %w", err)
		}
		h, err := parseHistory(timeline, data)
		if err != nil {
			l.broken[timeline] = err
			continue
		}
		l.sound = append(l.sound, h)
	}
	return l, nil
}

// parseHistory parses a history file that must be whole. The server ends each
// line with a line feed, the last one too: without it the end is missing, and
// with it, perhaps, a part of a number.
func parseHistory(t segment.TimelineID, data []byte) (segment.History, error) {
	h, err := segment.ParseHistory(t, data)
	if err != nil {
		return h, err
	}
	if len(data) > 0 && data[len(data)-1] != '\n' {
		return segment.History{}, fmt.Errorf("history of timeline %d: the last line does not end", uint32(t))
	}
	return h, nil
}

// hasCopy tells whether pg_wal holds a copy of the asked file that the server
// can read, so that it does not turn to an ancestor's when it is told 1.
func (d *dataDir) hasCopy(r request, system uint64) bool {
	if r.history != 0 {
		data, err := vfs.ReadFile(d.fsys, d.wal(r.file))
		if err != nil {
			return false
		}
		_, err = parseHistory(r.history, data)
		return err == nil
	}
	f, err := d.fsys.OpenRead(d.wal(r.file))
	if err != nil {
		return false
	}
	defer f.Close()
	return soundSegment(f, r.file, system)
}

// soundSegment tells whether a file is a segment of full length with sound
// pages. How many there are does not matter: zeros and pages of an earlier use of
// the file may follow.
func soundSegment(f vfs.File, file string, system uint64) bool {
	length, err := f.Size()
	size := segment.Size(length)
	if err != nil || size.Valid() != nil {
		return false
	}
	n, err := segment.ParseName(file, size)
	if err != nil {
		return false
	}
	end, err := walEnd(f, n, segment.Identity{SystemID: system, Size: size})
	return err == nil && end > 0
}
