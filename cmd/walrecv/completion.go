package main

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// isCompletion tells whether a shell asks what could stand next on a command line.
func isCompletion(args []string) bool {
	return len(args) > 0 && strings.HasPrefix(args[0], cobra.ShellCompRequestCmd)
}

// offerValues says what the values of options can be, and that no file names stand
// where there are no values.
func offerValues(cmd *cobra.Command) {
	if name := cmd.Name(); name != pushName && name != restoreName { // those take paths
		cmd.ValidArgsFunction = cobra.NoFileCompletions
	}
	offer := func(f *pflag.Flag) {
		_ = cmd.RegisterFlagCompletionFunc(f.Name, valuesOf(f)) // twice is no harm
		_, f.Usage = pflag.UnquoteUsage(f)                      // a shell shows it as it stands
	}
	cmd.Flags().VisitAll(offer)
	cmd.PersistentFlags().VisitAll(offer)
	for _, child := range cmd.Commands() {
		offerValues(child)
	}
}

func valuesOf(f *pflag.Flag) cobra.CompletionFunc {
	if c, ok := f.Value.(choice); ok {
		return cobra.FixedCompletions(c.words, cobra.ShellCompDirectiveNoFileComp)
	}
	switch value, _ := pflag.UnquoteUsage(f); value {
	case "FILE", "RECIPIENT":
		return cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault)
	case "DIR":
		return cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs)
	case "URL":
		return cobra.FixedCompletions([]string{"s3://", "/"}, cobra.ShellCompDirectiveNoSpace)
	case "METHOD[:LEVEL]":
		return cobra.FixedCompletions([]string{"none", "gzip", "lz4", "zstd"}, cobra.ShellCompDirectiveNoFileComp)
	}
	return cobra.NoFileCompletions
}
