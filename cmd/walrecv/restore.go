package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/walrecv/walrecv/internal/restore"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/local"
)

// runRestore is the work of "walrecv restore". Its errors are answers.
func (a *app) runRestore(ctx context.Context, c restoreConfig, stderr io.Writer) error {
	o, err := a.restoreOptions(c)
	if err != nil {
		return err
	}
	o.Prefetch.Start = a.startHelper
	o.Logger = plainLogger(stderr)
	answer := restore.Run(ctx, o)
	if answer.Code == restore.CodeDelivered {
		return nil
	}
	return &answerError{answer.Code, errors.New(answer.Message)}
}

// restoreOptions are what a call and its helper have in common.
func (a *app) restoreOptions(c restoreConfig) (restore.Options, error) {
	dir, err := os.Getwd()
	if err != nil {
		return restore.Options{}, err
	}
	return restore.Options{
		FS:       vfs.OS(),
		Archive:  a.archivePlace(c.archive.location),
		Spool:    spoolPlace(c.spool),
		Keys:     c.read.keys,
		SystemID: c.read.systemID,
		RetryFor: c.patience(),
		Tail:     restore.Tail(c.tail),
		PrefetchDir: func(pgWAL string) (string, error) {
			return prefetchDir(c.prefetchDir, pgWAL)
		},
		Prefetch: restore.Prefetch{Ahead: c.prefetch},
		File:     c.name,
		Path:     c.target,
		WorkDir:  dir,
	}, nil
}

// firstTry is how long the first look may take, however short the patience:
// with less, a busy disk would decide about the answer.
const firstTry = time.Second

// patience is how long to try; 0 leaves it to restore.
func (c *restoreConfig) patience() time.Duration {
	if c.retryForGiven {
		return max(time.Duration(c.retryFor), firstTry)
	}
	return 0
}

// archivePlace is an archive to restore from, if there is one.
func (a *app) archivePlace(location storage.Location) restore.Place {
	if location == (storage.Location{}) {
		return restore.Place{}
	}
	return restore.Place{
		Location: location.String(),
		Open: func(ctx context.Context) (storage.Store, error) {
			return openStore(ctx, location, a.environ, storeOptions{})
		},
		Missing: storage.ErrNoRoot,
		Far:     location.Scheme == storage.SchemeS3,
	}
}

// spoolPlace is a receiver's directory to restore from; an empty path is none.
func spoolPlace(path string) restore.Place {
	if path == "" {
		return restore.Place{}
	}
	return restore.Place{
		Location: path,
		Open: func(context.Context) (storage.Store, error) {
			return local.New(vfs.OS(), path, local.Private), nil
		},
		Missing: storage.ErrNoRoot,
	}
}

// plainLogger writes for the server's log, which has times of its own.
func plainLogger(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{
		ReplaceAttr: func(groups []string, attr slog.Attr) slog.Attr {
			if len(groups) == 0 && attr.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return attr
		},
	}))
}
