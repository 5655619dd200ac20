package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/drill"
)

// drillConfig is all that "walrecv drill" was told.
type drillConfig struct {
	archive archiveOptions
	read    readOptions
	conn    connOptions
	target  targetOptions

	random        bool
	binDir        string
	checks        []string
	checkFile     string
	checkDatabase string
	json          bool
	html          string // file; empty: none
}

// newDrill declares the command.
func (a *app) newDrill() *cobra.Command {
	var cfg drillConfig
	cmd := &cobra.Command{
		Use:   "drill [OPTION]...",
		Short: "Prove that an archive restores",
		Long: `Restores a base backup into a directory below TMPDIR, starts PostgreSQL on it, lets
it recover from the archive, looks at what came out, measures how long that took and
how much would be lost, and removes everything. The server listens on no port,
archives nothing and tells nobody. The result is kept in the archive.

With connection options, or PGHOST, the server is asked how far it is.

  0  restored, and all checks were passed
  1  nothing was drilled: the archive did not answer, say; or the result could not
     be kept in the archive
  2  wrong usage or configuration
  3  the archive was not proven to be restorable; the report says why`,
		Example:               "  walrecv drill --archive /srv/wal --check 'select count(*) > 0 from accounts'",
		DisableFlagsInUseLine: true,
		Args:                  noArguments,
		RunE: a.configured(cfg.check, func(cmd *cobra.Command, _ []string) error {
			return a.runDrill(cmd.Context(), cfg)
		}),
	}
	addCommonOptions(cmd)
	addDrillOptions(cmd.Flags(), &cfg)
	return cmd
}

func addDrillOptions(fs *pflag.FlagSet, c *drillConfig) {
	c.checkDatabase = "postgres"
	addArchiveOptions(fs, &c.archive)
	addReadOptions(fs, &c.read, onlyCluster)
	addTargetOptions(fs, &c.target, actionPromote, actionPause)
	boolVar(fs, &c.random, "random-target", "", "recover up to a point that is chosen by chance")
	fs.Var(textValue(&c.binDir), "pg-bindir", "take PostgreSQL's programs from the directory `DIR`")
	fs.Lookup("pg-bindir").DefValue = "Debian's place, then along PATH"
	fs.Var(checksValue{&c.checks}, "check", "ask the restored server `SQL`, which has to give one true; may be given several times")
	onlyOnCommandLine(fs, "check") // a file can have several
	fs.Var(textValue(&c.checkFile), "check-file", "ask every statement in `FILE`; each ends with a semicolon at the end of a line")
	fs.Var(textValue(&c.checkDatabase), "check-dbname", "ask in the database `DB`")
	boolVar(fs, &c.json, "json", "", "print one JSON document")
	fs.Var(textValue(&c.html), "html", "write the report as a page to `FILE`, too")
	addConnOptions(fs, &c.conn)
}

func (c *drillConfig) check() error {
	if !c.archive.given() {
		return usageError("nothing to restore from; use --archive")
	}
	if !archive.IsID(c.target.backup) {
		return usageError("--backup: %q cannot be the ID of a base backup", c.target.backup)
	}
	target, err := c.target.target()
	if err != nil {
		return err
	}
	pointless := target.Kind == 0 && !c.random
	switch {
	case c.random && target.Kind != 0:
		return usageError("--random-target and another target cannot be given together")
	case c.random && c.target.backup != latestBackup:
		return usageError("--random-target chooses the base backup, too: do not give --backup")
	case c.random && c.target.timeline != 0:
		return usageError("--random-target chooses the timeline, too: do not give --target-timeline")
	case pointless && c.target.action == actionPause:
		return usageError("--target-action=pause needs a target: at the end of the archive a server is always promoted")
	}
	return c.conn.check()
}

// allChecks are those of the command line, then those of the file.
func (c *drillConfig) allChecks() ([]string, error) {
	checks := append([]string(nil), c.checks...)
	if c.checkFile == "" {
		return checks, nil
	}
	data, err := os.ReadFile(c.checkFile)
	if err != nil {
		return nil, usageError("--check-file: %w", err)
	}
	more, err := drill.ParseChecks(string(data))
	if err != nil {
		return nil, usageError("--check-file: %s: %w", c.checkFile, err)
	}
	if len(more) == 0 {
		return nil, usageError("--check-file: %s has no statement", c.checkFile)
	}
	return append(checks, more...), nil
}

// checksValue collects statements. Commas do not part them.
type checksValue struct{ target *[]string }

// Set implements pflag.Value. It adds to what is there.
func (v checksValue) Set(text string) error {
	found, err := drill.ParseChecks(text)
	switch {
	case err != nil:
		return err
	case len(found) != 1:
		return fmt.Errorf("%d statements: want one", len(found))
	}
	*v.target = append(*v.target, found...)
	return nil
}

// String implements pflag.Value.
func (v checksValue) String() string { return "" }

// Type implements pflag.Value.
func (v checksValue) Type() string { return kindString }
