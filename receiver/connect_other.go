//go:build !linux

package receiver

import (
	"errors"
	"net"
	"syscall"
)

const (
	haveUserTimeout = false
	unsupportedPeer = "it is not supported on this operating system"
)

func setUserTimeout(syscall.RawConn, int) error { return errors.ErrUnsupported }

func checkPeer(net.Conn, string) error { return errors.ErrUnsupported }
