package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// stopDeadline is how long a graceful stop may take, all in all.
const stopDeadline = 10 * time.Second

// interruption is why a context ended: a signal asked for it.
type interruption struct{ signal os.Signal }

func (i interruption) Error() string { return "interrupted by signal: " + i.signal.String() }

// interruptible returns a context that ends with the first SIGINT or SIGTERM.
// From then on a second one, or the deadline, calls exit with code 1 at once.
// The caller calls the returned function when the work is done; afterwards
// signals have their default action again.
func interruptible(parent context.Context, deadline time.Duration, stderr io.Writer, exit func(code int)) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		select {
		case s := <-signals:
			cancel(interruption{s})
		case <-stop:
			return
		}
		late := time.NewTimer(deadline)
		defer late.Stop()
		select {
		case <-signals:
			say(stderr, "walrecv: stopped at once by a second signal\n")
			exit(exitFailed)
		case <-late.C:
			say(stderr, "walrecv: could not stop in order within %v\n", deadline)
			exit(exitFailed)
		case <-stop:
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(stop)
		<-stopped
		cancel(context.Canceled)
	}
}
