package vfs

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// allocate extends f, which ends at from, to size bytes with blocks behind
// them. File systems that cannot reserve blocks get zeros written.
func allocate(f *os.File, from, size int64) error {
	err := control(f, func(fd int) error {
		return unix.Fallocate(fd, 0, from, size-from)
	})
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return fillZeros(f, from, size)
	}
	if err != nil {
		return &fs.PathError{Op: "fallocate", Path: f.Name(), Err: err}
	}
	return nil
}

// Sync leaves out what fsync(2) has beyond the bytes and the length: the times of
// the file, for which the file system would have to write its journal.
func (f *osFile) Sync() error {
	err := control(f.File, unix.Fdatasync)
	if err != nil {
		return &fs.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
	}
	return nil
}

// Writeback has no flag to wait for anything: with one, the system would tell of a
// failed write here, and not tell Sync again. Without, it does what it also does by
// itself at any time, where nobody sees the result, and so keeps what failed for
// Sync, EIO as well. Other errors are of the call: a file system that cannot do it,
// or a seccomp filter that does not know it.
func (f *osFile) Writeback(off, n int64) error {
	err := control(f.File, func(fd int) error {
		return unix.SyncFileRange(fd, off, n, unix.SYNC_FILE_RANGE_WRITE)
	})
	if err != nil {
		return &fs.PathError{Op: "sync_file_range", Path: f.Name(), Err: err}
	}
	return nil
}

// DropCache makes the next reads of a file come from the disk and not from memory,
// where the system can do that and the file is durable. It is a wish.
func DropCache(f *os.File) {
	_ = control(f, func(fd int) error { return unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED) })
}
