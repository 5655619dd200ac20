package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/backup"
)

// newBackup declares the commands for base backups.
func (a *app) newBackup() *cobra.Command {
	cmd := &cobra.Command{
		Use:                   "backup",
		Short:                 "Make, list, restore or delete base backups",
		DisableFlagsInUseLine: true,
		Args:                  cobra.ArbitraryArgs,
		RunE:                  noCommand,
	}
	addCommonOptions(cmd)
	cmd.AddCommand(a.newBackupCreate(), a.newBackupDelete(), a.newBackupList(), a.newBackupRestore())
	return cmd
}

// backupListConfig is all that "walrecv backup list" was told.
type backupListConfig struct {
	archive archiveOptions
	read    readOptions

	json bool
}

func (a *app) newBackupList() *cobra.Command {
	var cfg backupListConfig
	cmd := &cobra.Command{
		Use:   "list [OPTION]...",
		Short: "Show the base backups in an archive",
		Long: `Shows the base backups in an archive, oldest first, and whether the WAL that each of
them needs is still there. Only what is good can be restored; a backup that is running
or abandoned was not completed, and of one that is damaged something is missing or
cannot be read.`,
		Example:               "  walrecv backup list --archive /srv/wal",
		DisableFlagsInUseLine: true,
		Args:                  noArguments,
		RunE: a.configured(func() error { return cfg.archive.required("nothing to look at") }, func(cmd *cobra.Command, _ []string) error {
			return a.runBackupList(cmd.Context(), cfg)
		}),
	}
	addCommonOptions(cmd)
	addArchiveOptions(cmd.Flags(), &cfg.archive)
	addReadOptions(cmd.Flags(), &cfg.read, onlyCluster)
	boolVar(cmd.Flags(), &cfg.json, "json", "", "print one JSON document")
	return cmd
}

// runBackupList is the work of "walrecv backup list". It changes nothing, so a signal
// may end it at any time.
func (a *app) runBackupList(ctx context.Context, c backupListConfig) error {
	arch, _, err := a.openToRead(ctx, c.archive.location, c.read)
	if err != nil {
		return unreadable(err)
	}
	report, err := backup.Gather(ctx, arch, c.archive.location.String(), time.Now(), archive.Pause)
	if err != nil {
		return err
	}
	if c.json {
		return writeJSON(a.stdout, report)
	}
	return report.Text(a.stdout)
}
