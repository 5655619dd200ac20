package extract

import (
	"fmt"
	"strings"
)

// NotEmptyError says that a directory has something in it. It was left alone.
type NotEmptyError struct {
	Dir     string
	Example string // the name of something in it
}

func (e *NotEmptyError) Error() string {
	text := fmt.Sprintf("the directory %s is not empty: it has %q", e.Dir, e.Example)
	if e.Example == "lost+found" {
		text += ", as the root of a file system has; use a directory in it"
	}
	return text
}

// MappingError says that a tablespace mapping does not fit the backup.
type MappingError struct {
	Old       string   // the path that is mapped
	Locations []string // where the backup's tablespaces are
}

func (e *MappingError) Error() string {
	if len(e.Locations) == 0 {
		return fmt.Sprintf("no tablespace is at %q: the backup has none", e.Old)
	}
	return fmt.Sprintf("no tablespace is at %q: they are at %s", e.Old, strings.Join(e.Locations, ", "))
}

// PlaceError says that a directory lies where it must not.
type PlaceError struct{ text string }

func (e *PlaceError) Error() string { return e.text }

// diskError is what the disk of this host fails with: nothing that the archive could
// do better.
type diskError struct{ err error }

func (e *diskError) Error() string { return e.err.Error() }
func (e *diskError) Unwrap() error { return e.err }
