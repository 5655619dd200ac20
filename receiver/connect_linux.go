package receiver

import (
	"errors"
	"fmt"
	"net"
	"os/user"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	haveUserTimeout = true
	unsupportedPeer = "" // requirepeer works
)

func setUserTimeout(raw syscall.RawConn, milliseconds int) error {
	var failure error
	err := raw.Control(func(fd uintptr) {
		failure = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, milliseconds)
	})
	return errors.Join(err, failure)
}

// peerError says that a socket belongs to somebody else than requirepeer wants.
type peerError struct{ want, got string }

func (e *peerError) Error() string {
	return fmt.Sprintf("requirepeer=%s, but the server runs as %s", e.want, e.got)
}

// checkPeer compares the owner of the server's end of a socket.
func checkPeer(conn net.Conn, want string) error {
	socket, ok := conn.(*net.UnixConn)
	if !ok {
		return &peerError{want, "somebody unknown"}
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	var credentials *unix.Ucred
	var failure error
	err = raw.Control(func(fd uintptr) {
		credentials, failure = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err := errors.Join(err, failure); err != nil {
		return err
	}
	uid := strconv.FormatUint(uint64(credentials.Uid), 10)
	owner, err := user.LookupId(uid)
	if err != nil {
		return &peerError{want, "user " + uid}
	}
	if owner.Username != want {
		return &peerError{want, owner.Username}
	}
	return nil
}
