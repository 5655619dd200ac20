package pgtest

import (
	"errors"
	"fmt"
	"path/filepath"
	"syscall"
	"time"
)

// startWithin is how long a server gets to accept connections.
const startWithin = time.Minute

// Mode is a way to shut a server down, as in pg_ctl stop -m.
type Mode string

// The modes of pg_ctl.
const (
	Smart     Mode = "smart"     // waits until all clients are gone
	Fast      Mode = "fast"      // ends all clients, sends the last WAL to standbys
	Immediate Mode = "immediate" // no shutdown checkpoint; recovers at the next start
)

// Start starts the server and waits until it accepts connections.
func (c *Cluster) Start() {
	c.t.Helper()
	if err := c.TryStart(); err != nil {
		c.t.Fatalf("pgtest: %v", err)
	}
}

// TryStart starts the server and waits until it accepts connections, which a
// server in recovery does once it is consistent. It is an error if the server
// ends before, or has not come so far after a minute.
func (c *Cluster) TryStart() error {
	if err := c.launch(); err != nil {
		return err
	}
	ready := poll(startWithin, func() bool { return !c.running() || c.accepts() })
	if ready && c.running() {
		return nil
	}
	state := "did not accept connections in time"
	if code, ended := c.server.Exited(); ended {
		state = fmt.Sprintf("ended with %d", code)
	}
	return fmt.Errorf("the PostgreSQL %d server %s; the end of its log:\n%s", c.Major, state, tail(c.Log()))
}

// Launch starts the server and does not wait for it.
func (c *Cluster) Launch() {
	c.t.Helper()
	if err := c.launch(); err != nil {
		c.t.Fatalf("pgtest: %v", err)
	}
}

func (c *Cluster) launch() error {
	if c.running() {
		return errors.New("the server runs already")
	}
	p := Command(c.owner, filepath.Join(c.bin, "postgres"), "-D", c.DataDir)
	p.outPath, p.errPath = c.logPath(), c.logPath()
	p.Dir = c.Dir
	p.quiet = true // the cluster shows the log
	if err := p.start(); err != nil {
		return fmt.Errorf("start of postgres: %w", err)
	}
	c.server = p
	return nil
}

// Running tells whether the postmaster is there.
func (c *Cluster) Running() bool { return c.running() }

func (c *Cluster) running() bool {
	if c.server == nil {
		return false
	}
	_, ended := c.server.Exited()
	return !ended
}

// PID returns the process id of the postmaster.
func (c *Cluster) PID() int { return c.server.PID() }

// WaitExit waits until the server has ended by itself, and returns its exit
// code. The test ends if it still runs after d.
func (c *Cluster) WaitExit(d time.Duration) int {
	c.t.Helper()
	return c.server.With(c.t).Wait(d)
}

// Stop shuts the server down and returns how long that took. The test ends if
// it takes more than a minute.
func (c *Cluster) Stop(mode Mode) time.Duration {
	c.t.Helper()
	sig, ok := map[Mode]syscall.Signal{
		Smart: syscall.SIGTERM, Fast: syscall.SIGINT, Immediate: syscall.SIGQUIT,
	}[mode]
	if !ok {
		c.t.Fatalf("pgtest: no mode %q", mode)
	}
	begin := time.Now()
	c.server.With(c.t).Signal(sig)
	c.server.With(c.t).Wait(time.Minute)
	return time.Since(begin)
}

// Kill9 kills the postmaster and all its children with SIGKILL, as one moment:
// a crash of everything but the kernel. A server that does not run is left so.
func (c *Cluster) Kill9() {
	c.t.Helper()
	if c.running() {
		c.server.With(c.t).Kill()
	}
}

// Restart stops the server in a mode and starts it again.
func (c *Cluster) Restart(mode Mode) {
	c.t.Helper()
	c.Stop(mode)
	c.Start()
}

// Reload makes the server read its configuration files. Processes of the server
// take note of it one by one; WaitFor tells when one has.
func (c *Cluster) Reload() {
	c.t.Helper()
	c.Exec("select pg_reload_conf()")
}

// Promote makes a standby a primary and returns how long that took. The test
// ends if it takes more than a minute.
func (c *Cluster) Promote() time.Duration {
	c.t.Helper()
	begin := time.Now()
	c.Exec("select pg_promote(false)")
	c.WaitFor("select pg_is_in_recovery()", "f", time.Minute)
	return time.Since(begin)
}

// endQuickly ends the server at the end of a test: in immediate mode, so that
// it cleans up after itself, or else by killing it.
func (c *Cluster) endQuickly() {
	c.server.Signal(syscall.SIGCONT) // a test may have stopped it
	c.server.Signal(syscall.SIGQUIT)
	if !poll(5*time.Second, func() bool { return !c.running() }) {
		c.Kill9()
	}
}
