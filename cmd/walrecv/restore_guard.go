package main

import (
	"errors"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"syscall"
)

// restore's exit codes are read by PostgreSQL: everything from 1 to 125 means
// that the file does not exist and recovery ends. So whatever goes wrong on the
// way must not end with one of those.

// commandNames are the words that decide which command a command line means.
var commandNames = []string{"receive", "slot", "version", "help", "completion", "__complete", "__completeNoDesc"}

// isRestore reports whether a command line is for "restore", also one that is
// wrong: misplaced options must not turn a usage error into "absent".
func isRestore(args []string) bool {
	for _, arg := range args {
		if arg == "restore" {
			return true
		}
		if slices.Contains(commandNames, arg) {
			return false
		}
	}
	return false
}

// isRestoreHelp reports whether a command line asks for help and for nothing
// else. With a file to deliver beside it, 0 would claim that it was delivered.
func isRestoreHelp(args []string) bool {
	return len(args) == 2 && args[0] == "restore" && slices.Contains([]string{"--help", "-?", "-h"}, args[1])
}

// guardRestore prepares the process for being a restore_command. Go ends a
// panic and every fatal error of its runtime with exit code 2; from here on
// they abort instead, which the shell reports as 134. SIGTERM keeps its default
// action, since PostgreSQL must see that death. SIGQUIT is PostgreSQL's
// immediate shutdown: it ends the process without the stacks of all goroutines
// in the server's log.
func guardRestore() {
	debug.SetTraceback("crash")
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

// restoreExitCode is exitCode for "restore": what is not one of restore's own
// answers is a matter of usage or configuration.
func restoreExitCode(err error) int {
	var answer *answerError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &answer):
		return answer.code
	}
	return exitRestoreBad
}

// answerError is an answer of restore other than 0.
type answerError struct {
	code int
	err  error // nil: nothing to say
}

func (e *answerError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *answerError) Unwrap() error { return e.err }
