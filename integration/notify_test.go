package integration

import (
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/walrecv/walrecv/internal/pgtest"
)

// manager is what a service manager hears of a service.
type manager struct {
	t    testing.TB
	path string

	mu       sync.Mutex
	messages [][]string // lines of each
}

func newManager(t testing.TB) *manager {
	t.Helper()
	m := &manager{t: t, path: filepath.Join(pgtest.TempDir(t), "notify")}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	pgtest.Give(t, m.path)
	done := make(chan struct{})
	go func() {
		defer close(done)
		buffer := make([]byte, 64<<10)
		for {
			n, err := conn.Read(buffer)
			if err != nil {
				return
			}
			m.mu.Lock()
			m.messages = append(m.messages, strings.Split(string(buffer[:n]), "\n"))
			m.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		conn.Close()
		<-done
	})
	return m
}

// manages makes a receiver tell it how it is, every third of a watchdog's time.
func (m *manager) manages(r *receiver) *receiver {
	r.env = append(r.env, "NOTIFY_SOCKET="+m.path, "WATCHDOG_USEC=300000")
	return r
}

// kinds are the first lines of the messages, each once for what repeats it.
func (m *manager) kinds() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var kinds []string
	for _, message := range m.messages {
		kinds = append(kinds, message[0])
	}
	return slices.Compact(kinds)
}

// status is the one that was told last.
func (m *manager) status() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, message := range slices.Backward(m.messages) {
		if status, ok := strings.CutPrefix(message[len(message)-1], "STATUS="); ok {
			return status
		}
	}
	return ""
}

func (m *manager) statusBecomes(begin string) {
	m.t.Helper()
	pgtest.Eventually(m.t, patience, func() bool { return strings.HasPrefix(m.status(), begin) }, "the status does not become %q", begin)
	m.t.Log(m.status())
}

// The service manager hears that the receiver is ready when it streams, what it waits
// for, that it lives, and that it stops.
func TestNotify(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Major: pgtest.Version(t), WALSegmentSize: 1 << 20})
	c.Start()
	m := newManager(t)
	r := m.manages(newReceiver(t, c, "--archive", newArchive(t)))
	r.start()
	m.statusBecomes("streaming: timeline 1, flushed up to 0/")
	lsn := c.Query("select pg_switch_wal()")
	pgtest.Eventually(t, patience, func() bool {
		at, ok := strings.CutPrefix(m.status(), "streaming: timeline 1, flushed up to ")
		return ok && c.Query("select '"+at+"'::pg_lsn > '"+lsn+"'") == "t"
	}, "a sign of life does not tell the position")
	c.Kill9()
	m.statusBecomes("not streaming, trying again: ")
	c.Start()
	m.statusBecomes("streaming: ")
	r.stop()
	kinds := m.kinds()
	if kinds[0] != "READY=1" || !slices.Contains(kinds, "WATCHDOG=1") || slices.Index(kinds, "STOPPING=1") != len(kinds)-1 {
		t.Errorf("told %q, want READY first, then signs of life, and STOPPING last", kinds)
	}
	for _, message := range m.messages {
		if len(message) != 2 {
			t.Errorf("told %q, want a word and a status", message)
		}
	}
}

// A receiver that waits is ready, whatever it waits for.
func TestNotifyWhileItWaits(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Major: pgtest.Version(t), WALSegmentSize: 1 << 20})
	c.Start()
	first := newReceiver(t, c).start()
	c.Stop(pgtest.Fast)
	first.stop()

	m := newManager(t)
	r := m.manages(newReceiver(t, c))
	r.launch()
	m.statusBecomes("not streaming, trying again: ")
	if kinds := m.kinds(); kinds[0] != "READY=1" {
		t.Errorf("with the server down: told %q, want READY first", kinds)
	}
	r.stop()

	c.Start()
	newReceiver(t, c).start() // has the slot
	m = newManager(t)
	m.manages(newReceiver(t, c)).launch()
	m.statusBecomes("waiting for the replication slot: ")
	if kinds := m.kinds(); kinds[0] != "READY=1" {
		t.Errorf("with the slot in use: told %q, want READY first", kinds)
	}
}

// What is refused at the start was never ready.
func TestNotifyNothingWhenRefused(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Major: pgtest.Version(t), WALSegmentSize: 1 << 20})
	c.Start()
	other := pgtest.New(t, pgtest.Options{Major: pgtest.Version(t), WALSegmentSize: 1 << 20})
	other.Start()
	spool := newReceiver(t, other)
	spool.start()
	other.Exec("create table t(); select pg_switch_wal()")
	pgtest.Eventually(t, patience, func() bool { return len(sealedNames(t, spool.spool)) > 0 }, "nothing is sealed")
	spool.stop()
	for _, refused := range []struct {
		what string
		args []string
		code int
	}{
		{"an unknown option", []string{"--bogus"}, 2},
		{"no slot", []string{"--ensure-slot=false", "--slot", "missing"}, 1},
		{"another cluster's directory", []string{"-D", spool.spool}, 4},
	} {
		m := newManager(t)
		r := m.manages(newReceiver(t, c, refused.args...))
		r.launch()
		if code := r.Wait(patience); code != refused.code {
			t.Errorf("%s: exit %d, want %d", refused.what, code, refused.code)
		}
		if kinds := m.kinds(); slices.Contains(kinds, "READY=1") {
			t.Errorf("%s: told %q, want no READY", refused.what, kinds)
		}
	}
}
