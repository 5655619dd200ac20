package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// process is a program that runs beside the demonstration. What it writes goes
// to a log.
type process struct {
	name string
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when the program has ended
}

// start starts a prepared program under a name, which its log has too. A log of
// that name is continued.
func (s *stage) start(name string, cmd *exec.Cmd) (*process, error) {
	p := &process{name: name, cmd: cmd, log: s.path(name + ".log"), done: make(chan struct{})}
	out, err := os.OpenFile(p.log, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start of %s: %w", name, err)
	}
	go func() {
		_ = cmd.Wait() // the result is in ProcessState
		close(p.done)
	}()
	return p, nil
}

// ended tells whether the program has ended, and how.
func (p *process) ended() (string, bool) {
	select {
	case <-p.done:
		return p.cmd.ProcessState.String(), true
	default:
		return "", false
	}
}

// wait waits for the end of the program and returns its exit code, -1 if a
// signal ended it.
func (p *process) wait(within time.Duration) (int, error) {
	late := time.NewTimer(within)
	defer late.Stop()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode(), nil
	case <-late.C:
		return 0, fmt.Errorf("%s still runs after %v", p.name, within)
	}
}

// signal sends a signal to the program alone. One that has ended is no error.
func (p *process) signal(sig syscall.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// lastLines returns the end of what a program wrote, indented.
func lastLines(text []byte, n int) string {
	all := strings.Split(strings.TrimSpace(string(text)), "\n")
	return "    " + strings.Join(all[max(0, len(all)-n):], "\n    ")
}

// poll looks at a condition until it holds. It looks at least once, and gives up
// after a time, when looking fails, or when ctx ends. what says then what did
// not happen.
func poll(ctx context.Context, within time.Duration, holds func() (bool, error), what string) error {
	late := time.NewTimer(within)
	defer late.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok, err := holds(); ok || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-late.C:
			return fmt.Errorf("%s within %v", what, within)
		}
	}
}
