package integration

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/pgtest"
)

// wire is a connection between a receiver and its server that can go dead: what
// is sent is taken, and goes nowhere, as behind a firewall that has forgotten.
type wire struct {
	listener net.Listener
	to       string

	mu    sync.Mutex
	links []*link
	slow  bool
}

// link is a connection over a wire, both ends of it.
type link struct {
	client, server net.Conn
	dead           bool
}

func (l *link) close() {
	l.client.Close()
	l.server.Close()
}

func newWire(t testing.TB, c *pgtest.Cluster) *wire {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{listener: listener, to: fmt.Sprintf("127.0.0.1:%d", c.Port)}
	var done sync.WaitGroup
	done.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			done.Go(func() { w.serve(client) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		w.mu.Lock()
		for _, l := range w.links {
			l.close()
		}
		w.mu.Unlock()
		done.Wait()
	})
	return w
}

// leadTo makes the wire lead to another server, and cuts what there is.
func (w *wire) leadTo(c *pgtest.Cluster) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.to = fmt.Sprintf("127.0.0.1:%d", c.Port)
	for _, l := range w.links {
		l.close()
	}
}

// args make a receiver use the wire.
func (w *wire) args() []string {
	_, port, _ := strings.Cut(w.listener.Addr().String(), ":")
	return []string{"-p", port}
}

// die makes the connections that there are go dead, and only those.
func (w *wire) die() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range w.links {
		l.dead = true
	}
}

// crawl lets little through from now on: some 100 kB a second.
func (w *wire) crawl() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.slow = true
}

func (w *wire) serve(client net.Conn) {
	w.mu.Lock()
	to := w.to
	w.mu.Unlock()
	server, err := net.Dial("tcp", to)
	if err != nil {
		client.Close()
		return
	}
	l := &link{client: client, server: server}
	w.mu.Lock()
	w.links = append(w.links, l)
	w.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { w.copy(l, server, client) })
	both.Go(func() { w.copy(l, client, server) })
	both.Wait()
}

// copy moves bytes in one direction. A dead connection is not closed when one
// side closes it: the other must find out by itself.
func (w *wire) copy(l *link, to, from net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		w.mu.Lock()
		dead, slow := l.dead, w.slow
		w.mu.Unlock()
		if dead && err == nil {
			continue
		}
		for rest := buf[:n]; err == nil && len(rest) > 0; {
			part := len(rest)
			if slow {
				part = min(part, 5<<10)
				<-time.After(50 * time.Millisecond)
			}
			_, err = to.Write(rest[:part])
			rest = rest[part:]
		}
		if err != nil {
			if !dead {
				to.Close()
			}
			return
		}
	}
}

// A server that is not heard of any more is given up, and looked for again. The
// limit is a minute, so it is reached in the long form only; the short one stops
// the receiver meanwhile, which nothing may hold up.
func TestFaultsSilence(t *testing.T) {
	t.Parallel()
	c := small(t, pgtest.Version(t), map[string]string{"wal_sender_timeout": "5s"})
	w := newWire(t, c)
	r := fresh(t, c, append(w.args(), "-S", "walrecv", "--ensure-slot")...).start()
	emit(c, 1500)
	r.flushed()
	w.die()
	emit(c, 1500)
	if !pgtest.Long() {
		r.stop()
		return
	}
	begin := time.Now()
	r.WaitOutput("nothing was heard from the server for 1m0s", 2*time.Minute)
	if d := time.Since(begin); d < 50*time.Second || d > 70*time.Second {
		t.Errorf("the server was given up after %v", d)
	}
	r.streamsAgain(2)
	r.flushed()
	end := c.FlushLSN()
	r.stop()
	isWhole(t, c, r.spool, end)
}

// A receiver that hangs is given up by the server. When it goes on, it finds
// that out, and takes up the slot again.
func TestFaultsReceiverHangs(t *testing.T) {
	t.Parallel()
	c := small(t, pgtest.Version(t), map[string]string{"wal_sender_timeout": "1s"})
	r := fresh(t, c, "-S", "walrecv", "--ensure-slot").start()
	emit(c, 1500)
	r.flushed()
	r.Signal(syscall.SIGSTOP)
	emit(c, 1500)
	c.WaitFor("select count(*) from pg_stat_replication", "0", patience)
	r.Signal(syscall.SIGCONT)
	r.streamsAgain(2)
	r.flushed()
	end := c.FlushLSN()
	r.stop()
	isWhole(t, c, r.spool, end)
}

// Behind an address there is suddenly another server: not for a moment is its
// WAL taken.
func TestFaultsServerReplaced(t *testing.T) {
	t.Parallel()
	c := small(t, pgtest.Version(t), nil)
	other := smallWith(t, pgtest.Options{Major: pgtest.Version(t), Fresh: true})
	emit(other, 3000)
	w := newWire(t, c)
	r := fresh(t, c, append(w.args(), "-S", "walrecv", "--ensure-slot")...).start()
	emit(c, 1500)
	r.flushed()
	end := c.FlushLSN()
	w.leadTo(other)
	r.ended(4, c.SystemID(), other.SystemID(), "another cluster")
	isWhole(t, c, r.spool, end)
	if got := other.Query("select count(*) from pg_replication_slots"); got != "0" {
		t.Error("a slot was made on the wrong server")
	}
}
