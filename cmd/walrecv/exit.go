package main

import (
	"errors"
	"fmt"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/restore"
	"github.com/walrecv/walrecv/receiver"
	"github.com/walrecv/walrecv/segment"
)

// Exit codes. They are part of the interface: service managers and
// PostgreSQL's restore_command act on them.
const (
	exitDone       = 0
	exitFailed     = 1
	exitUsage      = 2
	exitUnsound    = 3 // what was checked is not sound
	exitWrong      = 4 // another cluster, archive or branch
	exitGap        = 5 // WAL is missing and may not be skipped
	exitRestoreBad = restore.CodeMisconfigured
	exitQuit       = 131 // what a shell reports for SIGQUIT
)

// codedError gives an error the exit code that the process ends with.
type codedError struct {
	code int
	err  error
}

func (e *codedError) Error() string { return e.err.Error() }
func (e *codedError) Unwrap() error { return e.err }

// usageError says that the command line or the configuration is wrong.
func usageError(format string, args ...any) error {
	return &codedError{exitUsage, fmt.Errorf(format, args...)}
}

// exitCode is the one place where an error becomes an exit code.
func exitCode(err error) int {
	var (
		coded    *codedError
		gap      *receiver.GapError
		conflict *archive.ConflictError
		format   *archive.FormatError
	)
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &coded):
		return coded.code
	case errors.As(err, &gap):
		return exitGap
	case errors.As(err, &conflict), errors.As(err, &format),
		errors.Is(err, segment.ErrWrongCluster), errors.Is(err, segment.ErrBranch), errors.Is(err, segment.ErrHistoryConflict):
		return exitWrong
	case receiver.Classify(err) == receiver.ClassUsage:
		return exitUsage
	}
	return exitFailed
}
