package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/status"
)

// statusConfig is all that "walrecv status" was told.
type statusConfig struct {
	archive archiveOptions
	read    readOptions

	json bool
}

// newStatus declares the command.
func (a *app) newStatus() *cobra.Command {
	var cfg statusConfig
	cmd := &cobra.Command{
		Use:   "status [OPTION]...",
		Short: "Show what an archive holds",
		Long: `Shows which WAL an archive holds: timelines, ranges, gaps, damage that was found,
restore points, and what can be recovered. Only the archive is asked, and no
segment is downloaded. What is wrong is shown and is no failure: to have it
proven that nothing is, use walrecv verify.`,
		Example:               "  walrecv status --archive /srv/wal",
		DisableFlagsInUseLine: true,
		Args:                  noArguments,
		RunE: a.configured(func() error { return cfg.archive.required("nothing to look at") }, func(cmd *cobra.Command, _ []string) error {
			return a.runStatus(cmd.Context(), cfg)
		}),
	}
	addCommonOptions(cmd)
	addStatusOptions(cmd.Flags(), &cfg)
	return cmd
}

func addStatusOptions(fs *pflag.FlagSet, c *statusConfig) {
	addArchiveOptions(fs, &c.archive)
	addReadOptions(fs, &c.read, onlyCluster)
	boolVar(fs, &c.json, "json", "", "print one JSON document")
}

// runStatus is the work of "walrecv status". It changes nothing, so a signal may
// end it at any time.
func (a *app) runStatus(ctx context.Context, c statusConfig) error {
	arch, _, err := a.openToRead(ctx, c.archive.location, c.read)
	if err != nil {
		return unreadable(err)
	}
	report, err := status.Gather(ctx, arch, c.archive.location.String(), time.Now(), archive.Pause)
	if err != nil {
		return err
	}
	if c.json {
		return writeJSON(a.stdout, report)
	}
	return report.Text(a.stdout)
}

// unreadable takes back the verdict on an identity that is not sound: here it
// only means that the archive cannot be read.
func unreadable(err error) error {
	var coded *codedError
	if errors.As(err, &coded) && coded.code == exitUnsound {
		return &codedError{exitFailed, coded.err}
	}
	return err
}

// writeJSON prints one document, for people who look at it as well.
func writeJSON(w io.Writer, document any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(document)
}
