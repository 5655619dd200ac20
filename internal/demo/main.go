// Command demo shows what walrecv is for: it loses a PostgreSQL server under
// load, with its data directory, and gets back every row that a client saw
// committed. "make demo" runs it.
//
// All it makes lies in one temporary directory, and every process it starts
// works in there, without a terminal. By that they are found and ended whatever
// happens; see sweep.
package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// The exit codes. A signal N ends with 128 + N.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	if len(args) == 2 && args[0] == watchCommand {
		return watch(args[1], os.Stdin, stderr)
	}
	o, err := parseOptions(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return exitDone
	}
	if err != nil {
		return exitUsage
	}
	ctx, stop := interruptible()
	defer stop()
	return outcome(perform(ctx, o, stdout), stderr)
}

// options say how much is done, and with what.
type options struct {
	walrecv  string        // the binary that is shown
	postgres string        // directory of the PostgreSQL programs; "" to look for one
	load     time.Duration // how long clients write, at least
	segments int           // how many segments they fill, at least
	scale    int           // of pgbench
	seed     uint64        // of what is written, and of the moment of the kill
}

func parseOptions(args []string, stderr io.Writer) (options, error) {
	var o options
	fs := flag.NewFlagSet("demo", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&o.walrecv, "walrecv", "build/walrecv", "show this `binary`")
	fs.StringVar(&o.postgres, "postgres", "", "use the PostgreSQL programs in `DIR`, by default the newest that Debian has installed")
	fs.DurationVar(&o.load, "load", 8*time.Second, "write for this long, at least")
	fs.IntVar(&o.segments, "segments", 5, "write until `N` segments are archived, at least")
	fs.IntVar(&o.scale, "scale", 5, "scale `N` of pgbench's tables")
	fs.Uint64Var(&o.seed, "seed", 0, "choose payloads and the moment of the kill by seed `N`, by default another one each time")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 || o.segments < 1 || o.scale < 1 || o.load < 0 {
		say(stderr, "demo: -segments and -scale are at least 1, and there are no arguments; try -help\n")
		return o, errors.New("bad usage")
	}
	if o.seed == 0 {
		o.seed = rand.Uint64()
	}
	return o, nil
}

// interruption is why a context ended: a signal asked for it.
type interruption struct{ signal syscall.Signal }

func (i interruption) Error() string { return "interrupted" }

// interruptible returns a context that ends with the first signal that asks the
// program to end. A second one kills it; what it leaves, the watchdog ends.
func interruptible() (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		select {
		case s := <-signals:
			signal.Stop(signals)
			number, _ := s.(syscall.Signal)
			cancel(interruption{number})
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		cancel(nil)
	}
}

// outcome says why there is no success, and returns the exit code.
func outcome(err error, stderr io.Writer) int {
	if err == nil {
		return exitDone
	}
	var i interruption
	if errors.As(err, &i) {
		say(stderr, "Interrupted by signal %d (%v).\n", int(i.signal), i.signal)
		return 128 + int(i.signal)
	}
	say(stderr, "FAILED: %v\n", err)
	return exitFailed
}
