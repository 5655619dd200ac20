package pgdata

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
)

// Histories are the history files in a directory.
type Histories struct {
	Sound  []segment.History
	Broken map[segment.TimelineID]error
}

// Histories reads the history files of pg_wal whose timelines are above t, as
// [ReadHistories] does.
func (d *Dir) Histories(t segment.TimelineID) (Histories, error) {
	return ReadHistories(d.FS, d.WAL(""), t)
}

// ReadHistories reads the history files of a directory of WAL whose timelines are
// above t, which are the only ones that can have t as an ancestor. A directory
// that is not there has none.
func ReadHistories(fsys vfs.FS, dir string, t segment.TimelineID) (Histories, error) {
	all := Histories{Broken: map[segment.TimelineID]error{}}
	names, err := vfs.Names(fsys, dir) // there can be thousands
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	if err != nil {
		return all, fmt.Errorf("look for histories: %w", err)
	}
	for _, name := range names {
		timeline, err := segment.ParseHistoryName(name)
		if err != nil || timeline <= t {
			continue
		}
		data, err := vfs.ReadFile(fsys, filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile, which the server does with none that it needs
		}
		if err != nil {
			return all, fmt.Errorf("read a history: %w", err)
		}
		h, err := ParseHistory(timeline, data)
		if err != nil {
			all.Broken[timeline] = err
			continue
		}
		all.Sound = append(all.Sound, h)
	}
	return all, nil
}

// ParseHistory parses a history file that must be whole. The server ends each
// line with a line feed, the last one too: without it the end is missing, and
// with it, perhaps, a part of a number.
func ParseHistory(t segment.TimelineID, data []byte) (segment.History, error) {
	h, err := segment.ParseHistory(t, data)
	if err != nil {
		return h, err
	}
	if len(data) > 0 && data[len(data)-1] != '\n' {
		return segment.History{}, fmt.Errorf("history of timeline %d: the last line does not end", uint32(t))
	}
	return h, nil
}
