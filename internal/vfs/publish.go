package vfs

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
)

// ErrOldNameStays is returned by [Link] and [WriteNew] when everything is
// durable under the new name and only the old name could not be removed.
var ErrOldNameStays = errors.New("published, but the old name stays")

// scratchSuffix ends the names of files that are being written and that no
// reader trusts. Whoever finds one at a start may remove it.
const scratchSuffix = ".tmp"

// Rename publishes a file under newName, replacing what stood there. f is the
// open file behind oldName; nil says that its content is known to be synced.
// f stays open.
//
// Order: sync f; rename; sync the directory of newName, then that of oldName
// if it is another one. So newName never stands for content that is not
// durable, and after a crash it is what it was or the whole file.
//
// nil: newName is durable and oldName is gone for good; if both were names of
// one file already, rename(2) does nothing and oldName stays. An error before
// the rename leaves both names as they were. After an error of a directory's
// sync newName already is the new file, but a crash may undo it; calling again
// cannot repair that, the sync is final.
func Rename(fsys FS, f File, oldName, newName string) error {
	if err := syncFile(f); err != nil {
		return err
	}
	if err := fsys.Rename(oldName, newName); err != nil {
		return err
	}
	newDir, oldDir := filepath.Dir(newName), filepath.Dir(oldName)
	if err := fsys.SyncDir(newDir); err != nil {
		return err
	}
	if oldDir == newDir {
		return nil
	}
	return fsys.SyncDir(oldDir)
}

// Move gives a file another name, replacing what stood there, for who does not need
// that name to survive a crash. f is synced before, unless it is nil: so if a crash
// leaves the new name, it stands for the whole file.
func Move(fsys FS, f File, oldName, newName string) error {
	if err := syncFile(f); err != nil {
		return err
	}
	return fsys.Rename(oldName, newName)
}

// Link publishes a file under newName unless that name is taken, and removes
// oldName. f is the open file behind oldName; nil says that its content is
// known to be synced. f stays open.
//
// Order: sync f; link; sync the directory of newName; remove oldName. The
// removal is not synced: a crash may bring oldName back, as a second name of
// the same file.
//
// nil: newName is durable and oldName is removed.
// An error that is [fs.ErrExist]: the name was taken, by a file whose name is
// durable now; oldName stays for the caller to remove.
// An error that is [ErrOldNameStays]: newName is durable all the same.
// Any other error: newName may or may not be there, and may or may not survive
// a crash; oldName stays.
func Link(fsys FS, f File, oldName, newName string) error {
	if err := LinkKeep(fsys, f, oldName, newName); err != nil {
		return err
	}
	if err := fsys.Remove(oldName); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrOldNameStays, err)
	}
	return nil
}

// LinkKeep is [Link] without the removal: on nil the file durably has both
// names. It sets a file aside before another one is renamed over its old name.
//
// Order: sync f; link; sync the directory of newName, also when the name was
// taken, so that fs.ErrExist says that the name is durable.
func LinkKeep(fsys FS, f File, oldName, newName string) error {
	if err := syncFile(f); err != nil {
		return err
	}
	linkErr := fsys.Link(oldName, newName)
	if linkErr != nil && !errors.Is(linkErr, fs.ErrExist) {
		return linkErr
	}
	// The winner of a race may not have come to its own sync yet. An error
	// here hides fs.ErrExist: the caller must not rely on the name.
	if err := fsys.SyncDir(filepath.Dir(newName)); err != nil {
		return err
	}
	return linkErr
}

// WriteFile durably replaces the content of a small file, or makes it: after a
// crash the file is the old one or the new one, and the new one on nil.
//
// Order: remove a stale name+".tmp"; write and sync a new one; then as [Rename].
//
// Only one call for a name may run at a time, over all processes: two would
// share the scratch file. After an error the scratch file may be left.
func WriteFile(fsys FS, name string, perm fs.FileMode, data []byte) error {
	scratch := name + scratchSuffix
	if err := fsys.Remove(scratch); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return writeScratch(fsys, scratch, perm, data, func(f File) error {
		return Rename(fsys, f, scratch, name)
	})
}

// WriteNew durably makes a small file whose name must be free: fs.ErrExist if
// it is taken, by a file whose name is durable then. Of several racing calls,
// in any number of processes, exactly one wins.
//
// Order: write and sync a scratch file of a name of its own, which starts with
// name and ends in ".tmp"; then as [Link]. A crash can leave the scratch file;
// an error removes it if that is possible.
func WriteNew(fsys FS, name string, perm fs.FileMode, data []byte) error {
	// Racing calls must not share a scratch file: one could publish what the
	// other has half written.
	scratch := name + "." + rand.Text() + scratchSuffix
	return writeScratch(fsys, scratch, perm, data, func(f File) error {
		return Link(fsys, f, scratch, name)
	})
}

// writeScratch makes the file scratch and calls publish with it, which has to
// sync it. After an error it removes scratch.
func writeScratch(fsys FS, scratch string, perm fs.FileMode, data []byte, publish func(File) error) error {
	f, err := fsys.Create(scratch, perm)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(data, 0); err == nil {
		err = publish(f)
	}
	// All that counts was synced, so an error of Close tells nothing.
	f.Close()
	if err != nil && !errors.Is(err, ErrOldNameStays) {
		// Best effort: the error to report is the first one.
		_ = fsys.Remove(scratch)
	}
	return err
}

func syncFile(f File) error {
	if f == nil {
		return nil
	}
	return f.Sync()
}

// MkdirAll makes the directories of path, a slash-separated path as
// [fs.ValidPath] has it, below root, which must exist. On nil all of them are
// durable, also those that were there: who made them may have ended before its
// sync. That costs a sync per level, so callers remember what they made.
//
// Order: for each level, make it, then sync its parent.
func MkdirAll(fsys FS, root, path string, perm fs.FileMode) error {
	if !fs.ValidPath(path) {
		return &fs.PathError{Op: "mkdir", Path: path, Err: fs.ErrInvalid}
	}
	if path == "." {
		return nil
	}
	existed := false
	dir := root
	for elem := range strings.SplitSeq(path, "/") {
		parent := dir
		dir = filepath.Join(parent, elem)
		err := fsys.Mkdir(dir, perm)
		existed = errors.Is(err, fs.ErrExist)
		if err != nil && !existed {
			return err
		}
		if err := fsys.SyncDir(parent); err != nil {
			return err
		}
	}
	if !existed {
		return nil
	}
	// What is there might be a file; only a directory can be synced as one.
	return fsys.SyncDir(dir)
}

// ReadFile reads a whole file. The caller knows that it is small.
func ReadFile(fsys FS, name string) ([]byte, error) {
	f, err := fsys.OpenRead(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	data := make([]byte, size)
	_, err = io.ReadFull(io.NewSectionReader(f, 0, size), data)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, &fs.PathError{Op: "read", Path: name, Err: io.ErrUnexpectedEOF}
	}
	if err != nil {
		return nil, err
	}
	return data, nil
}

// namer is an FS that can do [Names] faster.
type namer interface {
	names(dir string) ([]string, error)
}

// Names lists the names in a directory, in order, for who needs nothing but these:
// ReadDir looks at every file.
func Names(fsys FS, dir string) ([]string, error) {
	if f, ok := fsys.(namer); ok {
		return f.names(dir)
	}
	entries, err := fsys.ReadDir(dir)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name)
	}
	return names, err
}

// chooser is an FS that can do [ReadDirOf] faster.
type chooser interface {
	readDirOf(dir string, wanted func(name string) bool) ([]DirEntry, error)
}

// ReadDirOf is ReadDir of some names only, for who wants few of many: no other file is
// looked at.
func ReadDirOf(fsys FS, dir string, wanted func(name string) bool) ([]DirEntry, error) {
	if f, ok := fsys.(chooser); ok {
		return f.readDirOf(dir, wanted)
	}
	entries, err := fsys.ReadDir(dir)
	return slices.DeleteFunc(entries, func(e DirEntry) bool { return !wanted(e.Name) }), err
}

// Exists tells whether a file of that name is there. That its name survives a
// crash is not said: see [FS.SyncDir]. A directory is an error.
func Exists(fsys FS, name string) (bool, error) {
	f, err := fsys.OpenRead(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, f.Close()
}
