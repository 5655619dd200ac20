package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/restore"
)

// helperName is the command that prefetches for restore.
const helperName = "prefetch-helper"

// helperGarbage is how many bytes there are at most while some of them are garbage.
const helperGarbage = 40 << 20

// isHelper tells whether a command line is one of [app.startHelper].
func isHelper(args []string) bool { return len(args) > 0 && args[0] == helperName }

// runHelper runs the helper, and returns. A server that has to reap it, since it is the
// first process of a container, takes every exit code but 0 and 1 for a crash of one of
// its own processes.
func runHelper(args, environ []string) {
	defer func() { _ = recover() }() // there is nobody to tell
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer stop()
	run(ctx, args, environ, io.Discard, io.Discard)
}

// newPrefetchHelper declares the command. It has the options and the arguments of
// restore.
func (a *app) newPrefetchHelper() *cobra.Command {
	var cfg restoreConfig
	var cmd *cobra.Command
	cmd = &cobra.Command{
		Use:                   helperName + " [OPTION]... %f %p",
		Short:                 "Fetch segments before they are asked for; started by restore itself",
		Hidden:                true,
		DisableFlagsInUseLine: true,
		Args:                  arguments("%f", "%p"),
		RunE: a.configured(func() error { return cfg.complete(cmd) }, func(cmd *cobra.Command, args []string) error {
			cfg.name, cfg.target = args[0], args[1]
			return a.help(cmd.Context(), cfg)
		}),
	}
	addRestoreOptions(cmd.Flags(), &cfg)
	return cmd
}

func (a *app) help(ctx context.Context, c restoreConfig) error {
	o, err := a.restoreOptions(c)
	if err != nil {
		return err
	}
	// Whatever is relative is so to the data directory, which the helper leaves then: it
	// is not to keep it in use.
	keys, keysErr := c.read.keys()
	o.Keys = func() (archive.Keys, error) { return keys, keysErr }
	o.PrefetchDir = func(pgWAL string) (string, error) {
		dir, err := prefetchDir(c.prefetchDir, pgWAL)
		if err == nil {
			err = os.Chdir(dir)
		}
		return dir, err
	}
	debug.SetMemoryLimit(helperGarbage)
	return restore.Help(ctx, o, newParent(os.Stdin))
}

// newParent tells who has become the parent of this process, once the starter has ended,
// which has the other end of a pipe and has written its number there.
func newParent(pipe io.Reader) <-chan int {
	parent := make(chan int, 1)
	go func() {
		text, err := io.ReadAll(pipe)
		starter, notNumber := strconv.Atoi(string(text))
		if err != nil || notNumber != nil {
			return
		}
		again := time.NewTicker(time.Millisecond)
		defer again.Stop()
		for os.Getppid() == starter {
			<-again.C // a process closes its files before it lets go of its children
		}
		parent <- os.Getppid()
	}()
	return parent
}
