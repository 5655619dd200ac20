package main

import (
	"os"
	"os/signal"
	"slices"
	"syscall"
)

// restore and push are run by PostgreSQL, which acts on their exit codes: restore's
// 1 to 125 mean that a file does not exist, push's 0 that a file may be removed. So
// whatever goes wrong on the way must not end with one of those.

// The commands that PostgreSQL runs.
const (
	restoreName = "restore"
	pushName    = "push"
)

// commandNames are the words that decide which command a command line means.
var commandNames = []string{
	"backup", "check", "config", "drill", confinedName, watchdogName, helperName, "prune", "receive", "slot", "status", "verify", "version", "help", "completion", "__complete", "__completeNoDesc",
}

// serverCommand is the command that PostgreSQL runs that a command line is for,
// also if it is wrong: misplaced options must not turn a usage error into an answer.
// It is "" for the others.
func serverCommand(args []string) string {
	for _, arg := range args {
		if arg == restoreName || arg == pushName {
			return arg
		}
		if slices.Contains(commandNames, arg) {
			return ""
		}
	}
	return ""
}

// isHelp reports whether a command line asks for the help of a command and for
// nothing else. With a file beside it, 0 would claim that something was done.
func isHelp(args []string) bool {
	return len(args) == 2 && slices.Contains([]string{"--help", "-?", "-h"}, args[1])
}

// guardServerCommand prepares the process for being run by PostgreSQL. SIGTERM
// keeps its default action, since PostgreSQL must see that death. SIGQUIT is its
// immediate shutdown: it ends the process without the stacks of all goroutines in
// the server's log.
func guardServerCommand() {
	// An abort would leave a core file, and the working directory is the data
	// directory. The traceback in the log says more.
	_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})
	quit := make(chan os.Signal, 1)
	signal.Notify(quit, syscall.SIGQUIT)
	go func() {
		<-quit
		os.Exit(exitQuit)
	}()
}
