package pgtest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
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

// copyFile uses system calls where os.File would do: a data directory has a
// thousand small files, and what os.File does for each (polling, flags) takes
// several times as long as the copy, more so on a busy machine.
func (r *run) copyFile(src, dst string, perm fs.FileMode) (err error) {
	in, err := syscall.Open(src, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: src, Err: err}
	}
	defer syscall.Close(in)
	out, err := syscall.Open(dst, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_EXCL|syscall.O_CLOEXEC, uint32(perm))
	if err != nil {
		return &fs.PathError{Op: "create", Path: dst, Err: err}
	}
	defer func() { err = errors.Join(err, syscall.Close(out)) }()
	if err := copyBytes(out, in); err != nil {
		return &fs.PathError{Op: "copy", Path: dst, Err: err}
	}
	err = syscall.Fchmod(out, uint32(perm))
	if err == nil && r.owner != nil {
		err = syscall.Fchown(out, int(r.owner.Uid), int(r.owner.Gid))
	}
	return err
}

func copyBytes(out, in int) error {
	buf := make([]byte, 64<<10)
	for {
		n, err := syscall.Read(in, buf)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if n <= 0 || err != nil {
			return err
		}
		for rest := buf[:n]; len(rest) > 0; {
			n, err := syscall.Write(out, rest)
			if err != nil && !errors.Is(err, syscall.EINTR) {
				return err
			}
			rest = rest[max(n, 0):]
		}
	}
}
