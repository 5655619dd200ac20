package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/backup"
	"github.com/walrecv/walrecv/internal/basebackup"
	"github.com/walrecv/walrecv/internal/units"
	"github.com/walrecv/walrecv/receiver"
)

// backupApplication is how servers see the connection of a base backup. A walsender
// that sends one is never a synchronous standby, whatever its name; the name is for
// people.
const backupApplication = "walrecv_backup"

// backupCreateConfig is all that "walrecv backup create" was told.
type backupCreateConfig struct {
	conn    connOptions
	archive archiveOptions
	encrypt encryptOptions

	label            string
	checkpoint       string // basebackup.Fast or Spread
	maxRate          int    // kB/s; 0: no limit
	wait             units.Duration
	verbose          bool
	allowUnsafeStore bool
}

// newBackupCreate declares the command.
func (a *app) newBackupCreate() *cobra.Command {
	var cfg backupCreateConfig
	cmd := &cobra.Command{
		Use:   "create [OPTION]...",
		Short: "Take a base backup into the archive",
		Long: `Takes a base backup from a server, a primary or a standby, straight into an archive
into which walrecv receive streams its WAL. The backup is good, and listed as such,
once all of it and the WAL that it needs are in the archive. One that fails or is
interrupted counts for nothing; walrecv prune removes what there is of it.`,
		Example:               "  walrecv backup create -d 'host=db1 user=replicator' --archive /srv/wal",
		DisableFlagsInUseLine: true,
		Args:                  noArguments,
		RunE: a.configured(cfg.check, func(cmd *cobra.Command, _ []string) error {
			ctx, stop := interruptible(cmd.Context(), stopDeadline, a.stderr, os.Exit)
			defer stop()
			return notWrong(a.runBackupCreate(ctx, cfg))
		}),
	}
	addCommonOptions(cmd)
	addBackupCreateOptions(cmd.Flags(), &cfg)
	return cmd
}

func addBackupCreateOptions(fs *pflag.FlagSet, c *backupCreateConfig) {
	c.label = "walrecv base backup"
	c.checkpoint = basebackup.Fast
	c.wait = units.Duration(10 * time.Minute)
	fs.VarP(choiceValue(&c.checkpoint, basebackup.Fast, basebackup.Spread), "checkpoint", "c", "begin with a checkpoint of this `KIND`: fast or spread")
	fs.VarP(labelValue(&c.label), "label", "l", "set the backup's `LABEL`")
	fs.VarP(rateValue(&c.maxRate), "max-rate", "r", "let the server send no more than `RATE`: in kB/s, or with the suffix k or M")
	fs.Lookup("max-rate").DefValue = "" // 0 is none
	boolVar(fs, &c.verbose, "verbose", "v", "output verbose messages")
	addConnOptions(fs, &c.conn)
	addArchiveOptions(fs, &c.archive)
	addEncryptOptions(fs, &c.encrypt)
	fs.Var(rangeValue(&c.wait, 0, backup.Patience/2), "wait", "in the end wait up to `D` for the WAL of the backup to be archived")
	addUnsafeStore(fs, &c.allowUnsafeStore)
}

// labelValue is a label of a backup.
func labelValue(target *string) pflag.Value {
	return parsed[string]{target, kindString, func(text string) (string, error) {
		return text, basebackup.CheckLabel(text)
	}, func(s string) string { return s }}
}

// rateValue is pg_basebackup's --max-rate, in kB/s.
func rateValue(target *int) pflag.Value {
	return parsed[int]{target, "rate", func(text string) (int, error) {
		number, kB := text, 1
		if rest, ok := strings.CutSuffix(text, "M"); ok {
			number, kB = rest, 1024
		} else if rest, ok := strings.CutSuffix(text, "k"); ok {
			number = rest
		}
		n, err := strconv.Atoi(number)
		if err != nil || n < 0 || n > basebackup.MaxRate {
			return 0, fmt.Errorf("invalid rate %q: want a number of kB/s, or a number and k or M", text)
		}
		if n *= kB; n < basebackup.MinRate || n > basebackup.MaxRate {
			return 0, fmt.Errorf("invalid rate %q: must be between %dk and %dM", text, basebackup.MinRate, basebackup.MaxRate/1024)
		}
		return n, nil
	}, strconv.Itoa}
}

func (c *backupCreateConfig) check() error {
	if !c.archive.given() {
		return usageError("nowhere to put the backup; use --archive")
	}
	if err := c.encrypt.check(c.archive); err != nil {
		return err
	}
	return c.conn.check()
}

// notWrong makes another cluster, which ends a receiver for good, a failure like any
// other.
func notWrong(err error) error {
	if code := exitCode(err); code == exitWrong || code == exitGap {
		return &codedError{exitFailed, err}
	}
	return err
}

// runBackupCreate is the work of "walrecv backup create".
func (a *app) runBackupCreate(ctx context.Context, c backupCreateConfig) error {
	stderr := &aboveBar{w: a.stderr}
	log := newLogger(stderr, levelOf(logInfo, c.verbose), environment(a.environ))
	c.conn.application = backupApplication
	config, err := a.connection(c.conn, log)
	if err != nil {
		return err
	}
	encryption, err := c.encrypt.encryption()
	if err != nil {
		return err
	}
	c.encrypt.warn(log)
	store, err := openStore(ctx, c.archive.location, a.environ, storeOptions{unsafe: c.allowUnsafeStore})
	if err != nil {
		return err
	}
	conn, server, err := connectForBackup(ctx, config)
	if err != nil {
		return err
	}
	defer receiver.HangUp(conn)
	home := backupHome{location: c.archive.location, store: store, keys: archive.Keys{Encryption: encryption}, unsafe: c.allowUnsafeStore}
	arch, err := home.open(ctx, server)
	if err != nil {
		return err
	}
	if err := home.warn(ctx, arch, server, log); err != nil {
		return err
	}
	t := &taking{ctx: ctx, archive: arch, server: server, label: c.label, now: time.Now, pause: archive.Pause, log: log}
	stop := t.progress.show(stderr, log)
	defer stop()
	b, err := t.take(conn, c)
	stop()
	if err != nil {
		return t.failure(ctx, err)
	}
	_, err = io.WriteString(a.stdout, backupSummary(b))
	return err
}

// connectForBackup connects to a server that can send a base backup.
func connectForBackup(ctx context.Context, config *receiver.ConnConfig) (*pgconn.PgConn, receiver.Server, error) {
	conn, err := receiver.Connect(ctx, config)
	if err != nil {
		return nil, receiver.Server{}, err
	}
	server, err := receiver.Identify(ctx, conn)
	if err == nil && server.Major < basebackup.MinMajor {
		err = fmt.Errorf("the server is PostgreSQL %s; base backups are taken from %d and newer. Take one with pg_basebackup: walrecv restore serves it", server.Version, basebackup.MinMajor)
	}
	if err != nil {
		receiver.HangUp(conn)
		return nil, receiver.Server{}, err
	}
	return conn, server, nil
}

// backupSummary is the last line.
func backupSummary(b *backup.Backup) string {
	took := b.Finished.Sub(b.Started)
	return fmt.Sprintf("base backup %s is good: %s in %d objects (%s stored), taken in %s from a %s, with WAL from %s to %s on timeline %d\n",
		b.ID, roughSize(b.PlainSize), len(b.Objects), roughSize(b.StoredSize), took.Round(time.Second/10), b.From, b.StartLSN, b.EndLSN, uint32(b.EndTimeline))
}
