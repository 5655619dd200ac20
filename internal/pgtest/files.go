package pgtest

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// share says how much of an entry of a directory goes into a copy.
type share int

const (
	whole share = iota
	empty       // a directory without what is in it
	nothing
)

// copyTree copies a directory to a new place and gives the copy to the user of
// the servers. Modes are kept. Files may come and go meanwhile, as those of a
// running server do. pick, if any, is asked about every path below src, which it
// gets relative to src.
func (r *run) copyTree(src, dst string, pick func(rel string, isDir bool) share) error {
	return filepath.WalkDir(src, func(path string, entry fs.DirEntry, err error) error {
		if path != src && errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(src, path)
		if err != nil {
			return err
		}
		part := whole
		if rel != "." && pick != nil {
			part = pick(rel, entry.IsDir())
		}
		if part != nothing {
			err = r.copyEntry(path, filepath.Join(dst, rel), entry)
		}
		switch {
		case path != src && errors.Is(err, fs.ErrNotExist):
			return nil
		case err == nil && part != whole && entry.IsDir():
			return fs.SkipDir
		}
		return err
	})
}

func (r *run) copyEntry(src, dst string, entry fs.DirEntry) error {
	info, err := entry.Info()
	if err != nil {
		return err
	}
	switch {
	case entry.IsDir():
		return r.mkdirAt(dst, info.Mode().Perm())
	case entry.Type() == fs.ModeSymlink:
		target, err := os.Readlink(src)
		if err != nil {
			return err
		}
		if err := os.Symlink(target, dst); err != nil {
			return err
		}
		return r.give(dst)
	case entry.Type().IsRegular():
		return r.copyFile(src, dst, info.Mode().Perm())
	default: // a socket
		return nil
	}
}

func (r *run) copyFile(src, dst string, perm fs.FileMode) (err error) {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	if err := out.Chmod(perm); err != nil {
		return err
	}
	return r.give(dst)
}
