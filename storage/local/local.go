// Package local is a [storage.Store] in a directory. The path of an object
// below the directory is its key, and its bytes are those of the file.
//
// An object is written to a scratch file, synced, and linked to its name, which
// fails if the name is taken; then the directory is synced. So nobody ever sees
// a part of an object, also on a network file system that several hosts use,
// and no object is ever replaced. The file system must support hard links.
//
// The name of a scratch file has a character that no key has. Crashed writers
// leave such files; [Store.Sweep] removes them.
package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/storage"
)

// ErrNoHardLinks says that the file system of the store is of no use for it.
var ErrNoHardLinks = errors.New("the archive's file system must support hard links")

// Mode says who may read the archive. It is not subject to the umask.
type Mode int

const (
	// Private lets only the owner in: files 0600, directories 0700.
	Private Mode = iota
	// GroupRead lets the group read: files 0640, directories 0750.
	GroupRead
)

func (m Mode) file() fs.FileMode {
	if m == GroupRead {
		return 0o640
	}
	return 0o600
}

func (m Mode) dir() fs.FileMode {
	if m == GroupRead {
		return 0o750
	}
	return 0o700
}

// Store is a [storage.Store], a [storage.Deleter] and a [storage.Creator]. It is safe for concurrent
// use, also beside other processes on the same directory.
type Store struct {
	fsys vfs.FS
	root string
	mode Mode
	now  func() time.Time

	mu   sync.Mutex
	made map[string]bool // directories that are durable, parents included
}

var (
	_ storage.Store   = (*Store)(nil)
	_ storage.Deleter = (*Store)(nil)
	_ storage.Creator = (*Store)(nil)
)

// New returns the store in the directory root, which is looked at by the calls
// of the store only: each of them fails with [storage.ErrNoRoot] while it is missing.
// The store never makes it.
func New(fsys vfs.FS, root string, mode Mode) *Store {
	return &Store{fsys: fsys, root: root, mode: mode, now: time.Now, made: map[string]bool{}}
}

// Open implements [storage.Store]. The body implements [io.ReaderAt].
func (s *Store) Open(ctx context.Context, key string) (io.ReadCloser, storage.Info, error) {
	f, info, err := s.open(ctx, "open", key)
	if err != nil {
		return nil, storage.Info{}, err
	}
	return &body{ctx: ctx, file: f, info: info}, info, nil
}

// Stat implements [storage.Store].
func (s *Store) Stat(ctx context.Context, key string) (storage.Info, error) {
	f, info, err := s.open(ctx, "stat", key)
	if err != nil {
		return storage.Info{}, err
	}
	f.Close() // only looked at
	return info, nil
}

// Delete implements [storage.Deleter]. On nil the absence is durable.
func (s *Store) Delete(ctx context.Context, key string) error {
	what, dir := "delete "+key, path.Dir(key)
	_, err := s.Stat(ctx, key) // what is a directory must not be removed
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil {
		err = s.fsys.Remove(s.path(key))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s.failed(what, err)
	}
	// Also if it was absent: who removed it may not have come to its sync.
	err = s.fsys.SyncDir(s.path(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return s.prove(what, dir)
	}
	if err != nil {
		return s.failed(what, err)
	}
	return nil
}

// open opens the file of an object. Only a proven absence is fs.ErrNotExist.
func (s *Store) open(ctx context.Context, op, key string) (vfs.File, storage.Info, error) {
	if err := check(ctx, key); err != nil {
		return nil, storage.Info{}, err
	}
	what := op + " " + key
	f, err := s.fsys.OpenRead(s.path(key))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.EISDIR) {
		if err := s.prove(what, path.Dir(key)); err != nil {
			return nil, storage.Info{}, err
		}
		return nil, storage.Info{}, &fs.PathError{Op: op, Path: key, Err: fs.ErrNotExist}
	}
	if err != nil {
		return nil, storage.Info{}, s.failed(what, err)
	}
	size, err := f.Size()
	if err != nil {
		f.Close() // only looked at
		return nil, storage.Info{}, s.failed(what, err)
	}
	return f, storage.Info{Key: key, Size: size}, nil
}

// prove returns nil if it is certain that a name not found in dir was not
// there: the root can be listed, and so can what leads from there to the first
// directory that is missing, if any is. A link that leads nowhere is not a
// missing directory: the disk behind it may not be mounted.
func (s *Store) prove(what, dir string) error {
	entries, err := s.fsys.ReadDir(s.root)
	if err != nil {
		return s.failed(what, err)
	}
	at, last := s.root, s.path(dir)
	for elem := range strings.SplitSeq(strings.TrimSuffix(dir, "/"), "/") {
		if elem == "." || elem == "" {
			break // dir is the root
		}
		i := slices.IndexFunc(entries, func(e vfs.DirEntry) bool { return e.Name == elem })
		if i < 0 {
			return nil
		}
		at = path.Join(at, elem)
		if entries[i].Dir && at == last {
			return nil // its own entries, which can be many, tell nothing new
		}
		if entries, err = s.fsys.ReadDir(at); err != nil {
			return s.failed(what, err)
		}
	}
	return nil
}

// failed returns the error of a call that has found out nothing. Where the
// reason is that the root is not there, it says so.
func (s *Store) failed(what string, err error) error {
	missing := func(err error) bool {
		return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
	}
	if errors.Is(err, storage.ErrNoRoot) {
		return err
	}
	if missing(err) {
		_, rootErr := s.fsys.ReadDir(s.root)
		switch {
		case errors.Is(rootErr, syscall.ENOTDIR):
			return fmt.Errorf("%s: %w: %s is no directory", what, storage.ErrNoRoot, s.root)
		case missing(rootErr):
			return fmt.Errorf("%s: %w: %s", what, storage.ErrNoRoot, s.root)
		}
	}
	return storage.Unknown(what, err)
}

func (s *Store) path(key string) string { return path.Join(s.root, key) }

// lostFound is a directory that file systems make in their root, which may be
// the store's, and that only root may read.
const lostFound = "lost+found"

func check(ctx context.Context, key string) error {
	if err := storage.CheckKey(key); err != nil {
		return err
	}
	if key == lostFound || strings.HasPrefix(key, lostFound+"/") {
		return fmt.Errorf("storage key %q: belongs to the file system", key)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}
