package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/storage"
)

// List implements [storage.Store]. It holds the entries of one directory of
// each level in memory.
func (s *Store) List(ctx context.Context, prefix string, fn func(storage.Info) error) error {
	if err := storage.CheckPrefix(prefix); err != nil {
		return err
	}
	dir, start := path.Split(prefix)
	return s.list(ctx, dir, start, "", fn)
}

var _ storage.FromLister = (*Store)(nil)

// ListFrom implements [storage.FromLister]. It reads no directory that lies wholly
// before from.
func (s *Store) ListFrom(ctx context.Context, prefix, from string, fn func(storage.Info) error) error {
	if err := storage.CheckPrefix(prefix); err != nil {
		return err
	}
	dir, start := path.Split(prefix)
	return s.list(ctx, dir, start, from, fn)
}

// list lists what is below dir, which is empty or ends at a slash, and has a
// name that begins with start and a key that does not come before from.
func (s *Store) list(ctx context.Context, dir, start, from string, fn func(storage.Info) error) error {
	entries, err := s.readDir(ctx, dir, func(name string) bool { // as a directory it comes later than as a file
		return strings.HasPrefix(name, start) && !foreign(dir, name) && !comesBefore(dir+name+"/", from)
	})
	if err != nil {
		return err
	}
	entries = slices.DeleteFunc(entries, func(e vfs.DirEntry) bool { return comesBefore(dir+sortName(e), from) })
	slices.SortFunc(entries, func(a, b vfs.DirEntry) int {
		return strings.Compare(sortName(a), sortName(b))
	})
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("list %s: %w", dir, err)
		}
		if e.Dir {
			err = s.list(ctx, dir+e.Name+"/", "", from, fn)
		} else {
			err = fn(storage.Info{Key: dir + e.Name, Size: e.Size, Modified: modified(e)})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// modified is when a file was last written to: not when it got its name.
func modified(e vfs.DirEntry) time.Time {
	if e.ID.Modified == 0 {
		return time.Time{}
	}
	return time.Unix(0, e.ID.Modified).UTC()
}

// comesBefore tells whether an entry, by its path as it sorts, comes before a key
// with all that is below it.
func comesBefore(entry, key string) bool {
	below := strings.HasSuffix(entry, "/") && strings.HasPrefix(key, entry)
	return entry < key && !below
}

// sortName is what the keys below an entry compare by among the entries of its
// directory: "a-b" comes before "a/b", and so before the directory "a".
func sortName(e vfs.DirEntry) string {
	if e.Dir {
		return e.Name + "/"
	}
	return e.Name
}

// foreign reports whether an entry of dir is not of the store: a scratch file,
// for instance, or what the file system has put there.
func foreign(dir, name string) bool {
	return storage.CheckKey(dir+name) != nil || dir == "" && name == lostFound
}

// readDir returns the entries of a directory that are wanted, none if it is proven to be
// absent.
func (s *Store) readDir(ctx context.Context, dir string, wanted func(name string) bool) ([]vfs.DirEntry, error) {
	what := strings.TrimSpace("list " + dir)
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	entries, err := vfs.ReadDirOf(s.fsys, s.path(dir), wanted)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, s.prove(what, dir)
	}
	if err != nil {
		return nil, s.failed(what, err)
	}
	return entries, nil
}

// Sweep removes the scratch files that were made before a certain time by the
// clock of their writer, and returns how many. They are left by writers that
// crashed. A writer that is still at work merely has its Put fail, without any
// effect; a day is more than a Put takes, and more than clocks differ.
func (s *Store) Sweep(ctx context.Context, before time.Time) (removed int, err error) {
	return s.sweep(ctx, "", before)
}

func (s *Store) sweep(ctx context.Context, dir string, before time.Time) (removed int, err error) {
	entries, err := s.readDir(ctx, dir, func(string) bool { return true })
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		made, scratch := parseScratch(e.Name)
		switch {
		case e.Dir && !foreign(dir, e.Name):
			n, err := s.sweep(ctx, dir+e.Name+"/", before)
			removed += n
			if err != nil {
				return removed, err
			}
		case !e.Dir && scratch && made.Before(before):
			err := s.fsys.Remove(s.path(dir + e.Name))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return removed, s.failed("sweep "+dir, err)
			}
			removed++
		}
	}
	return removed, nil
}
