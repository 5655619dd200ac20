// Package vfs is the only door to the disk. Everything that must survive a
// crash is written through an [FS], so that tests can put a disk in its place
// that forgets what was not synced ([Mem]) or that fails on demand ([Fault]).
//
// # Durability
//
// Nothing is durable before it was synced, and there are two things to sync:
// the bytes of a file ([File.Sync]) and the entry that gives it a name
// ([FS.SyncDir] of its directory). Create, Link, Rename and Remove change
// entries only in memory until SyncDir returns nil. An error from either sync
// is final: the kernel may have dropped the dirty pages, so a later sync of the
// same file can succeed without the bytes being on disk.
//
// Only the helpers of this package (see publish.go) rename or link a file under
// the name that readers trust; a test of the tree enforces it.
package vfs

import (
	"errors"
	"io"
	"io/fs"
)

// ErrLocked is returned by [FS.Lock] for a directory that another process, or
// another holder in this one, has locked.
var ErrLocked = errors.New("directory is locked")

// FS is a file system as far as walrecv needs one. Names are slash-separated
// paths as the operating system takes them. Errors wrap [fs.ErrNotExist] and
// [fs.ErrExist] where they apply, and name the path. An FS is safe for
// concurrent use.
type FS interface {
	// Create makes a new, empty file for reading and writing. A name that is
	// taken is fs.ErrExist. perm is used as given, whatever the umask.
	Create(name string, perm fs.FileMode) (File, error)

	// OpenRead opens a file for reading; writing to it fails.
	OpenRead(name string) (File, error)

	// OpenWrite opens a file that exists for reading and writing. It never
	// truncates.
	OpenWrite(name string) (File, error)

	// Rename gives a file another name, atomically, replacing what stood
	// there. Not to be called outside of this package: see publish.go.
	Rename(oldName, newName string) error

	// Link gives a file a second name. A name that is taken is fs.ErrExist:
	// of several racing links exactly one wins. Not to be called outside of
	// this package: see publish.go.
	Link(oldName, newName string) error

	// Remove deletes a name.
	Remove(name string) error

	// Mkdir makes one directory; its parent must exist. perm is used as given,
	// whatever the umask.
	Mkdir(name string, perm fs.FileMode) error

	// ReadDir lists a directory in order of the names.
	ReadDir(name string) ([]DirEntry, error)

	// SyncDir makes the entries of a directory durable.
	SyncDir(name string) error

	// Lock takes the exclusive lock of a directory, or fails with ErrLocked at
	// once. It ends with Close, or with the process. It leaves nothing in the
	// directory.
	Lock(name string) (io.Closer, error)
}

// File is an open file. ReadAt and WriteAt may be called concurrently. Close
// does not sync.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer

	// Size is the file's length in bytes.
	Size() (int64, error)

	// Preallocate makes the file at least size bytes long, with real blocks
	// behind the bytes it adds, which read as zeros: a full disk shows here and
	// not later. It never shrinks a file and never touches bytes it has.
	Preallocate(size int64) error

	// Sync makes the file's bytes and length durable, but not its name, and not
	// everywhere its rights: after a crash it can have fewer, by the umask. After
	// an error the state of the file on disk is unknown, for ever.
	Sync() error

	// Writeback makes the system begin to write n bytes from off on to the disk,
	// where it can be told to, so that a later Sync has less to wait for. It is a
	// wish and makes nothing durable; its error says nothing that Sync does not say.
	Writeback(off, n int64) error
}

// DirEntry is one name in a directory.
type DirEntry struct {
	Name string
	Size int64 // bytes; 0 for a directory
	Dir  bool
	ID   FileID // zero for a directory
}

// FileID tells files apart that stand under one name, one after the other: equal
// IDs of a name mean the same file, not written to in between. A new file can have
// the number of one that was deleted, so the other one must have had another name
// or be there still, or else been written at another time.
type FileID struct {
	Inode    uint64
	Modified int64 // in ns since 1970; 0 where there is no clock
}
