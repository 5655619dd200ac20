package receiver

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// soon is how long the next commit is waited for in the system call that it ends.
// Where the other processor has nothing to do either, that is also how long an event
// of another connection may wait.
const soon = 2 * time.Millisecond

// readable waits until a connection has something to read, without the scheduler: to
// park a goroutine and to wake it costs several system calls on more than one thread,
// which is a good part of what a commit costs beside its sync. nil waits for nothing.
type readable struct {
	raw  syscall.RawConn
	fds  [1]unix.PollFd
	poll func(fd uintptr) // made once
}

// readableOf returns nil for a connection that may have read more than it was asked
// for: one with TLS.
func readableOf(conn net.Conn, patience time.Duration) *readable {
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return nil
	}
	r := &readable{raw: raw}
	r.poll = func(fd uintptr) {
		r.fds[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
		_, _ = unix.Poll(r.fds[:], int(patience.Milliseconds())) // whatever it says, reading comes next
	}
	return r
}

func (r *readable) wait() {
	if r != nil {
		_ = r.raw.Control(r.poll) // on a closed connection the read fails
	}
}
