package main

import (
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/lmittmann/tint"
	"golang.org/x/term"
)

// newLogger writes to w: for people where that is a terminal, else JSON, one
// object a line. Times are UTC.
func newLogger(w io.Writer, level slog.Leveler, env map[string]string) *slog.Logger {
	if isTerminal(w) {
		return slog.New(tint.NewTextHandler(w, &tint.Options{
			Level:       level,
			TimeFormat:  "15:04:05.000Z",
			NoColor:     env["NO_COLOR"] != "" || env["TERM"] == "dumb",
			ReplaceAttr: readable,
		}))
	}
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: readable}))
}

// lastWord says why a service ends with an error, as the last line of its log, and
// returns what is left to say. On a terminal, and of a wrong configuration, that is
// what every command says.
func (a *app) lastWord(log *slog.Logger, err error) error {
	code := exitCode(err)
	if code == exitDone || code == exitUsage || isTerminal(a.stderr) {
		return err
	}
	log.Error("the receiver ends with an error", "error", oneLine(err.Error()), "code", code)
	return &codedError{code, errors.New("")}
}

// What --log-level can be.
const (
	logDebug = "debug"
	logInfo  = "info"
	logWarn  = "warn"
	logError = "error"
)

var logLevels = []string{logDebug, logInfo, logWarn, logError}

// levelOf is what is logged at least; with --verbose that is everything.
func levelOf(word string, verbose bool) slog.Level {
	switch {
	case verbose || word == logDebug:
		return slog.LevelDebug
	case word == logWarn:
		return slog.LevelWarn
	case word == logError:
		return slog.LevelError
	}
	return slog.LevelInfo
}

// isTerminal tells whether people look at what is written.
func isTerminal(w io.Writer) bool {
	file, ok := w.(interface{ Fd() uintptr })
	return ok && term.IsTerminal(int(file.Fd()))
}

// readable makes every time of a record UTC, whatever the zone of the host, and
// gives every duration its unit.
func readable(_ []string, attr slog.Attr) slog.Attr {
	switch attr.Value.Kind() {
	case slog.KindTime:
		attr.Value = slog.TimeValue(attr.Value.Time().In(time.UTC))
	case slog.KindDuration:
		attr.Value = slog.StringValue(attr.Value.Duration().String())
	}
	return attr
}
