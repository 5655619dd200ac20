package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// Set by the build: -ldflags "-X main.version=1.2.3 -X main.commit=abcdef0".
var (
	version = "devel"
	commit  = ""
)

func (a *app) newVersion() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print version, commit and Go version",
		Args:  noArguments,
		RunE:  func(*cobra.Command, []string) error { return a.printVersion() },
	}
	addCommonOptions(cmd)
	return cmd
}

func (a *app) printVersion() error {
	_, err := fmt.Fprintf(a.stdout, "walrecv %s (commit %s, %s)\n", version, builtFrom(), runtime.Version())
	return err
}

// builtFrom is the commit that the build was given, else what Go itself noted.
func builtFrom() string {
	if commit != "" {
		return commit
	}
	var revision, dirty string
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				revision = s.Value
			case s.Key == "vcs.modified" && s.Value == "true":
				dirty = "-dirty"
			}
		}
	}
	if revision == "" {
		return "unknown"
	}
	return revision + dirty
}
