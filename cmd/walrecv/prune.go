package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/walrecv/walrecv/internal/prune"
	"github.com/walrecv/walrecv/internal/units"
	"github.com/walrecv/walrecv/storage"
)

// pruneConfig is all that "walrecv prune" was told.
type pruneConfig struct {
	archive archiveOptions
	read    readOptions

	window units.Duration
	keep   int
	before place
	yes    bool
	json   bool
}

// Bounds of options: a window longer than all PostgreSQL there is, and more backups
// than anybody has.
const (
	maxWindow  = 100 * 365 * 24 * time.Hour
	maxBackups = 1_000_000
)

// newPrune declares the command.
func (a *app) newPrune() *cobra.Command {
	var cfg pruneConfig
	cmd := &cobra.Command{
		Use:   "prune [OPTION]...",
		Short: "Remove what a recovery window does not need any more",
		Long: `Removes base backups that no recovery within a window needs, and the WAL that is
older than all that stays; or, for those whose base backups are elsewhere, the WAL
before some place. Without --yes it only shows what would go.

For --before take the START WAL LOCATION of a backup_label. A backup needs WAL from
before its START TIME: from the checkpoint on with which it began.

The newest base backup that can be restored always stays with all WAL from its start
on, and so do backups that are being taken, the newest segment, and all timeline
histories.

  0  done, or shown
  1  something could not be removed; the archive is good for all that stays
  2  wrong usage or configuration`,
		Example: `  walrecv prune --archive /srv/wal --window 7d
  walrecv prune --archive /srv/wal --window 7d --keep-backups 2 --yes
  walrecv prune --archive /srv/wal --before 00000001000000A000000010 --yes`,
		DisableFlagsInUseLine: true,
		Args:                  noArguments,
		RunE: a.configured(cfg.check, func(cmd *cobra.Command, _ []string) error {
			return onlyFailed(a.runPrune(cmd.Context(), cfg))
		}),
	}
	addCommonOptions(cmd)
	addPruneOptions(cmd.Flags(), &cfg)
	return cmd
}

func addPruneOptions(fs *pflag.FlagSet, c *pruneConfig) {
	addArchiveOptions(fs, &c.archive)
	addReadOptions(fs, &c.read, onlyCluster)
	fs.Var(rangeValue(&c.window, time.Second, maxWindow), "window", "keep what a recovery to any moment of the last `DURATION` needs")
	fs.Var(numberValue(&c.keep, 1, maxBackups), "keep-backups", "keep the newest `N` base backups at least")
	fs.Var(placeValue(&c.before), "before", "remove the WAL before `LSN|SEGMENT|TIME`; a time needs an offset, and is not that of a backup_label")
	boolVar(fs, &c.yes, "yes", "", "remove it, and do not only show what would go")
	// Who removes something says so every time.
	onlyOnCommandLine(fs, "yes")
	boolVar(fs, &c.json, "json", "", "print one JSON document")
}

func (c *pruneConfig) check() error {
	byWindow := c.window != 0 || c.keep != 0
	switch {
	case !c.archive.given():
		return usageError("nothing to prune; use --archive")
	case !byWindow && !c.before.given():
		return usageError("nothing says what is to stay; use --window or --keep-backups, or --before if the base backups are elsewhere")
	case byWindow && c.before.given():
		return usageError("--before does not go together with --window or --keep-backups")
	}
	return nil
}

// onlyFailed is an error without the verdict that it is about a wrong cluster or archive:
// that is for those who write WAL.
func onlyFailed(err error) error {
	if exitCode(err) == exitWrong {
		return &codedError{exitFailed, err}
	}
	return err
}

// runPrune is the work of "walrecv prune". A signal may end it at any time: what is
// left is removed by the next.
func (a *app) runPrune(ctx context.Context, c pruneConfig) error {
	arch, _, err := a.openToRead(ctx, c.archive.location, c.read)
	if err != nil {
		return unreadable(err)
	}
	rule := prune.Rule{Window: time.Duration(c.window), Keep: c.keep}
	if rule.Before, rule.BeforeTime, err = c.before.in(ctx, arch); err != nil {
		return err
	}
	if rule == (prune.Rule{}) { // what is empty would not be taken for a place
		return usageError("--before %s: there is no WAL before that", c.before)
	}
	p := prune.New(arch, rule, time.Now())
	plan, err := p.Plan(ctx)
	if err != nil {
		return err
	}
	report := pruneReport{location: c.archive.location, id: arch.Identity(), plan: plan}
	if c.yes {
		var gone atomic.Int64
		total := prune.Total(plan.Sums).Bytes
		stop := showProgress(a.stderr, func() (int64, int64) { return gone.Load(), total })
		report.result, err = p.Remove(ctx, plan, func(bytes int64) { gone.Add(bytes) })
		stop()
		if err != nil {
			err = fmt.Errorf("not all was removed, and what stays is whole: %w", err)
		} else {
			plan.Notes = append(plan.Notes, a.sweep(ctx, c.archive.location)...)
		}
	}
	write := report.text
	if c.json {
		write = report.json
	}
	return errors.Join(write(a.stdout), err)
}

// sweep removes what writers that crashed left in a store, where it can have something.
// Nothing depends on it, so that what it has to say is a note.
func (a *app) sweep(ctx context.Context, location storage.Location) (notes []string) {
	raw, err := openStore(ctx, location, a.environ, storeOptions{})
	left, can := raw.(sweeper)
	if err != nil || !can {
		return nil // it was opened a moment ago
	}
	removed, err := left.Sweep(ctx, time.Now().Add(-leftOver))
	if removed > 0 {
		notes = append(notes, fmt.Sprintf("%s of uploads that were broken off removed", counted(int64(removed), "left-over")))
	}
	if err != nil {
		notes = append(notes, fmt.Sprintf("left-overs of uploads that were broken off could not be looked for: %v", err))
	}
	return notes
}
