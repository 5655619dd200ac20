package pgtest

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
)

//go:embed watchdog.sh
var watchdogScript string

// watchdog is the test process's end of the pipe to the process that outlives
// it. The kernel closes the pipe however the test process ends; that is all the
// watchdog waits for.
type watchdog struct {
	mu   sync.Mutex
	pipe *os.File
}

func startWatchdog(owner string, dirs ...string) (*watchdog, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer read.Close()
	cmd := exec.Command("/bin/sh", append([]string{"-c", watchdogScript, "watchdog", owner}, dirs...)...)
	cmd.Stdin = read
	cmd.Dir = "/"
	// A session of its own: what ends the tests from a terminal must not end it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start of the watchdog: %w", err)
	}
	return &watchdog{pipe: write}, nil
}

// alive and gone tell the watchdog about a process. What was written reaches it
// even if the test process ends right after.
func (d *watchdog) alive(pid int) error { return d.tell("pid", pid) }
func (d *watchdog) gone(pid int) error  { return d.tell("gone", pid) }

func (d *watchdog) tell(what string, pid int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := fmt.Fprintf(d.pipe, "%s %d\n", what, pid); err != nil {
		return fmt.Errorf("the watchdog is gone: %w", err)
	}
	return nil
}
