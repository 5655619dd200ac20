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

// DropCache makes the next reads of a file come from the disk and not from memory,
// where the system can do that and the file is durable. It is a wish.
func DropCache(f *os.File) {
	_ = control(f, func(fd int) error { return unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED) })
}
