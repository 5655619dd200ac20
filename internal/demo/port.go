package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// reservePort takes a TCP port of 127.0.0.1 that is nobody else's, until release
// is called. A socket is bound to it and never listens: the kernel hands it out
// to no one, the server may bind it all the same (both sides allow the reuse of
// the address), and while there is no server, connections are refused.
func reservePort() (port int, release func() error, err error) {
	syscall.ForkLock.RLock()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return 0, nil, os.NewSyscallError("socket", err)
	}
	release = func() error { return os.NewSyscallError("close", syscall.Close(fd)) }
	if port, err = bindLoopback(fd); err != nil {
		return 0, nil, errors.Join(err, release())
	}
	return port, release, nil
}

func bindLoopback(fd int) (port int, err error) {
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return 0, os.NewSyscallError("setsockopt", err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return 0, os.NewSyscallError("bind", err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		return 0, os.NewSyscallError("getsockname", err)
	}
	inet, ok := name.(*syscall.SockaddrInet4)
	if !ok {
		return 0, fmt.Errorf("getsockname: %T", name)
	}
	return inet.Port, nil
}
