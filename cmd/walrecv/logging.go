package main

import (
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
			ReplaceAttr: inUTC,
		}))
	}
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: inUTC}))
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

// inUTC makes every time of a record UTC, whatever the zone of the host.
func inUTC(_ []string, attr slog.Attr) slog.Attr {
	if attr.Value.Kind() == slog.KindTime {
		attr.Value = slog.TimeValue(attr.Value.Time().In(time.UTC))
	}
	return attr
}
