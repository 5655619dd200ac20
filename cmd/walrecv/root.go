package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// newRoot builds the tree of commands. It is built for every call: options are
// bound to the variables of one run.
func (a *app) newRoot() *cobra.Command {
	root := a.newBareRoot()
	root.AddCommand(a.newBackup(), a.newCheck(), a.newConfig(), a.newDrill(), a.newDrillServer(), a.newDrillWatchdog(), a.newPrefetchHelper(), a.newPrune(), a.newPush(), a.newReceive(), a.newRestore(), a.newSlot(), a.newStatus(), a.newVerify(), a.newVersion())
	return root
}

// newRestoreRoot builds restore and no other command. PostgreSQL starts it for every
// segment, and building the others takes longer than delivering one that is here.
func (a *app) newRestoreRoot() *cobra.Command {
	root := a.newBareRoot()
	root.AddCommand(a.newRestore())
	root.CompletionOptions.DisableDefaultCmd = true
	return root
}

func (a *app) newBareRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "walrecv",
		Short: "Keeps every committed byte of a PostgreSQL server restorable",
		Long: `walrecv streams the write-ahead log (WAL) of a PostgreSQL server, makes it
durable, archives it, and hands it back to restore_command.

An option --some-name may also be given as the environment variable
WALRECV_SOME_NAME or as some_name in a TOML file (--config). The command line
wins over the environment, and the environment over the file. Connection options
have libpq's variables (PGHOST, PGPORT, ...) instead.`,
		DisableFlagsInUseLine: true,
		SilenceErrors:         true,
		SilenceUsage:          true,
		Args:                  cobra.ArbitraryArgs,
		RunE: a.printVersionOr(func(cmd *cobra.Command, args []string) error {
			return noCommand(cmd, args)
		}),
	}
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetFlagErrorFunc(flagError)
	addCommonOptions(root)
	addVersionOption(root.Flags())
	addConfigOption(root)
	return root
}

// configured wraps the work of a command: its options are complete when it
// runs, and keep the rules between them. A dry run ends there.
func (a *app) configured(rules func() error, work func(*cobra.Command, []string) error) func(*cobra.Command, []string) error {
	return a.printVersionOr(func(cmd *cobra.Command, args []string) error {
		if err := loadConfig(cmd, a.environ, a.newRoot); err != nil {
			return err
		}
		if err := rules(); err != nil || a.dry {
			return err
		}
		return work(cmd, args)
	})
}

// printVersionOr wraps the work of a command that may have -V.
func (a *app) printVersionOr(work func(*cobra.Command, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if f := cmd.Flags().Lookup("version"); f != nil && f.Changed {
			return a.printVersion()
		}
		return work(cmd, args)
	}
}

// noCommand is the work of a command that only has commands below it.
func noCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usageError("no command given; try %q", cmd.CommandPath()+" --help")
	}
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return usageError("unknown command %q; did you mean %q?", args[0], cmd.CommandPath()+" "+near[0])
	}
	return usageError("unknown command %q; try %q", args[0], cmd.CommandPath()+" --help")
}

// flagError words what pflag refuses.
func flagError(cmd *cobra.Command, err error) error {
	if args := cmd.Flags().Args(); cmd.HasSubCommands() && len(args) > 0 {
		return noCommand(cmd, args) // "walrecv reciv -D x": the option is not what is wrong
	}
	var invalid *pflag.InvalidValueError
	if errors.As(err, &invalid) {
		return usageError("--%s: %w", invalid.GetFlag().Name, invalid.Unwrap())
	}
	return usageError("%w; try %q", err, cmd.CommandPath()+" --help")
}

// noArguments refuses arguments, in pg_receivewal's words.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError("too many command-line arguments (first is %q); try %q", args[0], cmd.CommandPath()+" --help")
	}
	return nil
}

// arguments asks for exactly these arguments.
func arguments(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > len(names) {
			return usageError("too many command-line arguments (first is %q); try %q",
				args[len(names)], cmd.CommandPath()+" --help")
		}
		for i, name := range names {
			if i >= len(args) || args[i] == "" {
				return usageError("%s is missing; usage: %s", name, fmt.Sprintf("%s %s", cmd.CommandPath(), strings.Join(names, " ")))
			}
		}
		return nil
	}
}
