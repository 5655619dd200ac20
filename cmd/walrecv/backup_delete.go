package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/backup"
	"github.com/walrecv/walrecv/internal/recovery"
	"github.com/walrecv/walrecv/internal/units"
)

// backupDeleteConfig is all that "walrecv backup delete" was told.
type backupDeleteConfig struct {
	archive archiveOptions
	read    readOptions

	window units.Duration
	force  bool
}

func (a *app) newBackupDelete() *cobra.Command {
	var cfg backupDeleteConfig
	cmd := &cobra.Command{
		Use:   "delete [OPTION]... ID",
		Short: "Delete a base backup",
		Long: `Deletes a base backup, but not its WAL: walrecv prune removes what no backup needs.
Refused is one that is running, one that cannot be read, and one without which the end
of the archive cannot be recovered any more, or, with --window, any moment since then.`,
		Example:               "  walrecv backup delete --archive /srv/wal --window 7d 20261122T073000Z",
		DisableFlagsInUseLine: true,
		Args:                  arguments("ID"),
		RunE: a.configured(func() error { return cfg.archive.required("no archive given") }, func(cmd *cobra.Command, args []string) error {
			if !archive.IsID(args[0]) {
				return usageError("%q cannot be the ID of a base backup", args[0])
			}
			return a.runBackupDelete(cmd.Context(), cfg, args[0], time.Now())
		}),
	}
	addCommonOptions(cmd)
	addArchiveOptions(cmd.Flags(), &cfg.archive)
	addReadOptions(cmd.Flags(), &cfg.read, onlyCluster)
	cmd.Flags().Var(&cfg.window, "window", "refuse what takes away from what can be recovered of the last `D`")
	boolVar(cmd.Flags(), &cfg.force, "force", "", "delete it whatever is lost, also if it is running or cannot be read")
	// Who removes something says so every time.
	onlyOnCommandLine(cmd.Flags(), "force")
	return cmd
}

// runBackupDelete is the work of "walrecv backup delete". What a signal leaves of the
// backup is not good, and is deleted by the next call.
func (a *app) runBackupDelete(ctx context.Context, c backupDeleteConfig, id string, now time.Time) error {
	arch, _, err := a.openToRead(ctx, c.archive.location, c.read)
	if err != nil {
		return unreadable(err)
	}
	entries, err := backup.List(ctx, arch, now)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(entries, func(e backup.Entry) bool { return e.ID == id })
	if i < 0 {
		return fmt.Errorf("there is no base backup %s in the archive", id)
	}
	if !c.force {
		why, err := mayNotDelete(ctx, arch, entries, entries[i], now, time.Duration(c.window))
		if err != nil {
			return err
		}
		if why != "" {
			return fmt.Errorf("the base backup %s was not deleted: %s; --force deletes it all the same", id, why)
		}
	}
	if err := undeletable(backup.Delete(ctx, arch, entries[i])); err != nil {
		return fmt.Errorf("delete the base backup %s: %w", id, err)
	}
	_, err = fmt.Fprintf(a.stdout, "base backup %s is deleted\n", id)
	return err
}

// mayNotDelete says why a base backup should stay; "" if it need not.
func mayNotDelete(ctx context.Context, a *archive.Archive, all []backup.Entry, e backup.Entry, now time.Time, window time.Duration) (why string, err error) {
	switch e.State {
	case backup.Running:
		return "it may still be running: it was not completed, and something was added to it within the last 24 hours", nil
	case backup.Damaged:
		return fmt.Sprintf("it may be good, but cannot be read: %v", e.Damage), nil
	case backup.Abandoned:
		return "", nil
	}
	s, err := recovery.Look(ctx, a, archive.Pause)
	if err != nil {
		return "", err
	}
	var since time.Time
	if window > 0 {
		since = now.Add(-window)
	}
	if loss := s.Loss(all, e.ID, since); loss != "" {
		return loss + " without it", nil
	}
	return "", nil
}

// undeletable says what to do about an archive in which nothing can be deleted.
func undeletable(err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: deleting takes a right that writing does not, see docs/s3.md", err)
	case errors.Is(err, archive.ErrCannotDelete):
		return fmt.Errorf("%w what is in this archive", err)
	}
	return err
}
