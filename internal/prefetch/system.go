package prefetch

import (
	"bufio"
	"errors"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// System is what is needed of the operating system besides files.
type System interface {
	// Ring says something to the helper that listens at a FIFO. False: there is none.
	// A helper that does not come to read is one, too.
	Ring(bell, line string) bool

	// Listen makes a FIFO and reads from it.
	Listen(bell string) (Listener, error)

	// Alive tells whether there is a process.
	Alive(pid int) bool

	// Free is how much room there is for a user on the disk of a directory, in bytes.
	Free(dir string) (int64, error)
}

// Listener is the end of a FIFO that the helper has.
type Listener interface {
	// Lines come as they are said. The channel is closed by Close.
	Lines() <-chan string

	// Lost tells whether nobody can find the FIFO any more, also after Close.
	Lost() bool

	Close()
}

// OS is the operating system.
func OS() System { return system{} }

type system struct{}

func (system) Ring(bell, line string) bool {
	// Opened so it fails if nobody reads. A line is shorter than what a FIFO takes in
	// one piece.
	fd, err := unix.Open(bell, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(line+"\n"))
	return err == nil || errors.Is(err, unix.EAGAIN)
}

func (system) Alive(pid int) bool {
	err := unix.Kill(pid, 0)
	return err == nil || errors.Is(err, unix.EPERM)
}

func (system) Free(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return int64(st.Bavail) * int64(st.Bsize), nil //nolint:unconvert // of other types elsewhere
}

func (system) Listen(bell string) (Listener, error) {
	if err := os.Remove(bell); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if err := unix.Mkfifo(bell, 0o600); err != nil {
		return nil, &os.PathError{Op: "mkfifo", Path: bell, Err: err}
	}
	// For writing, too: else the first call to leave would be the end of it.
	f, err := os.OpenFile(bell, os.O_RDWR|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	l := &listener{file: f, info: info, lines: make(chan string), closed: make(chan struct{})}
	l.done.Go(l.read)
	return l, nil
}

type listener struct {
	file   *os.File
	info   os.FileInfo
	lines  chan string
	closed chan struct{}
	done   sync.WaitGroup
}

func (l *listener) read() {
	defer close(l.lines)
	lines := bufio.NewScanner(l.file)
	for lines.Scan() {
		select {
		case l.lines <- lines.Text():
		case <-l.closed:
			return
		}
	}
}

func (l *listener) Lines() <-chan string { return l.lines }

func (l *listener) Lost() bool {
	there, err := os.Lstat(l.file.Name())
	return err != nil || !os.SameFile(l.info, there)
}

func (l *listener) Close() {
	close(l.closed)
	l.file.Close()
	l.done.Wait()
}
