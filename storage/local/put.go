package local

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/storage"
)

// Put implements [storage.Store].
func (s *Store) Put(ctx context.Context, key string, src storage.Source) error {
	scratch, f, err := s.begin(ctx, key)
	if err != nil {
		return err
	}
	defer f.Close() // all that counts was synced
	if err := storage.Copy(ctx, io.NewOffsetWriter(f, 0), src); err != nil {
		s.discard(scratch)
		return s.failed("put "+key, err)
	}
	return s.publish(key, scratch, f)
}

// begin makes the scratch file of an object.
func (s *Store) begin(ctx context.Context, key string) (scratch string, f vfs.File, err error) {
	if err := check(ctx, key); err != nil {
		return "", nil, err
	}
	what, dir := "put "+key, path.Dir(key)
	if err := s.makeDir(dir); err != nil {
		return "", nil, s.failed(what, err)
	}
	// Saves writing it all where that would be for nothing.
	taken, err := s.taken(key)
	if err != nil {
		return "", nil, err
	}
	if taken {
		return "", nil, s.refuse(key)
	}
	scratch, f, err = s.createScratch(dir)
	if err != nil {
		return "", nil, s.failed(what, err)
	}
	return scratch, f, nil
}

// publish gives a scratch file its key, or removes it.
func (s *Store) publish(key, scratch string, f vfs.File) error {
	err := vfs.Link(s.fsys, f, scratch, s.path(key))
	if err == nil || errors.Is(err, vfs.ErrOldNameStays) {
		return nil
	}
	s.discard(scratch)
	return s.linkFailed(key, err)
}

// discard removes the scratch file of a Put that failed. Where that fails, too,
// Sweep has to do it: the first error is the one that counts.
func (s *Store) discard(scratch string) { _ = s.fsys.Remove(scratch) }

// linkFailed says what an error of publishing a scratch file means.
func (s *Store) linkFailed(key string, err error) error {
	what := "put " + key
	switch {
	case errors.Is(err, fs.ErrExist):
		// Lost a race, against another Put or against the Mkdir of one.
		taken, err := s.taken(key)
		if err != nil {
			return err
		}
		if !taken {
			return fmt.Errorf("%s: was taken, and was deleted at once", what)
		}
		return &fs.PathError{Op: "put", Path: key, Err: fs.ErrExist}
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EOPNOTSUPP),
		errors.Is(err, syscall.ENOTSUP), errors.Is(err, syscall.ENOSYS):
		return fmt.Errorf("%s: %w: %w", what, ErrNoHardLinks, err)
	}
	return s.failed(what, err)
}

// taken reports whether an object has the key. A directory of that name is an
// error: there is no object, and there cannot be one.
func (s *Store) taken(key string) (bool, error) {
	f, err := s.fsys.OpenRead(s.path(key))
	switch {
	case err == nil:
		f.Close() // only looked at
		return true, nil
	case errors.Is(err, syscall.EISDIR):
		return false, fmt.Errorf("put %s: it is a directory of other objects", key)
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	}
	return false, s.failed("put "+key, err)
}

// refuse returns fs.ErrExist for a key that was seen to be taken, once that is
// durable: who linked it may have ended before its sync.
func (s *Store) refuse(key string) error {
	if err := s.fsys.SyncDir(s.path(path.Dir(key))); err != nil {
		return s.failed("put "+key, err)
	}
	return &fs.PathError{Op: "put", Path: key, Err: fs.ErrExist}
}

// Confirm implements [storage.Confirmer]: a name is linked before it is durable.
func (s *Store) Confirm(ctx context.Context, key string) error {
	if _, err := s.Stat(ctx, key); err != nil {
		return err
	}
	if err := s.fsys.SyncDir(s.path(path.Dir(key))); err != nil {
		return s.failed("confirm "+key, err)
	}
	return nil
}

// makeDir makes a directory below the root and its parents, durably. What it
// has made once it takes for granted.
func (s *Store) makeDir(dir string) error {
	s.mu.Lock()
	made := s.made[dir]
	s.mu.Unlock()
	if made {
		return nil
	}
	if err := vfs.MkdirAll(s.fsys, s.root, dir, s.mode.dir()); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.made[dir] = true
	return nil
}

// createScratch makes a scratch file in dir, which was made before. It may be
// gone, with a disk that was replaced, say: then it is made again.
func (s *Store) createScratch(dir string) (name string, f vfs.File, err error) {
	name = path.Join(s.root, dir, scratchName(s.now()))
	f, err = s.fsys.Create(name, s.mode.file())
	if !errors.Is(err, fs.ErrNotExist) {
		return name, f, err
	}
	s.mu.Lock()
	clear(s.made)
	s.mu.Unlock()
	if err := s.makeDir(dir); err != nil {
		return "", nil, err
	}
	f, err = s.fsys.Create(name, s.mode.file())
	return name, f, err
}

// A scratch file is named after the time it was made, so that Sweep can tell
// which ones are old. No key has a "~".
const (
	scratchPrefix = ".~"
	scratchTime   = "20060102T150405Z"
	scratchSuffix = ".tmp"
)

func scratchName(now time.Time) string {
	return scratchPrefix + now.UTC().Format(scratchTime) + "-" + rand.Text() + scratchSuffix
}

// parseScratch returns the time in the name of a scratch file.
func parseScratch(name string) (made time.Time, ok bool) {
	rest, ok := strings.CutPrefix(name, scratchPrefix)
	if !ok || !strings.HasSuffix(rest, scratchSuffix) || len(rest) < len(scratchTime) {
		return time.Time{}, false
	}
	made, err := time.Parse(scratchTime, rest[:len(scratchTime)])
	return made, err == nil
}
