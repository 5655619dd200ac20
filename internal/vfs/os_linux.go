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
