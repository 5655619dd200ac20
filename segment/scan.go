package segment

import (
	"fmt"
	"slices"
	"strings"

	"github.com/walrecv/walrecv/internal/vfs"
)

// CompressedSuffixes are the suffixes of sealed segments that were compressed
// in place, as pg_receivewal and walrecv leave them.
var CompressedSuffixes = []string{".gz", ".lz4", ".zst"}

// File is one segment in a spool directory.
type File struct {
	Name   Name
	Base   string // name of the file in the directory
	Suffix string // "", or one of CompressedSuffixes
	Size   int64  // bytes on disk
	ID     vfs.FileID
}

// Listing is what a spool directory holds, by what the files are. Files of
// other names are left out: set-aside copies, scratch files and whatever else
// an operator keeps there.
type Listing struct {
	Sealed    []File       // complete segments, in order of Name.Compare
	BadSize   []File       // under a complete segment's name, but not of its size
	Partials  []File       // uncompressed partials, in order of Name.Compare
	Histories []TimelineID // ascending
	Gaps      []string     // files that hold a Gap each
	Marks     []string     // files that hold a Mark each
	Live      TimelineID   // being written; 0: none yet
	Scratch   []string     // left-overs of work that a crash ended
}

// Newest is the newest segment that the listing counts as complete.
func (l Listing) Newest() (File, bool) {
	if len(l.Sealed) == 0 {
		return File{}, false
	}
	return l.Sealed[len(l.Sealed)-1], true
}

// scanDir lists a spool directory whose segments are of the given size.
func scanDir(fsys vfs.FS, dir string, size Size) (Listing, error) {
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return Listing{}, fmt.Errorf("list spool: %w", err)
	}
	var l Listing
	l.Sealed = make([]File, 0, len(entries)) // most of them, after a long outage of an archive
	for _, e := range entries {
		if !e.Dir {
			l.add(e, size)
		}
	}
	byName := func(a, b File) int { return a.Name.Compare(b.Name) }
	slices.SortStableFunc(l.Sealed, byName)
	slices.SortStableFunc(l.Partials, byName)
	slices.Sort(l.Histories)
	return l, nil
}

func (l *Listing) add(e vfs.DirEntry, size Size) {
	if strings.HasSuffix(e.Name, scratchSuffix) {
		l.Scratch = append(l.Scratch, e.Name)
		return
	}
	switch {
	case strings.HasSuffix(e.Name, historySuffix):
		if tli, err := ParseHistoryName(e.Name); err == nil {
			l.Histories = append(l.Histories, tli)
		}
		return
	case IsGapName(e.Name):
		l.Gaps = append(l.Gaps, e.Name)
		return
	case IsMarkName(e.Name):
		l.Marks = append(l.Marks, e.Name)
		return
	}
	base, partial := strings.CutSuffix(e.Name, PartialSuffix)
	base, suffix := cutCompressed(base)
	name, err := ParseName(base, size)
	if err != nil {
		return
	}
	f := File{Name: name, Base: e.Name, Suffix: suffix, Size: e.Size, ID: e.ID}
	switch {
	case partial && suffix == "":
		l.Partials = append(l.Partials, f)
	case partial:
		// pg_receivewal compresses partials; walrecv streams the segment again.
	case suffix == "" && e.Size != int64(size):
		l.BadSize = append(l.BadSize, f)
	default:
		l.Sealed = append(l.Sealed, f)
	}
}

func cutCompressed(base string) (rest, suffix string) {
	for _, s := range CompressedSuffixes {
		if rest, ok := strings.CutSuffix(base, s); ok {
			return rest, s
		}
	}
	return base, ""
}
