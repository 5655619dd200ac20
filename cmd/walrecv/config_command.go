package main

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// newConfig declares the commands that look at the configuration of the others.
func (a *app) newConfig() *cobra.Command {
	cmd := &cobra.Command{
		Use:                   "config",
		Short:                 "Check or show the configuration of a command",
		DisableFlagsInUseLine: true,
		Args:                  cobra.ArbitraryArgs,
		RunE:                  noCommand,
	}
	addCommonOptions(cmd)
	cmd.AddCommand(a.newConfigCheck(), a.newConfigShow())
	return cmd
}

func (a *app) newConfigCheck() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check [COMMAND [OPTION]...]",
		Short: "Check the configuration file and the environment",
		Long: `Reads the configuration file and the environment as every command does, and shows
all that is wrong. What concerns more than one option, the files that hold keys, and how
to connect, is checked as the commands do before they connect: without a command for all
that have a table in the file, and what one would refuse is a warning; with a command for
that one, and options that stand behind it count like those of its own command line.
Nothing is ever connected or written.

  0  nothing is wrong; there can be warnings
  2  something is wrong`,
		Example: `  walrecv config check --config /etc/walrecv/walrecv.toml
  walrecv config check --config /etc/walrecv/walrecv.toml receive`,
		DisableFlagsInUseLine: true,
		Args:                  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.checkConfig(cmd, args)
		},
	}
	addCommonOptions(cmd)
	cmd.Flags().SetInterspersed(false)
	return cmd
}

// showOptions are those of "config show".
type showOptions struct{ json bool }

func (a *app) newConfigShow() *cobra.Command {
	var o showOptions
	cmd := &cobra.Command{
		Use:   "show [OPTION]... COMMAND [OPTION]...",
		Short: "Show the options of a command, and where each value came from",
		Long: `Shows the value that each option of a command has, and whether it comes from the
command line behind the command's name, from the environment, from the configuration
file, or is the default; and in the same way how a server is connected to. Passwords
and keys are not shown. Nothing is connected.`,
		Example:               "  walrecv config show --config /etc/walrecv/walrecv.toml receive",
		DisableFlagsInUseLine: true,
		Args:                  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.showConfig(cmd, args, o)
		},
	}
	addCommonOptions(cmd)
	boolVar(cmd.Flags(), &o.json, jsonOption, "", "print one JSON document")
	annotate(cmd.Flags(), notInEnvironment, jsonOption)
	annotate(cmd.Flags(), notInFile, jsonOption)
	cmd.Flags().SetInterspersed(false)
	return cmd
}

// target is the command that args name, with the options that stand behind it. The
// configuration file may also have been named before.
func (a *app) target(asking *cobra.Command, args []string) (*cobra.Command, error) {
	root := a.newRoot()
	cmd, rest, err := root.Find(args)
	if err != nil {
		return nil, usageError("%w", err)
	}
	if cmd.HasSubCommands() {
		return nil, noCommand(cmd, rest)
	}
	if !isTable(topCommand(cmd).Name()) {
		return nil, usageError("%q has no configuration", cmd.CommandPath())
	}
	if cmd.Flags().Lookup(jsonOption) == nil {
		// It is of "config show", wherever it stands.
		cmd.Flags().Bool(jsonOption, false, "")
		onlyOnCommandLine(cmd.Flags(), jsonOption)
		cmd.Flags().Lookup(jsonOption).Hidden = true
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return nil, flagError(cmd, err)
	}
	if file := asking.Flags().Lookup(configOption); file.Changed && !cmd.Flags().Changed(configOption) {
		err = cmd.Flags().Set(configOption, file.Value.String())
	}
	return cmd, err
}

// jsonOption is the name of the option of every command that can print JSON.
const jsonOption = "json"

// options are the values of a command's options, by name.
type options map[string]string

func optionValues(cmd *cobra.Command) options {
	values := options{}
	cmd.Flags().VisitAll(func(f *pflag.Flag) { values[f.Name] = f.Value.String() })
	return values
}

func (o options) conn() connOptions {
	return connOptions{
		dbname: o["dbname"], host: o["host"], port: o["port"], username: o["username"],
		noPassword: o["no-password"] == "true", password: o["password"] == "true", primaryOnly: o["primary-only"] == "true",
	}
}
