package pgtest

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// port is a TCP port of 127.0.0.1 that is nobody else's. The socket is bound and
// never listens: the kernel hands its port out to no one, a server may bind it
// all the same (both sides allow the reuse of the address), and while no server
// has it, connections are refused.
type port struct {
	fd     int
	number int
}

func reservePort() (*port, error) {
	syscall.ForkLock.RLock()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	p := &port{fd: fd}
	if err := p.bind(); err != nil {
		return nil, errors.Join(err, p.release())
	}
	return p, nil
}

func (p *port) bind() error {
	if err := syscall.SetsockoptInt(p.fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	loopback := &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	if err := syscall.Bind(p.fd, loopback); err != nil {
		return os.NewSyscallError("bind", err)
	}
	name, err := syscall.Getsockname(p.fd)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	inet, ok := name.(*syscall.SockaddrInet4)
	if !ok {
		return fmt.Errorf("getsockname: %T", name)
	}
	p.number = inet.Port
	return nil
}

func (p *port) release() error { return os.NewSyscallError("close", syscall.Close(p.fd)) }
