package receiver

import (
	"fmt"
	"net"
	"os/user"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/walrecv/walrecv/internal/fakepg"
)

func TestUserTimeout(t *testing.T) {
	s := fake(t, fakepg.Config{})
	address, err := s.Listen()
	if err != nil {
		t.Fatal(err)
	}
	name, port, _ := net.SplitHostPort(address)
	conn, failure := connectTo(t, parse(t, ConnOptions{Conninfo: fmt.Sprintf("host=%s port=%s user=u tcp_user_timeout=4321", name, port)}))
	if failure != nil {
		t.Fatal(failure)
	}
	raw, err := conn.Conn().(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var got int
	var getErr error
	if err := raw.Control(func(fd uintptr) {
		got, getErr = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
	}); err != nil || getErr != nil {
		t.Fatal(err, getErr)
	}
	if got != 4321 {
		t.Errorf("TCP_USER_TIMEOUT is %d", got)
	}
	if parameters := s.Startups()[0]; parameters["tcp_user_timeout"] != "" {
		t.Error("the option was sent as a setting of the server")
	}
}

func TestRequirePeer(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	s := fake(t, fakepg.Config{})
	directory := t.TempDir()
	l, err := net.Listen("unix", directory+"/.s.PGSQL.5432")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(l); err != nil {
		t.Fatal(err)
	}
	_, failure := connectTo(t, parse(t, ConnOptions{Conninfo: fmt.Sprintf("host=%s user=u requirepeer='%s'", directory, me.Username)}))
	if failure != nil {
		t.Error(failure)
	}
	_, failure = connectTo(t, parse(t, ConnOptions{Conninfo: fmt.Sprintf("host=%s user=u requirepeer=somebody", directory)}))
	if failure == nil || failure.Class != ClassFatal || !strings.Contains(failure.Line, "requirepeer=somebody") {
		t.Error(failure)
	}
	if n := s.Connections(); n != 1 {
		t.Errorf("%d connections reached the server", n)
	}
}
