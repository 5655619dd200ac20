package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/walrecv/walrecv/internal/units"
	"github.com/walrecv/walrecv/segment"
)

// verifyConfig is all that "walrecv verify" was told.
type verifyConfig struct {
	archive archiveOptions
	read    readOptions

	deep  bool
	since since
	json  bool
}

// newVerify declares the command.
func (a *app) newVerify() *cobra.Command {
	var cfg verifyConfig
	cmd := &cobra.Command{
		Use:   "verify [OPTION]...",
		Short: "Prove that an archive is sound",
		Long: `Checks that no segment is missing along the timelines, that every object is what
was archived, and that every segment is the one that its name says. With --deep
every page and every record is checked, too.

  0  sound
  1  something could not be checked, and nothing is wrong with the rest
  2  wrong usage or configuration
  3  not sound
  4  an archive of another cluster`,
		Example:               "  walrecv verify --archive /srv/wal --deep",
		DisableFlagsInUseLine: true,
		Args:                  noArguments,
		RunE: a.configured(func(cmd *cobra.Command, _ []string) error {
			if !cfg.archive.given() {
				return usageError("nothing to verify; use --archive")
			}
			return a.runVerify(cmd.Context(), cfg)
		}),
	}
	addCommonOptions(cmd)
	addVerifyOptions(cmd.Flags(), &cfg)
	return cmd
}

func addVerifyOptions(fs *pflag.FlagSet, c *verifyConfig) {
	addArchiveOptions(fs, &c.archive)
	addReadOptions(fs, &c.read, onlyCluster)
	boolVar(fs, &c.deep, "deep", "", "check every page and every record")
	fs.Var(sinceValue(&c.since), "since", "leave out what is before `LSN|TIME`; a time needs an offset")
	boolVar(fs, &c.json, "json", "", "print one JSON document")
}

// since is a position, or a time.
type since struct {
	lsn  segment.LSN
	time time.Time
}

// String gives a text that parseSince reads.
func (s since) String() string {
	switch {
	case !s.time.IsZero():
		return s.time.Format(time.RFC3339Nano)
	case s.lsn != 0:
		return s.lsn.String()
	}
	return ""
}

func sinceValue(target *since) pflag.Value {
	return parsed[since]{target, "lsn or time", parseSince, since.String}
}

// parseSince reads a position or a time.
func parseSince(text string) (since, error) {
	if l, err := segment.ParseLSN(text); err == nil {
		return since{lsn: l}, nil
	}
	t, err := units.ParseTime(text)
	var zoneless *units.NoOffsetError
	if err == nil || errors.As(err, &zoneless) {
		return since{time: t}, err
	}
	return since{}, fmt.Errorf("%q is neither a WAL position, as in 0/5000000, nor a time, as in 2026-01-31 12:00:00+00 (base backups are not in the archive yet)", text)
}
