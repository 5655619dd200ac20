package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

// watchCommand is the first argument of the process that watches the
// demonstration; the second is the directory.
const watchCommand = "watch"

// watchdog is a process that outlives the demonstration, to end what that left
// behind when it was killed.
type watchdog struct {
	cmd  *exec.Cmd
	pipe *os.File
}

// startWatchdog starts this program again, in a session of its own: what ends
// the demonstration from a terminal must not end it.
func startWatchdog(dir string) (*watchdog, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer read.Close()
	cmd := exec.CommandContext(context.Background(), self, watchCommand, dir)
	cmd.Stdin, cmd.Stderr, cmd.Dir = read, os.Stderr, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, write.Close())
	}
	return &watchdog{cmd, write}, nil
}

// dismiss lets the watchdog have its look and waits for its end.
func (w *watchdog) dismiss() error {
	if err := errors.Join(w.pipe.Close(), w.cmd.Wait()); err != nil {
		return fmt.Errorf("the watchdog: %w", err)
	}
	return nil
}

// watch is the watchdog's work. Its input is a pipe into which nothing is
// written. The kernel closes it however the demonstration ends, and a process
// that is just being started holds it open until it is where sweep finds it: it
// closes the pipe by becoming its program, and that comes after the change of
// its working directory.
func watch(dir string, stdin io.Reader, stderr io.Writer) int {
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	_, err := io.Copy(io.Discard, stdin)
	if err = errors.Join(err, sweep(dir)); err != nil {
		say(stderr, "demo: %v\n", err)
		return exitFailed
	}
	return exitDone
}
