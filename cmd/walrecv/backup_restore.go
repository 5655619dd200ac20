package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/backup"
	"github.com/walrecv/walrecv/internal/extract"
	"github.com/walrecv/walrecv/internal/recovery"
	"github.com/walrecv/walrecv/internal/restore"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/receiver"
	"github.com/walrecv/walrecv/storage"
)

// undoDeadline is how long a restore that is interrupted may take to remove what it
// made.
const undoDeadline = 10 * time.Minute

// actionShutdown is what --target-action may be besides what a drill can do.
const actionShutdown = "shutdown"

// backupRestoreConfig is all that "walrecv backup restore" was told.
type backupRestoreConfig struct {
	archive archiveOptions
	read    readOptions
	target  targetOptions

	targetDir       string
	mapping         map[string]string // tablespaces: where they were, where they go
	verify          bool
	standby         bool
	primaryConninfo string
	slot            string
	keepArchiving   bool

	config      string // configuration file that was read; empty: none
	actionGiven bool
}

// newBackupRestore declares the command.
func (a *app) newBackupRestore() *cobra.Command {
	cfg := backupRestoreConfig{mapping: map[string]string{}}
	var cmd *cobra.Command
	cmd = &cobra.Command{
		Use:   "restore [OPTION]...",
		Short: "Lay out a data directory, ready for recovery",
		Long: `Restores a base backup into an empty directory and writes the settings with which a
server that is started on it recovers from the archive: to the end of the WAL, to the
point that a --target option names, or, with --standby, on and on. A point that the
archive cannot reach is refused before anything is written.

Every file is compared with the manifest of the backup. A restore that fails removes
what it made. Run by root, it makes the files for the owner of the empty directory, or
for user postgres.`,
		Example: `  walrecv backup restore --archive /srv/wal --target-dir /var/lib/postgresql/15/main
  walrecv backup restore --archive /srv/wal --target-dir /tmp/then --target-time '2026-01-31 12:00:00+00'`,
		DisableFlagsInUseLine: true,
		Args:                  noArguments,
		RunE: a.configured(func() error {
			cfg.config = (&loader{cmd: cmd}).configPath(environment(a.environ))
			cfg.actionGiven = cmd.Flags().Changed("target-action")
			return cfg.check()
		}, func(cmd *cobra.Command, _ []string) error {
			ctx, stop := interruptible(cmd.Context(), undoDeadline, a.stderr, os.Exit)
			defer stop()
			return notWrong(a.runBackupRestore(ctx, cfg))
		}),
	}
	addCommonOptions(cmd)
	addBackupRestoreOptions(cmd.Flags(), &cfg)
	return cmd
}

func addBackupRestoreOptions(fs *pflag.FlagSet, c *backupRestoreConfig) {
	addArchiveOptions(fs, &c.archive)
	fs.Var(textValue(&c.targetDir), "target-dir", "restore into the directory `DIR`, which is empty or made")
	addTargetOptions(fs, &c.target, actionPause, actionPromote, actionShutdown)
	boolVar(fs, &c.standby, "standby", "", "make a replica, which goes on until it is promoted")
	fs.Var(textValue(&c.primaryConninfo), "primary-conninfo", "with --standby: also stream from the server that the connection string `CONNSTR` names")
	fs.VarP(textValue(&c.slot), "slot", "S", "with --primary-conninfo: stream by the replication slot `NAME`, and have no restore_command")
	fs.Var(mappingValue{c.mapping}, "tablespace-mapping", "restore the tablespace that was in a directory into another one: `OLDDIR=NEWDIR`; may be given several times")
	boolVar(fs, &c.verify, "verify", "", "read everything back from the disk and compare it once more")
	boolVar(fs, &c.keepArchiving, "keep-archiving", "", "leave archive_mode as it was instead of switching it off")
	addReadOptions(fs, &c.read, onlyCluster)
	// What is for one restore is not found by chance: WALRECV_SLOT is a receiver's.
	annotate(fs, holdsConninfo, "primary-conninfo")
	onlyOnCommandLine(fs, "target-dir", "standby", "primary-conninfo", "slot", "tablespace-mapping")
}

func (c *backupRestoreConfig) check() error {
	target, err := c.target.target()
	switch {
	case err != nil:
		return err
	case !c.archive.given():
		return usageError("nothing to restore from; use --archive")
	case c.targetDir == "":
		return usageError("nowhere to restore to; use --target-dir")
	case c.standby && target.Kind != recovery.Latest:
		return usageError("a standby goes on to the end: --standby and a target cannot be given together")
	case !c.standby && c.primaryConninfo != "":
		return usageError("--primary-conninfo needs --standby")
	case c.slot != "" && c.primaryConninfo == "":
		return usageError("--slot needs --primary-conninfo")
	case c.actionGiven && target.Kind == recovery.Latest:
		return usageError("--target-action needs a target: at the end of the archive a server is always promoted")
	}
	if err := receiver.CheckConninfo(c.primaryConninfo); err != nil {
		return usageError("--primary-conninfo: %w", err)
	}
	if c.slot != "" {
		if err := receiver.CheckSlotName(c.slot); err != nil {
			return usageError("--slot: %w", err)
		}
	}
	return c.absolute()
}

// absolute makes the paths absolute that outlive this process.
func (c *backupRestoreConfig) absolute() error {
	for _, path := range []*string{&c.targetDir, &c.read.decryptWith, &c.config} {
		if *path == "" {
			continue
		}
		var err error
		if *path, err = filepath.Abs(*path); err != nil {
			return err
		}
	}
	return nil
}

// runBackupRestore is the work of "walrecv backup restore".
func (a *app) runBackupRestore(ctx context.Context, c backupRestoreConfig) error {
	stderr := &aboveBar{w: a.stderr}
	log := newLogger(stderr, slog.LevelInfo, environment(a.environ))
	if a.exposed(c.primaryConninfo) {
		log.Warn("everybody on this host can see the password in --primary-conninfo while this runs: give passfile=FILE there instead, a password file on the replica's host")
	}
	owner, err := ownerFor(c.targetDir)
	if err != nil {
		return err
	}
	arch, _, err := a.openToRead(ctx, c.archive.location, c.read)
	if err != nil {
		return unreadable(err)
	}
	plan, err := choosePlan(ctx, arch, c.target)
	if err != nil {
		return err
	}
	settings, err := a.recoverySettings(c, plan, arch.Identity().SystemID)
	if err != nil {
		return err
	}
	options := extract.Options{Dir: c.targetDir, Mapping: c.mapping, Owner: owner.ids(), Reread: c.verify}
	if c.archive.location.Scheme == storage.SchemeFile {
		options.Apart = []string{c.archive.location.Path}
	}
	if err := extract.Check(plan.Backup, options); err != nil {
		return misplaced(err)
	}
	trial := a.tryRestoreCommand(ctx, settings.RestoreCommand, owner, c.archive.location, log)
	defer trial.cancel()
	log.Info("restoring a base backup", "backup", plan.Backup.ID, "into", c.targetDir, "bytes", plan.Backup.PlainSize)
	r := &restoring{app: a, config: c, plan: plan, settings: settings, id: arch.Identity(), log: log}
	progress := &restoreProgress{began: time.Now()}
	stop := showTransfer(stderr, log, progress)
	options.Progress = progress.set
	options.Prepare = func(dir string) error { return r.prepare(ctx, dir) }
	result, err := extract.Run(ctx, arch, plan.Backup, options)
	stop()
	if err != nil {
		return misplaced(err)
	}
	return r.tell(a.stdout, result, owner, trial.verdict())
}

// choosePlan finds the backup that fits.
func choosePlan(ctx context.Context, arch *archive.Archive, o targetOptions) (*recovery.Plan, error) {
	target, err := o.target()
	if err != nil {
		return nil, err
	}
	entries, err := backup.List(ctx, arch, time.Now())
	if err != nil {
		return nil, err
	}
	return recovery.Choose(ctx, arch, entries, target, o.backup)
}

// misplaced makes directories that do not fit a matter of usage.
func misplaced(err error) error {
	var mapping *extract.MappingError
	var place *extract.PlaceError
	switch {
	case errors.As(err, &mapping):
		return usageError("--tablespace-mapping: %w", err)
	case errors.As(err, &place):
		return usageError("%w (--target-dir and --tablespace-mapping say where they go)", err)
	}
	return err
}

// recoverySettings are what the restored server is told.
func (a *app) recoverySettings(c backupRestoreConfig, plan *recovery.Plan, system uint64) (recovery.Settings, error) {
	s := recovery.Settings{
		Target: plan.Target, Action: c.target.action, Standby: c.standby,
		PrimaryConninfo: c.primaryConninfo, Slot: c.slot, KeepArchiving: c.keepArchiving,
	}
	if !c.standby {
		// The one that was looked at, and not another one that comes meanwhile.
		s.Target.Timeline = recovery.Timeline(plan.Timeline)
	}
	if c.slot != "" {
		return s, nil
	}
	var err error
	s.RestoreCommand, err = a.restoreCommand(c, system)
	return s, err
}

// restoring is a restore whose files are there.
type restoring struct {
	app      *app
	config   backupRestoreConfig
	plan     *recovery.Plan
	settings recovery.Settings
	id       archive.Identity
	laid     restore.Laid
	log      *slog.Logger
}

// prepare adds what is not in the backup: the settings and, for a server without a
// restore_command, the WAL; for any, the WAL that it would not ask for.
func (r *restoring) prepare(ctx context.Context, dir string) error {
	options, err := r.app.laying(r.config.archive.location, r.config.read, dir, r.log)
	if err != nil {
		return err
	}
	route := routeOf(r.id, r.plan)
	if r.settings.RestoreCommand == "" {
		if r.laid, err = restore.Lay(ctx, options, dir, route); err != nil {
			return err
		}
	}
	if err := restore.LayForks(ctx, options, dir, route); err != nil {
		return err
	}
	if err := r.settings.Write(dir); err != nil {
		return fmt.Errorf("recovery settings: %w", err)
	}
	return nil
}

// laying are the options to put WAL from an archive into a data directory.
func (a *app) laying(l storage.Location, read readOptions, dir string, log *slog.Logger) (restore.Options, error) {
	fsys, err := vfs.OwnedAs(dir)
	return restore.Options{FS: fsys, Archive: a.archivePlace(l), Keys: read.keys, Logger: log}, err
}

// routeOf is the WAL that a recovery goes along.
func routeOf(id archive.Identity, p *recovery.Plan) restore.Route {
	return restore.Route{Cluster: id.Segment(), History: p.History, From: p.Backup.StartLSN}
}
