package vfs

import (
	"io"
	"io/fs"
	"syscall"
)

// memFileMax is the greatest length of a file in a [Mem], in bytes. It turns a
// wrong offset into EFBIG instead of an exhausted machine.
const memFileMax = 16 << 30

// memFile is an open file of a [Mem]. It keeps working when its name goes.
type memFile struct {
	mem    *Mem
	ino    *inode
	name   string // as it was opened
	write  bool
	closed bool // guarded by mem.mu
}

// do runs one operation under the lock of the Mem and names its error.
func (f *memFile) do(op string, call func() error) error {
	f.mem.mu.Lock()
	defer f.mem.mu.Unlock()
	err := fs.ErrClosed
	if !f.closed {
		err = call()
	}
	if err == nil || err == io.EOF {
		return err
	}
	return &fs.PathError{Op: op, Path: f.name, Err: err}
}

func (f *memFile) ReadAt(p []byte, off int64) (n int, err error) {
	err = f.do("read", func() error {
		if off < 0 {
			return syscall.EINVAL
		}
		n = f.ino.cur.read(p, off)
		if n < len(p) {
			return io.EOF
		}
		return nil
	})
	return n, err
}

func (f *memFile) WriteAt(p []byte, off int64) (n int, err error) {
	err = f.do("write", func() error {
		switch {
		case !f.write:
			return syscall.EBADF
		case off < 0:
			return syscall.EINVAL
		case off > memFileMax-int64(len(p)):
			return syscall.EFBIG
		}
		n = f.ino.write(p, off, f.mem.takeBlocks)
		if n < len(p) {
			return syscall.ENOSPC
		}
		return nil
	})
	return n, err
}

func (f *memFile) Size() (size int64, err error) {
	err = f.do("stat", func() error {
		size = f.ino.cur.size
		return nil
	})
	return size, err
}

func (f *memFile) Preallocate(size int64) error {
	return f.do("fallocate", func() error {
		switch {
		case size <= f.ino.cur.size:
			return nil
		case !f.write:
			return syscall.EBADF
		case size > memFileMax:
			return syscall.EFBIG
		case !f.ino.extend(size, f.mem.takeBlocks):
			return syscall.ENOSPC
		}
		return nil
	})
}

func (f *memFile) Sync() error {
	return f.do("sync", func() error {
		f.ino.sync()
		return nil
	})
}

// Writeback does nothing: what a crash leaves of unsynced bytes is chance anyway.
func (f *memFile) Writeback(_, _ int64) error { return f.do("writeback", func() error { return nil }) }

// loseUnsynced implements the ability that [LoseUnsynced] needs.
func (f *memFile) loseUnsynced() {
	f.mem.mu.Lock()
	defer f.mem.mu.Unlock()
	f.ino.loseUnsynced()
}

func (f *memFile) Close() error {
	return f.do("close", func() error {
		f.closed = true
		f.ino.opens--
		f.mem.release(f.ino)
		return nil
	})
}
