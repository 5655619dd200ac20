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

// sameWish is how long signals after the first one are taken for the same wish to
// stop: timeout(1) sends one to its child, and then one to the whole group.
const sameWish = time.Second

// interruption is why a context ended: a signal asked for it.
type interruption struct{ signal os.Signal }

func (i interruption) Error() string { return "interrupted by signal: " + i.signal.String() }

// interruptible returns a context that ends with the first SIGINT or SIGTERM.
// A second one that comes [sameWish] later, or the deadline, calls exit with code 1
// at once.
// The caller calls the returned function when the work is done; afterwards
// signals have their default action again.
func interruptible(parent context.Context, deadline time.Duration, stderr io.Writer, exit func(code int)) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		var first time.Time
		select {
		case s := <-signals:
			first = time.Now()
			cancel(interruption{s})
		case <-stop:
			return
		}
		late := time.NewTimer(deadline)
		defer late.Stop()
		for {
			select {
			case <-signals:
				if time.Since(first) < sameWish {
					continue
				}
				say(stderr, "walrecv: stopped at once by a second signal\n")
				exit(exitFailed)
			case <-late.C:
				say(stderr, "walrecv: could not stop in order within %v\n", deadline)
				exit(exitFailed)
			case <-stop:
			}
			return
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(stop)
		<-stopped
		cancel(context.Canceled)
	}
}
