package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"
)

const terminal = "/dev/tty"

// haveTerminal reports whether there is somebody to ask: a service has no
// terminal.
func haveTerminal() bool {
	tty, err := os.OpenFile(terminal, os.O_RDWR, 0)
	if err != nil {
		return false
	}
	return tty.Close() == nil
}

// askPassword asks the person at the terminal.
func askPassword(prompt string) (string, error) {
	tty, err := os.OpenFile(terminal, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer tty.Close()
	fd := int(tty.Fd())
	state, err := term.GetState(fd)
	if err != nil {
		return "", fmt.Errorf("ask for the password: %w", err)
	}

	// Whoever gives up at the prompt gets the echo back.
	interrupted, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(interrupted, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(interrupted)
	defer close(done)
	go func() {
		select {
		case <-interrupted:
			_ = term.Restore(fd, state)
			os.Exit(exitFailed)
		case <-done:
		}
	}()

	say(tty, "%s", prompt)
	password, err := term.ReadPassword(fd)
	say(tty, "\n")
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	return string(password), nil
}
