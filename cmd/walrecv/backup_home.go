package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/cenkalti/backoff/v5"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/backup"
	"github.com/walrecv/walrecv/internal/basebackup"
	"github.com/walrecv/walrecv/receiver"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
)

// backupHome is where a base backup goes.
type backupHome struct {
	location storage.Location
	store    storage.Store
	keys     archive.Keys
	unsafe   bool // a store without conditional writes will do
}

// open opens the archive of the server's cluster, and makes it if there is none, as a
// receiver does.
func (h backupHome) open(ctx context.Context, server receiver.Server) (*archive.Archive, error) {
	id := archive.Identity{SystemID: server.SystemID, SegmentSize: server.SegmentSize, Major: server.Major}
	bare, mount := storage.WithDeadline(h.store), h.location.Scheme == storage.SchemeFile
	store := bare
	if mount {
		store = archive.Anchor(bare, id)
	}
	return backoff.Retry(ctx, func() (*archive.Archive, error) {
		ctx, cancel := context.WithTimeout(ctx, openTimeout)
		defer cancel()
		if err := h.onlyOthers(ctx, bare, server.SystemID); err != nil {
			return nil, err
		}
		a, err := archive.Init(ctx, store, id, h.keys)
		if err == nil && !mount {
			err = a.ProveCreateOnly(ctx)
		}
		switch {
		case errors.Is(err, storage.ErrUnsafe) && h.unsafe && a != nil:
			return a, nil
		case errors.Is(err, storage.ErrUnsafe):
			return nil, backoff.Permanent(fmt.Errorf("%w: use another store, or --allow-unsafe-store if nobody else ever writes there", err))
		case errors.Is(err, storage.ErrNoRoot):
			return nil, backoff.Permanent(fmt.Errorf("%w: create it, or correct --archive", err))
		case err != nil && !mayPass(err):
			return nil, backoff.Permanent(err)
		}
		return a, err
	}, backoff.WithMaxTries(openTries))
}

// onlyOthers refuses an archive of other clusters alone: nothing archives the WAL of this
// one there, so that one of the two is not what was meant.
func (h backupHome) onlyOthers(ctx context.Context, store storage.Store, system uint64) error {
	_, err := archive.Open(ctx, store, system, h.keys)
	if !errors.Is(err, fs.ErrNotExist) {
		return nil // whatever else is wrong, who makes the archive finds out
	}
	ids, err := archive.Identify(ctx, store)
	if err != nil || len(ids) == 0 {
		return err
	}
	return backoff.Permanent(fmt.Errorf("%s holds nothing of the cluster with system identifier %d, only of %s: correct --archive or the connection options, or start walrecv receive first",
		h.location, system, systemsOf(ids)))
}

// farBehind is how many segments the archive may be behind a server before somebody
// should look whether anything is archived at all.
const farBehind = 2

// warn tells at the start of what looks wrong with an archive as the home of a backup.
func (h backupHome) warn(ctx context.Context, a *archive.Archive, server receiver.Server, log *slog.Logger) error {
	l, err := a.Listing(ctx)
	if err != nil {
		return err
	}
	warnOfNoWAL(l, server, log)
	if h.keys.Encryption != nil {
		return nil
	}
	encrypted := l.Encrypted()
	if !encrypted {
		encrypted, err = hasEncryptedBackup(ctx, a)
	}
	if encrypted {
		log.Warn("the archive is encrypted and this base backup will not be: it is a copy of the whole database that whoever reads the archive can read; interrupt it and use --encrypt-to if that is not meant")
	}
	return err
}

// hasEncryptedBackup tells whether anything of any base backup is encrypted.
func hasEncryptedBackup(ctx context.Context, a *archive.Archive) (bool, error) {
	errEncrypted := errors.New("one is encrypted")
	err := a.EachBackupObject(ctx, "", func(_, _ string, info storage.Info) error {
		if o, err := archive.ParseKey(info.Key); err == nil && o.Encrypted {
			return errEncrypted
		}
		return nil
	})
	if errors.Is(err, errEncrypted) {
		return true, nil
	}
	return false, err
}

// warnOfNoWAL tells of an archive that the server's WAL does not seem to reach. It may
// do so by the time the backup needs it.
func warnOfNoWAL(l *archive.Listing, server receiver.Server, log *slog.Logger) {
	end, any := archivedEnd(l, server)
	const advice = "without its WAL a base backup is of no use: does walrecv receive stream from this cluster into this archive?"
	switch {
	case !any:
		log.Warn("the archive has no WAL of the server's timeline; "+advice, "timeline", uint32(server.Timeline), "server_lsn", server.End.String())
	case end+farBehind*segment.LSN(server.SegmentSize) < server.End:
		log.Warn("the archive is far behind the server; "+advice, "timeline", uint32(server.Timeline), "archived_lsn", end.String(), "server_lsn", server.End.String())
	}
}

// archivedEnd is where the WAL of the server's timeline ends in an archive; holes before
// that are for others to find.
func archivedEnd(l *archive.Listing, server receiver.Server) (end segment.LSN, any bool) {
	next := segment.Name{Timeline: server.Timeline, Number: server.SegmentSize.Number(server.End)}
	if ranges := l.Ranges(server.Timeline); len(ranges) > 0 {
		any = true
		next.Number = ranges[len(ranges)-1].Last + 1
	}
	end = l.TailEnd(next)
	return end, any || end > next.Start(server.SegmentSize)
}

// looksForStart is how often an archive is looked at that lacks WAL of the past: what a
// receiver has to catch up with is not archived in order.
const looksForStart = 3

// mayHaveWAL fails if the archive lacks the WAL with which a backup begins in a way that
// no waiting mends. pause waits between two looks.
func mayHaveWAL(ctx context.Context, a *archive.Archive, start basebackup.Start, pause func(context.Context) error) error {
	needed := backup.Needed{Timeline: start.Timeline, EndTimeline: start.Timeline, Start: start.LSN, End: start.LSN + 1}
	for n := 1; ; n++ {
		wal, err := needed.Find(ctx, a)
		if err != nil {
			return err
		}
		switch {
		case wal.Problem != nil:
			return wal.Problem
		case !wal.Hole:
			return nil
		case n == looksForStart:
			return fmt.Errorf("it would begin at %s, and %w: it was not archived, or was removed", start.LSN, wal.Err())
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}
