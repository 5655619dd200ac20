package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/backup"
	"github.com/walrecv/walrecv/internal/basebackup"
	"github.com/walrecv/walrecv/receiver"
	"github.com/walrecv/walrecv/segment"
)

// taking is a base backup that is being taken. It is a [basebackup.Sink].
type taking struct {
	ctx      context.Context //nolint:containedctx // of the whole backup: a Sink's calls have none
	archive  *archive.Archive
	server   receiver.Server
	label    string
	now      func() time.Time
	pause    func(context.Context) error // between two looks at an archive that lacks WAL
	log      *slog.Logger
	progress backupProgress

	writer  *backup.Writer // nil until the server has begun
	started time.Time
	inTars  bool // what comes counts as progress
}

// take takes the backup and returns when it is good.
func (t *taking) take(conn *pgconn.PgConn, c backupCreateConfig) (*backup.Backup, error) {
	t.started = t.now()
	t.progress.wait("the server's checkpoint")
	if c.checkpoint == basebackup.Spread {
		t.log.Info("the server begins with a checkpoint that takes its time", "checkpoint", c.checkpoint)
	}
	result, err := basebackup.Run(t.ctx, conn, basebackup.Options{Label: c.label, Checkpoint: c.checkpoint, MaxRate: c.maxRate}, t)
	if err != nil {
		return nil, err
	}
	receiver.HangUp(conn) // the rest is the archive's, and connections are few
	t.log.Info("the server has sent all of the base backup", "end_lsn", result.LSN.String(), "end_timeline", uint32(result.Timeline))
	end := backup.End{LSN: result.LSN, Timeline: result.Timeline, Finished: t.now(), ServerVersion: t.server.Version}
	return t.writer.Finish(t.ctx, end, backup.Wait{
		For: time.Duration(c.wait), Now: t.now, Pause: backup.Pause,
		Tell: func(wal backup.WAL, err error) { t.looked(result.LSN, wal, err) },
	})
}

// looked notes what was seen of the backup's WAL, which ends at a position.
func (t *taking) looked(end segment.LSN, wal backup.WAL, err error) {
	if err != nil {
		t.progress.wait("the archive to answer")
		t.log.Warn("the archive could not be asked for the WAL of the base backup", "error", err)
		return
	}
	t.progress.wait(fmt.Sprintf("its WAL to be archived, up to %s; all up to %s is", end, wal.Until))
	t.log.Debug("looked for the WAL of the base backup", "until_lsn", wal.Until.String(), "missing", wal.Missing)
}

// Begin implements basebackup.Sink. Nothing else is in the archive before the start
// of the backup is, which keeps its WAL there.
func (t *taking) Begin(start basebackup.Start) error {
	t.progress.wait("the archive")
	if err := mayHaveWAL(t.ctx, t.archive, start, t.pause); err != nil {
		return err
	}
	from := backup.FromPrimary
	if t.server.InRecovery {
		from = backup.FromStandby
	}
	var err error
	t.writer, err = backup.Begin(t.ctx, t.archive, backup.Start{
		SystemID: t.server.SystemID, Major: t.server.Major, Timeline: start.Timeline, StartLSN: start.LSN,
		Label: t.label, Started: t.started.UTC(), From: from,
	})
	if err != nil {
		return err
	}
	var total int64
	for _, space := range start.Tablespaces {
		total += space.Size
	}
	t.log.Info("the base backup begins", "id", t.writer.ID(), "start_lsn", start.LSN.String(), "timeline", uint32(start.Timeline),
		"from", from, "tablespaces", len(start.Tablespaces), "total_bytes", total)
	t.progress.begin(t.now(), total)
	return nil
}

// Archive implements basebackup.Sink.
func (t *taking) Archive(space basebackup.Tablespace) error {
	t.inTars = true
	return t.writer.Tablespace(t.ctx, space.OID, space.Location, space.Size)
}

// Manifest implements basebackup.Sink.
func (t *taking) Manifest() error {
	t.inTars = false
	return t.writer.Manifest(t.ctx)
}

// Data implements basebackup.Sink.
func (t *taking) Data(p []byte) error {
	n, err := t.writer.Write(p)
	if t.inTars {
		t.progress.add(n)
	}
	return err
}

// failure says what became of the backup. The uploads that were under way go.
func (t *taking) failure(ctx context.Context, err error) error {
	if by := context.Cause(ctx); ctx.Err() != nil && !errors.Is(err, by) {
		err = by // what else failed, failed because of it
	}
	if t.writer == nil {
		return fmt.Errorf("no base backup was taken: %w", err)
	}
	t.writer.Abort()
	return fmt.Errorf("the base backup %s was not completed: %w", t.writer.ID(), err)
}
