package main

import (
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/walrecv/walrecv/internal/units"
)

// restoreConfig is all that "walrecv restore" was told.
type restoreConfig struct {
	archive archiveOptions
	read    readOptions

	spool         string // a receiver's directory on this host; empty: none
	retryFor      units.Duration
	retryForGiven bool   // else it depends on whether this is a standby
	tail          string // tailAuto or tailNever
	prefetch      int    // segments ahead; 0: none
	prefetchDir   string // empty: where the system has room for it
	name          string // %f
	target        string // %p
}

// What --tail may be.
const (
	tailAuto  = "auto"
	tailNever = "never"
)

// newRestore declares the command; a.restore is what it does.
func (a *app) newRestore() *cobra.Command {
	var cfg restoreConfig
	var cmd *cobra.Command
	cmd = &cobra.Command{
		Use:   "restore [OPTION]... %f %p",
		Short: "Deliver a file of the archive: PostgreSQL's restore_command",
		Long: `Delivers one segment or history file. PostgreSQL ends recovery when a file is
reported as absent, so 1 is the answer only where absence is proven:

  0    delivered
  1    absent
  200  could not find out within --retry-for
  201  wrong usage or configuration, or another cluster's archive
  202  what the archive holds is damaged or has a hole

In postgresql.conf, with a guard for what a program cannot answer for itself:

  restore_command = 'answer() { r=$?; [ $r -le 1 ] || [ $r -ge 126 ] || r=200; exit $r; }; trap answer EXIT; walrecv restore --config FILE %f %p'`,
		Example:               "  walrecv restore --archive /srv/wal %f %p",
		DisableFlagsInUseLine: true,
		Args:                  arguments("%f", "%p"),
		RunE: a.configured(func() error { return cfg.complete(cmd) }, func(cmd *cobra.Command, args []string) error {
			cfg.name, cfg.target = args[0], args[1]
			a.worked = true
			return a.restore(cmd.Context(), cfg, a.stderr)
		}),
	}
	addCommonOptions(cmd)
	addRestoreOptions(cmd.Flags(), &cfg)
	return cmd
}

// complete checks what concerns more than one option.
func (c *restoreConfig) complete(cmd *cobra.Command) error {
	c.retryForGiven = cmd.Flags().Changed("retry-for")
	if !c.archive.given() && c.spool == "" {
		return usageError("nothing to restore from; use --archive or --spool")
	}
	if c.prefetchDir != "" && !filepath.IsAbs(c.prefetchDir) {
		return usageError("--prefetch-dir must be absolute: the server runs this in its data directory")
	}
	if c.spool != "" {
		// The helper opens it from another directory.
		spool, err := filepath.Abs(c.spool)
		if err != nil {
			return err
		}
		c.spool = spool
	}
	return nil
}

func addRestoreOptions(fs *pflag.FlagSet, c *restoreConfig) {
	c.tail, c.prefetch = tailAuto, 8
	addArchiveOptions(fs, &c.archive)
	fs.Var(textValue(&c.spool), "spool", "look also into a receiver's directory `DIR` on this host")
	fs.Var(rangeValue(&c.retryFor, 0, 24*time.Hour), "retry-for", "try for `D` while the answer is unknown")
	fs.Lookup("retry-for").DefValue = "5min; on a standby 10s"
	fs.Var(choiceValue(&c.tail, tailAuto, tailNever), "tail", "deliver the unfinished last segment: `WHEN` is auto or never")
	fs.Var(numberValue(&c.prefetch, 0, 64), "prefetch", "fetch up to `N` segments before they are asked for; 0: none")
	fs.Var(textValue(&c.prefetchDir), "prefetch-dir", "keep what the next calls need in the directory `DIR`")
	fs.Lookup("prefetch-dir").DefValue = "beside the directory that has pg_wal, else in TMPDIR"
	addReadOptions(fs, &c.read, "that of the data directory, or the only one there")
}

// readOptions are taken by every command that reads an archive.
type readOptions struct {
	decryptWith string // file of identities; empty: none
	systemID    uint64 // 0: restore takes the data directory's, or else the only one there
}

// onlyCluster is what the commands take that know no data directory.
const onlyCluster = "the only one there"

// addReadOptions declares them. without says what is taken without --system-id.
func addReadOptions(fs *pflag.FlagSet, o *readOptions, without string) {
	fs.Var(textValue(&o.decryptWith), "decrypt-with", "read what is encrypted with the age identities in `FILE`")
	fs.Var(systemIDValue(&o.systemID), "system-id", "the cluster with the system identifier `N` (default: "+without+")")
}
