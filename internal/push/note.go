package push

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
)

// noteFile is a file in the data directory that says which archives have taken WAL
// from it. What an archive has taken is gone from pg_wal: one that knows nothing of
// the cluster any more is a disk that is not mounted, or the wrong URL, and must not
// be begun anew. A copy of the data directory has a copy of the note, which is as
// true there.
const noteFile = "walrecv.push.json"

const noteFormat = 1

type noteContent struct {
	Format   int      `json:"format"`
	Archives []string `json:"archives"` // locations
}

// noted tells whether the archive has taken WAL from this data directory.
func (c *call) noted() (bool, error) {
	n, err := c.readNote()
	return slices.Contains(n.Archives, c.o.Location), err
}

// note notes that it does, before the first file of it is confirmed. Without a data
// directory there is nothing to lose that would not be pushed by hand again.
func (c *call) note() error {
	n, err := c.readNote()
	if err != nil || !c.dir.Found || slices.Contains(n.Archives, c.o.Location) {
		return err
	}
	n.Format, n.Archives = noteFormat, append(n.Archives, c.o.Location)
	data, err := json.Marshal(n)
	if err != nil {
		return err
	}
	if err := vfs.WriteFile(c.o.FS, c.dir.File(noteFile), 0o600, append(data, '\n')); err != nil {
		return fmt.Errorf("leave a note in the data directory: %w", err)
	}
	return nil
}

// readNote reads the note. One that makes no sense says nothing, and is replaced.
func (c *call) readNote() (noteContent, error) {
	data, err := vfs.ReadFile(c.o.FS, c.dir.File(noteFile))
	if errors.Is(err, fs.ErrNotExist) {
		return noteContent{}, nil
	}
	if err != nil {
		return noteContent{}, err
	}
	var n noteContent
	if json.Unmarshal(data, &n) != nil || n.Format != noteFormat {
		n = noteContent{}
	}
	return n, nil
}

// lost refuses an archive that has forgotten the cluster.
func (c *call) lost() error {
	return &lostError{fmt.Sprintf("%s has taken WAL from this data directory, and knows nothing of its cluster %d any more: is it mounted, is the URL right? "+
		"If it was emptied on purpose, remove %s", c.o.Location, c.cluster.system, c.dir.File(noteFile))}
}

// lostError is segment.ErrWrongCluster, in other words.
type lostError struct{ text string }

func (e *lostError) Error() string { return e.text }
func (e *lostError) Unwrap() error { return segment.ErrWrongCluster }
