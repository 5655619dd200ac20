package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// OS returns the file system of the operating system. Names are taken as they
// are: relative ones are relative to the working directory of the process.
//
// SyncDir returns every error of the operating system. A file system that
// cannot sync a directory cannot keep what this package promises, and is
// refused that way.
func OS() FS { return osFS{} }

type osFS struct{}

func (osFS) Create(name string, perm fs.FileMode) (File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return nil, err
	}
	// The umask took bits away; this gives them back.
	if err := f.Chmod(perm); err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(name))
	}
	return &osFile{f}, nil
}

func (osFS) OpenRead(name string) (File, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	// Unlike an open for writing, this one succeeds for a directory.
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = &fs.PathError{Op: "open", Path: name, Err: syscall.EISDIR}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &osFile{f}, nil
}

func (osFS) OpenWrite(name string) (File, error) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return &osFile{f}, nil
}

func (osFS) Rename(oldName, newName string) error { return os.Rename(oldName, newName) }

func (osFS) Link(oldName, newName string) error { return os.Link(oldName, newName) }

func (osFS) Remove(name string) error { return os.Remove(name) }

func (osFS) Mkdir(name string, perm fs.FileMode) error {
	if err := os.Mkdir(name, perm); err != nil {
		return err
	}
	if err := os.Chmod(name, perm); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return nil
}

// ReadDir looks at the entries by the open directory: the way to it from the
// root takes longer than the look itself, and there are many of them.
func (o osFS) ReadDir(name string) ([]DirEntry, error) {
	return o.readDirOf(name, func(string) bool { return true })
}

// readDirOf implements [ReadDirOf].
func (osFS) readDirOf(name string, wanted func(name string) bool) ([]DirEntry, error) {
	d, err := openDir(name)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	names = slices.DeleteFunc(names, func(n string) bool { return !wanted(n) })
	slices.Sort(names)
	var entries []DirEntry
	err = control(d, func(fd int) error {
		entries = make([]DirEntry, 0, len(names))
		for _, n := range names {
			e, err := entryAt(fd, n)
			if errors.Is(err, fs.ErrNotExist) {
				continue // removed since the directory was read
			}
			if err != nil {
				return &fs.PathError{Op: "stat", Path: filepath.Join(name, n), Err: err}
			}
			entries = append(entries, e)
		}
		return nil
	})
	return entries, err
}

// names implements [Names].
func (osFS) names(name string) ([]string, error) {
	d, err := openDir(name)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

// entryAt looks at one name in an open directory.
func entryAt(fd int, name string) (DirEntry, error) {
	var st unix.Stat_t
	// What a symbolic link leads to counts, as for every other operation. One that
	// leads nowhere is listed as a file that cannot be opened.
	err := unix.Fstatat(fd, name, &st, 0)
	if err != nil {
		err = unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	}
	if err != nil {
		return DirEntry{}, err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return DirEntry{Name: name, Dir: true}, nil
	}
	id := FileID{Inode: st.Ino, Modified: unix.TimespecToNsec(st.Mtim)}
	return DirEntry{Name: name, Size: st.Size, ID: id}, nil
}

func (osFS) SyncDir(name string) error {
	d, err := openDir(name)
	if err != nil {
		return err
	}
	// Nothing was written through d, so only the error of the sync counts.
	defer d.Close()
	return d.Sync()
}

// Lock uses flock(2) on the directory itself: the kernel gives the lock back
// when the process ends, however it ends, and no lock file can be left behind.
func (osFS) Lock(name string) (io.Closer, error) {
	d, err := openDir(name)
	if err != nil {
		return nil, err
	}
	err = control(d, func(fd int) error {
		return syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB)
	})
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = ErrLocked
	}
	if err != nil {
		return nil, errors.Join(&fs.PathError{Op: "lock", Path: name, Err: err}, d.Close())
	}
	return d, nil
}

func openDir(name string) (*os.File, error) {
	return os.OpenFile(name, os.O_RDONLY|syscall.O_DIRECTORY, 0)
}

type osFile struct{ *os.File }

func (f *osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (f *osFile) Preallocate(size int64) error {
	from, err := f.Size()
	if err != nil {
		return err
	}
	if size <= from {
		return nil
	}
	if err := allocate(f.File, from, size); err != nil {
		return fmt.Errorf("preallocate to %d bytes: %w", size, err)
	}
	return nil
}

// control runs a system call on the descriptor of f, again and again as long
// as a signal interrupts it.
func control(f *os.File, call func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var callErr error
	err = conn.Control(func(fd uintptr) {
		for {
			callErr = call(int(fd))
			if !errors.Is(callErr, syscall.EINTR) {
				return
			}
		}
	})
	if err != nil {
		return fs.ErrClosed // the one error that Control has of its own
	}
	return callErr
}

// zeroPiece is how much fillZeros writes at once, in bytes.
const zeroPiece = 1 << 20

// fillZeros writes zeros to the bytes [from, to) of a file that ends at from.
// After an error a part may have been written, so that the file ends between
// from and to.
func fillZeros(w io.WriterAt, from, to int64) error {
	zeros := make([]byte, min(zeroPiece, to-from))
	for from < to {
		n, err := w.WriteAt(zeros[:min(int64(len(zeros)), to-from)], from)
		if err != nil {
			return err
		}
		from += int64(n)
	}
	return nil
}
