package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/walrecv/walrecv/receiver"
	"github.com/walrecv/walrecv/storage"
)

// checkConfig is the work of "walrecv config check".
func (a *app) checkConfig(asking *cobra.Command, args []string) error {
	found := &findings{}
	for _, name := range strangeVariables(asking.Root(), a.environ) {
		found.warn("%s is no option of any command and is ignored%s", name,
			didYouMean("%s", name, slices.Sorted(maps.Keys(knownVariables(asking.Root())))))
	}
	cmd := asking
	if len(args) > 0 {
		var err error
		if cmd, err = a.target(asking, args); err != nil {
			return err
		}
	}
	path := (&loader{cmd: cmd}).configPath(environment(a.environ)) // it can stand behind the command
	if info, err := os.Stat(path); err == nil && info.Mode()&fs.ModeNamedPipe != 0 {
		return usageError("%s is a pipe, which can be read only once: what is to be checked has to be a file", path)
	}
	if len(args) > 0 {
		for _, text := range a.checkOne(cmd, args, found) {
			found.warn("%s", text)
		}
	} else {
		visitCommands(a.newRoot(), func(c *cobra.Command) {
			a.checkAny(asking, c, found)
		})
		if path != "" && len(found.faults) == 0 {
			a.checkTables(asking, path, found)
		}
	}
	for _, text := range found.warnings {
		say(a.stderr, "walrecv: warning: %s\n", oneLine(text))
	}
	slices.SortStableFunc(found.faults, func(a, b error) int { return lineOf(a) - lineOf(b) })
	for _, err := range found.faults {
		report(a.stderr, err, true)
	}
	if len(found.faults) > 0 {
		return &codedError{exitUsage, errors.New("")} // what for was printed already
	}
	_, err := fmt.Fprintf(a.stdout, "%s\n", soundConfig(path, args))
	return err
}

// lineOf is the line of the file in which something is wrong; what is wrong elsewhere
// comes before.
func lineOf(err error) int {
	var placed *configError
	if errors.As(err, &placed) {
		return placed.at.line
	}
	return 0
}

// soundConfig says what was found to be right.
func soundConfig(path string, args []string) string {
	what := "the environment is right"
	if path != "" {
		what = path + " and the environment are right"
	}
	if len(args) == 0 {
		return what + ", as far as that does not depend on the command; to check one: walrecv config check COMMAND"
	}
	return what
}

// findings are what is to be told, each once: most of it concerns several commands.
type findings struct {
	faults   []error
	warnings []string
}

func (f *findings) add(errs ...error) {
	for _, err := range errs {
		if err != nil && err.Error() != "" && !slices.ContainsFunc(f.faults, func(known error) bool { return known.Error() == err.Error() }) {
			f.faults = append(f.faults, err)
		}
	}
}

func (f *findings) warn(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(f.warnings, text) {
		f.warnings = append(f.warnings, text)
	}
}

// Write makes warnings of what is logged.
func (f *findings) Write(p []byte) (int, error) {
	f.warn("%s", strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

// checkAny loads the options of any command. What concerns more than one of them is
// not checked: the rest may stand on a command line.
func (a *app) checkAny(asking, c *cobra.Command, found *findings) {
	cmd, err := a.target(asking, strings.Fields(c.CommandPath())[1:])
	if err != nil {
		found.add(err)
		return
	}
	l := newLoader(cmd, cmd.Root)
	l.load(environment(a.environ))
	found.add(l.faults...)
	if f := cmd.Flags().Lookup("dbname"); f != nil {
		if err := receiver.CheckConninfo(f.Value.String()); err != nil {
			found.add(usageError("%s: %w", originOf(f), err))
		}
	}
}

// alone are the commands that may run with nothing on their command lines, by their
// tables.
var alone = map[string][]string{
	"backup": {"backup", "create"}, "check": {"check"}, "drill": {"drill"}, "prune": {"prune"}, "push": {"push"},
	"receive": {"receive"}, "restore": {"restore"}, "status": {"status"}, "verify": {"verify"},
}

// checkTables looks at what the commands would do that have a table in the file. What
// one would refuse is a warning: the rest may stand on its command line, or what it
// needs on another host.
func (a *app) checkTables(asking *cobra.Command, path string, found *findings) {
	doc, err := readDocument(path)
	if err != nil {
		found.add(err)
		return
	}
	var refused []string
	by := map[string][]string{}
	for _, e := range doc.entries("") {
		args := alone[e.key]
		if args == nil {
			continue
		}
		own := &findings{}
		cmd, err := a.target(asking, args)
		if err == nil {
			a.checkOne(cmd, args, own)
		}
		own.add(err)
		for _, err := range own.faults {
			text := err.Error()
			if by[text] == nil {
				refused = append(refused, text)
			}
			by[text] = append(by[text], strings.Join(args, " "))
		}
		for _, text := range own.warnings {
			found.warn("%s", text)
		}
	}
	for _, text := range refused {
		found.warn("%s; as the file stands, that is refused by: %s", text, strings.Join(by[text], ", "))
	}
}

// checkOne does all that a command does before it asks a server or a store. It returns
// what is of no use to it.
func (a *app) checkOne(cmd *cobra.Command, args []string, found *findings) (useless []string) {
	l := newLoader(cmd, cmd.Root)
	l.load(environment(a.environ))
	found.add(l.faults...)
	if len(l.faults) > 0 {
		return l.useless
	}
	// The rules between options are the command's own.
	dry := *a
	dry.dry, dry.stdout, dry.stderr = true, io.Discard, found
	again, err := dry.target(cmd, args)
	if err == nil {
		err = again.RunE(again, nil)
	}
	found.add(err)
	found.add(a.checkFiles(cmd, found)...)
	return l.useless
}

// checkFiles reads what the options of a command name.
func (a *app) checkFiles(cmd *cobra.Command, log io.Writer) (faults []error) {
	value := optionValues(cmd)
	if cmd.Flags().Lookup("dbname") != nil {
		_, err := a.connection(value.conn(), plainLogger(log))
		faults = append(faults, err)
	}
	encrypt := encryptOptions{value["encrypt-to"], value["digest-key"]}
	_, err := encrypt.encryption()
	faults = append(faults, err)
	_, err = (&readOptions{decryptWith: value["decrypt-with"]}).keys()
	faults = append(faults, err)
	_, err = webAccess(value["listen-config"], plainLogger(log))
	faults = append(faults, err)
	if url := value["archive"]; url != "" {
		location, err := storage.ParseURL(url)
		if err == nil {
			_, err = openStore(context.Background(), location, a.environ, storeOptions{})
		}
		faults = append(faults, err)
	}
	return faults
}

// visitCommands calls visit for every command that takes options from everywhere.
func visitCommands(c *cobra.Command, visit func(*cobra.Command)) {
	if !c.HasSubCommands() && isTable(topCommand(c).Name()) {
		visit(c)
	}
	for _, child := range c.Commands() {
		visitCommands(child, visit)
	}
}
