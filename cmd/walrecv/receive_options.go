package main

import (
	"log/slog"
	"math"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/walrecv/walrecv/internal/codec"
	"github.com/walrecv/walrecv/internal/units"
	"github.com/walrecv/walrecv/receiver"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
)

// What is acknowledged.
const (
	ackFlush   = "flush"
	ackArchive = "archive"
)

// receiveConfig is all that "walrecv receive" was told.
type receiveConfig struct {
	conn    connOptions
	archive archiveOptions
	encrypt encryptOptions

	directory      string
	slot           string      // empty: none
	endpos         segment.LSN // 0: none
	compress       compression
	statusInterval units.Duration // 0: only on request and when flushed moves
	flushInterval  units.Duration
	ack            string         // ackFlush or ackArchive
	tailInterval   units.Duration // 0: no tail
	uploadWorkers  int
	spoolMax       units.Size
	listen         string // address of the status page, metrics and health; empty: none
	listenConfig   string // file; empty: everybody sees everything
	readyLag       units.Duration
	slotStats      bool   // ask the server how it stands with the slot
	logLevel       string // one of logLevels

	noLoop, verbose, synchronous, noSync bool
	createSlot, dropSlot, ifNotExists    bool // actions: do that, then end
	ensureSlot                           bool
	acceptBranch, acceptGap              bool
	allowUnsafeStore                     bool
	listenInsecure                       bool
}

// newReceive declares the command; a.receive is what it does.
func (a *app) newReceive() *cobra.Command { return a.receiveCommand(new(receiveConfig)) }

func (a *app) receiveCommand(cfg *receiveConfig) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "receive -D DIR [OPTION]...",
		Short: "Stream WAL from a server, make it durable, archive it",
		Long: `Streams WAL from a PostgreSQL server into a directory and, with --archive, from
there into an archive. Options and behaviour are pg_receivewal's; without
--archive the directory is what pg_receivewal leaves.`,
		DisableFlagsInUseLine: true,
		Args:                  noArguments,
		RunE: a.configured(cfg.check, func(cmd *cobra.Command, _ []string) error {
			a.level = new(slog.LevelVar)
			a.level.Set(cfg.level())
			logger := newLogger(a.stderr, a.level, environment(a.environ))
			for _, name := range strangeVariables(cmd.Root(), a.environ) {
				logger.Warn("ignored an environment variable that is no option; walrecv config check says what may have been meant", "name", name)
			}
			ctx, stop := interruptible(cmd.Context(), stopDeadline, a.stderr, os.Exit)
			defer stop()
			a.reload = a.newReloader(cmd, logger)
			defer a.reload.close()
			return a.lastWord(logger, a.receive(ctx, *cfg, logger))
		}),
	}
	addCommonOptions(cmd)
	addReceiveOptions(cmd.Flags(), cfg)
	addVersionOption(cmd.Flags())
	return cmd
}

// addReceiveOptions declares pg_receivewal's options, then our own.
func addReceiveOptions(fs *pflag.FlagSet, c *receiveConfig) {
	c.compress = compression{method: codec.None}
	c.statusInterval = units.Duration(10 * time.Second)
	c.flushInterval = units.Duration(200 * time.Millisecond)
	c.ack = ackFlush
	c.tailInterval = units.Duration(time.Second)
	c.uploadWorkers = 4
	c.spoolMax = 10 << 30
	c.readyLag = units.Duration(time.Minute)
	c.logLevel = logInfo

	fs.VarP(textValue(&c.directory), "directory", "D", "receive write-ahead log files into the directory `DIR`")
	fs.VarP(positionValue(&c.endpos), "endpos", "E", "exit after receiving the specified `LSN`")
	fs.Lookup("endpos").DefValue = "" // 0/0 is none
	boolVar(fs, &c.ifNotExists, "if-not-exists", "", "do not error if slot already exists when creating a slot")
	boolVar(fs, &c.noLoop, "no-loop", "n", "do not loop on connection lost")
	boolVar(fs, &c.noSync, "no-sync", "", "do not wait for changes to be written safely to disk")
	fs.VarP(rangeValue(&c.statusInterval, 0, math.MaxInt32/1000*time.Second), "status-interval", "s",
		"time between status packets sent to server: `SECS`, or with a unit; 0 for none")
	fs.VarP(textValue(&c.slot), "slot", "S", "use the replication slot `SLOTNAME`")
	boolVar(fs, &c.synchronous, "synchronous", "", "flush write-ahead log immediately after writing")
	boolVar(fs, &c.verbose, "verbose", "v", "output verbose messages")
	fs.VarP(compressionValue(&c.compress), "compress", "Z", "compress sealed segments with `METHOD[:LEVEL]`: none, gzip, lz4 or zstd")
	addConnOptions(fs, &c.conn)
	boolVar(fs, &c.createSlot, "create-slot", "", "create a new replication slot (for the slot's name see --slot), then exit")
	boolVar(fs, &c.dropSlot, "drop-slot", "", "drop the replication slot (for the slot's name see --slot), then exit")

	addArchiveOptions(fs, &c.archive)
	addEncryptOptions(fs, &c.encrypt)
	fs.Var(choiceValue(&c.ack, ackFlush, ackArchive), "ack",
		"acknowledge what is synced here or what the archive holds: `WHAT` is flush or archive")
	fs.Var(rangeValue(&c.tailInterval, 0, 24*time.Hour), "tail-interval",
		"archive what was received of unfinished segments every `D`; 0 for never")
	boolVar(fs, &c.ensureSlot, "ensure-slot", "", "create the slot if it is missing, reserving WAL, then stream")
	fs.Var(rangeValue(&c.flushInterval, time.Millisecond, time.Hour), "flush-interval",
		"leave received WAL unsynced for at most `D` without --synchronous")
	fs.Var(sizeValue(&c.spoolMax, 1<<20), "spool-max",
		"with --archive: read no more from the server while segments of this `SIZE` wait in the directory")
	fs.Var(numberValue(&c.uploadWorkers, 1, 64), "upload-workers", "up to `N` uploads in flight")
	boolVar(fs, &c.conn.primaryOnly, "primary-only", "", "refuse a server that is in recovery, and wait for a primary")
	boolVar(fs, &c.acceptGap, "accept-gap", "", "record WAL that the server no longer has as a gap, and go on behind it")
	addAcceptBranch(fs, &c.acceptBranch)
	addUnsafeStore(fs, &c.allowUnsafeStore)
	fs.Var(addressValue(&c.listen), "listen", "serve status page, metrics, health and readiness on `ADDR`: HOST:PORT, or PORT or the path of a socket for this host only")
	fs.Var(textValue(&c.listenConfig), "listen-config", "TLS and passwords for --listen: `FILE` is a web configuration as Prometheus has it")
	boolVar(fs, &c.listenInsecure, "listen-insecure", "", "let everybody who reaches the address of --listen see what it shows")
	fs.Var(rangeValue(&c.readyLag, time.Millisecond, 24*time.Hour), "ready-lag",
		"ready as long as streaming and archiving are at most `D` behind")
	boolVar(fs, &c.slotStats, "slot-stats", "", "with --listen: tell how much WAL the slot holds back, over an ordinary connection to the database postgres")
	fs.Var(choiceValue(&c.logLevel, logLevels...), "log-level", "log what is `LEVEL` or worse: debug, info, warn or error")
}

// addAcceptBranch declares the option of who archives.
func addAcceptBranch(fs *pflag.FlagSet, accept *bool) {
	boolVar(fs, accept, "accept-branch", "", "archive a timeline that leaves its parent below what is archived of it")
}

// addUnsafeStore declares the option of who archives.
func addUnsafeStore(fs *pflag.FlagSet, unsafe *bool) {
	boolVar(fs, unsafe, "allow-unsafe-store", "",
		"use a store without conditional writes: two writers could overwrite each other")
}

// check applies the rules between options: first pg_receivewal's, in its order,
// then our own.
func (c *receiveConfig) check() error {
	action := c.createSlot || c.dropSlot
	switch {
	case c.createSlot && c.dropSlot:
		return usageError("cannot use --create-slot together with --drop-slot")
	case c.createSlot && c.slot == "":
		return usageError("--create-slot needs a slot to be specified using --slot")
	case c.dropSlot && c.slot == "":
		return usageError("--drop-slot needs a slot to be specified using --slot")
	case c.synchronous && c.noSync:
		return usageError("cannot use --synchronous together with --no-sync")
	case c.directory == "" && !action:
		return usageError("no target directory specified; use --directory")
	case c.ensureSlot && action:
		return usageError("cannot use --ensure-slot together with --create-slot or --drop-slot")
	case c.ensureSlot && c.slot == "":
		return usageError("--ensure-slot needs a slot to be specified using --slot")
	case c.slotStats && c.slot == "":
		return usageError("--slot-stats needs a slot to be specified using --slot")
	case c.slotStats && c.listen == "":
		return usageError("--slot-stats needs an address to be specified using --listen: nothing else shows them")
	case c.listen == "" && (c.listenConfig != "" || c.listenInsecure):
		return usageError("--listen-config and --listen-insecure need an address to be specified using --listen")
	case c.ack == ackArchive && !c.archive.given():
		return usageError("--ack=archive needs an archive to be specified using --archive")
	case c.ack == ackArchive && c.tailInterval == 0:
		return usageError("cannot use --ack=archive together with --tail-interval=0: it acknowledges what the tail has")
	case c.archive.given() && c.compress.method != codec.None:
		return usageError("cannot use --compress together with --archive: an archive is always zstd")
	}
	if c.slot != "" {
		if err := receiver.CheckSlotName(c.slot); err != nil {
			return err
		}
	}
	if err := c.encrypt.check(c.archive); err != nil {
		return err
	}
	return c.conn.check()
}

// level is what is logged at least.
func (c *receiveConfig) level() slog.Level { return levelOf(c.logLevel, c.verbose) }

// spoolLimit is how many bytes of segments may wait in the directory, 0 for any
// number: without an archive none of them waits for anything.
func (c *receiveConfig) spoolLimit() int64 {
	if !c.archive.given() {
		return 0
	}
	return int64(c.spoolMax)
}

// archiveOptions say where the archive is.
type archiveOptions struct {
	location storage.Location // zero: none
}

func addArchiveOptions(fs *pflag.FlagSet, o *archiveOptions) {
	fs.Var(archiveValue(&o.location), "archive", "the archive's `URL`: /path, file:///path or s3://bucket/prefix?endpoint=...")
}

// given reports whether there is an archive.
func (o archiveOptions) given() bool { return o.location != storage.Location{} }

// required refuses to go on without one; without says what cannot be done then.
func (o archiveOptions) required(without string) error {
	if !o.given() {
		return usageError("%s; use --archive", without)
	}
	return nil
}
