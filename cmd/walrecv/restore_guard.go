package main

import (
	"errors"
	"runtime/debug"
)

// restoreGarbage is how many bytes there are at most while some of them are garbage.
const restoreGarbage = 14 << 20

// guardRestore prepares the process for being a restore_command. Go ends a
// panic and every fatal error of its runtime with exit code 2; from here on
// they abort instead, which the shell reports as 134.
func guardRestore() {
	debug.SetMemoryLimit(restoreGarbage)
	debug.SetTraceback("crash")
	guardServerCommand()
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
