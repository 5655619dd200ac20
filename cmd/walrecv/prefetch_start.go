package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
)

// startHelper starts the process that prefetches for the calls of one server. It is to
// outlive this call, and nobody waits for it, so nothing of the server may be held open
// by it: neither the pipe to the server's log, without whose end a server does not stop,
// nor a file of the data directory.
func (a *app) startHelper() error {
	if err := keepFilesHere(); err != nil {
		return err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer read.Close()
	// No context ends it.
	cmd := exec.CommandContext(context.Background(), ownProgram(), helperArgs(a.args)...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = a.environ
	cmd.Stdin = read // and nothing for its output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		write.Close()
		return err
	}
	// The pipe ends with this process. Then the helper looks who its parent is instead.
	a.pipe = write
	_, err = fmt.Fprint(write, os.Getpid())
	return err
}

// helperArgs make of the arguments of restore those of its helper, which needs all of
// them.
func helperArgs(args []string) []string {
	rest := slices.Clone(args)
	if i := slices.Index(rest, restoreName); i >= 0 {
		rest = slices.Delete(rest, i, i+1)
	}
	return append([]string{helperName}, rest...)
}
