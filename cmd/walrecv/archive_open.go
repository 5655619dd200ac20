package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
)

// openTries is how often a command that reads an archive asks it who it is, and
// openTimeout how long it waits for each answer.
const (
	openTries   = 4
	openTimeout = 30 * time.Second
)

// openToRead opens the archive of a cluster, or, for system 0, of the only one
// that there is.
func (a *app) openToRead(ctx context.Context, location storage.Location, o readOptions) (*archive.Archive, storage.Store, error) {
	keys, err := o.keys()
	if err != nil {
		return nil, nil, err
	}
	raw, err := openStore(ctx, location, a.environ, storeOptions{})
	if err != nil {
		return nil, nil, err
	}
	store := storage.WithDeadline(raw)
	arch, err := backoff.Retry(ctx, func() (*archive.Archive, error) {
		ctx, cancel := context.WithTimeout(ctx, openTimeout)
		defer cancel()
		arch, err := openCluster(ctx, store, location, o.systemID, keys)
		if err != nil && !mayPass(err) {
			return nil, backoff.Permanent(err)
		}
		return arch, err
	}, backoff.WithMaxTries(openTries))
	return arch, store, err
}

// mayPass tells whether an error may go away by itself.
func mayPass(err error) bool {
	var coded *codedError
	var format *archive.FormatError
	return !errors.As(err, &coded) && !errors.As(err, &format) &&
		!errors.Is(err, segment.ErrWrongCluster) && !errors.Is(err, storage.ErrNoRoot) && !errors.Is(err, storage.ErrSetup) && !errors.Is(err, fs.ErrPermission)
}

func openCluster(ctx context.Context, store storage.Store, location storage.Location, system uint64, keys archive.Keys) (*archive.Archive, error) {
	if system == 0 {
		ids, err := archive.Identify(ctx, store)
		switch {
		case err != nil:
			return nil, unsoundIdentity(err)
		case len(ids) > 1:
			return nil, usageError("%s holds several clusters: %s; choose one with --system-id", location, systemsOf(ids))
		case len(ids) == 0:
			return nil, noCluster(ctx, store, location)
		}
		system = ids[0].SystemID
	}
	a, err := archive.Open(ctx, store, system, keys)
	if !errors.Is(err, fs.ErrNotExist) {
		return a, unsoundIdentity(err)
	}
	ids, err := archive.Identify(ctx, store)
	if err != nil {
		return nil, unsoundIdentity(err)
	}
	if len(ids) > 0 {
		return nil, &codedError{exitWrong, fmt.Errorf("%s holds nothing of the cluster with system identifier %d, only of %s", location, system, systemsOf(ids))}
	}
	return nil, noCluster(ctx, store, location)
}

// unsoundIdentity gives the right exit code to an identity that is damaged.
func unsoundIdentity(err error) error {
	var damaged *archive.DamagedError
	if errors.As(err, &damaged) {
		return &codedError{exitUnsound, fmt.Errorf("%w; put it there again: docs/format.md says what is in it", err)}
	}
	return err
}

// noCluster says that nothing says which cluster an archive is of.
func noCluster(ctx context.Context, store storage.Store, location storage.Location) error {
	var lost string
	err := storage.ListDirs(ctx, store, "", func(dir string) error {
		if strings.Trim(dir, "0123456789") != "" {
			return nil // not that of a cluster
		}
		return store.List(ctx, dir+"/", func(info storage.Info) error {
			o, err := archive.ParseKey(info.Key)
			if err != nil {
				return nil //nolint:nilerr // whatever it is, it is not of an archive
			}
			lost = archive.Object{System: o.System, Kind: archive.KindIdentity}.Key()
			return fs.SkipAll
		})
	})
	switch {
	case lost != "":
		return &codedError{exitUnsound, fmt.Errorf("%s holds WAL, but %s is missing, without which nobody reads it; put it there again: docs/format.md says what is in it", location, lost)}
	case err != nil:
		return err
	}
	if file, err := looseWAL(ctx, store); err != nil {
		return err
	} else if file != "" {
		return &codedError{exitFailed, fmt.Errorf("%s is a directory of WAL files (%s), as pg_receivewal and walrecv receive -D leave them, and no archive: only walrecv restore reads it", location, file)}
	}
	return &codedError{exitFailed, fmt.Errorf("%s holds no archive: is it mounted, is the URL right?", location)}
}

// looseWAL finds a WAL file that stands directly in the store; empty without one.
func looseWAL(ctx context.Context, store storage.Store) (file string, err error) {
	// The names begin with the timeline, of which no cluster has that many.
	err = store.List(ctx, "0", func(info storage.Info) error {
		if name, _, _ := strings.Cut(info.Key, "."); !segment.IsSegmentName(name) {
			return nil
		}
		file = info.Key
		return fs.SkipAll
	})
	if errors.Is(err, fs.SkipAll) {
		err = nil
	}
	return file, err
}

func systemsOf(ids []archive.Identity) string {
	var list []string
	for _, id := range ids {
		list = append(list, fmt.Sprint(id.SystemID))
	}
	return strings.Join(list, ", ")
}
