// Command walrecv keeps every committed byte of a PostgreSQL server
// restorable. This package is the door to the outside: options, environment,
// configuration file, signals, exit codes and the wiring of the packages that
// do the work. Only here the process ends, the environment is read and standard
// output is written.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"
)

func main() {
	if isHelper(os.Args[1:]) {
		runHelper(os.Args[1:], os.Environ())
		os.Exit(exitDone)
	}
	switch serverCommand(os.Args[1:]) {
	case restoreName:
		guardRestore()
	case pushName:
		guardServerCommand()
	}
	os.Exit(run(context.Background(), os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}

// app is one call of the program: where it reads and writes, and what the
// commands do.
type app struct {
	args    []string
	environ []string
	stdout  io.Writer // only for what a command was asked to print
	stderr  io.Writer

	receive func(context.Context, receiveConfig, *slog.Logger) error
	restore func(context.Context, restoreConfig, io.Writer) error
	push    func(context.Context, pushConfig, io.Writer) error

	// trial runs a restore_command as a server will; nil: it is not tried.
	trial func(context.Context, trialCommand) error

	dry bool // commands end before their work

	level  *slog.LevelVar // of the log of a receiver
	reload *reloader      // of a receiver; nil: its configuration stays

	pipe *os.File // kept open, see startHelper

	worked bool // restore or push was called: its nil means done
}

// run is the program without the process: it executes one command line and
// returns the exit code.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	a := &app{environ: environ, stdout: stdout, stderr: stderr}
	a.receive, a.restore, a.push = a.runReceive, a.runRestore, a.runPush
	a.trial = runTrial
	return a.run(ctx, args)
}

func (a *app) run(ctx context.Context, args []string) int {
	a.args = args
	command := serverCommand(args)
	build := a.newRoot
	if command == restoreName {
		build = a.newRestoreRoot
	}
	root := build()
	if isCompletion(args) {
		offerValues(root)
	}
	root.SetArgs(append([]string{}, args...)) // never nil: that would mean os.Args
	err := root.ExecuteContext(ctx)
	if command != "" && err == nil && !a.worked && !isHelp(args) {
		err = usageError("nothing was done; help is: walrecv %s --help", command)
	}
	report(a.stderr, err, command == "")
	switch command {
	case restoreName:
		return restoreExitCode(err)
	case pushName:
		return pushExitCode(err)
	}
	return exitCode(err)
}

// report prints an error in one line, if it has anything to say. With place,
// what is wrong in a configuration file is shown below.
func report(w io.Writer, err error, place bool) {
	if err == nil || err.Error() == "" {
		return
	}
	say(w, "walrecv: %s\n", oneLine(err.Error()))
	var placed *configError
	if place && errors.As(err, &placed) && placed.Detail() != "" {
		say(w, "%s\n", placed.Detail())
	}
}

// say writes for a person. If nobody can read it, there is nobody to tell.
func say(w io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }

// oneLine joins the lines of a message, and writes what could play tricks on a
// terminal as an escape: some of it comes from a server or an archive. Errors of
// the network come as lists.
func oneLine(message string) string {
	lines := strings.FieldsFunc(message, func(r rune) bool { return r == '\n' || r == '\r' })
	kept := lines[:0]
	for _, line := range lines {
		if line = strings.TrimSpace(line); line != "" {
			kept = append(kept, line)
		}
	}
	return escaped(strings.ReplaceAll(strings.Join(kept, "; "), ":; ", ": "))
}

// escaped writes each character that cannot be seen as Go writes it in quotes.
func escaped(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRuneInString(text[i:])
		if strconv.IsPrint(r) && (r != utf8.RuneError || n > 1) {
			b.WriteRune(r)
		} else {
			quoted := strconv.Quote(text[i : i+n])
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		i += n
	}
	return b.String()
}
