package main

import (
	"context"
	"errors"
	"time"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/backup"
	"github.com/walrecv/walrecv/internal/monitor"
	"github.com/walrecv/walrecv/internal/status"
	"github.com/walrecv/walrecv/internal/web"
	"github.com/walrecv/walrecv/storage"
)

// proofTimeout is how long the archive gets to tell of base backups and drills.
const proofTimeout = time.Minute

// errUnreached says that the archive has not answered since the start.
var errUnreached = errors.New("the archive was not reached yet")

// reached is the archive once it has answered.
func (w *watch) reached() (*archive.Archive, error) {
	if w.archiving == nil {
		return nil, errUnreached
	}
	a := w.archiving.keeper.archive.Load()
	if a == nil {
		return nil, errUnreached
	}
	return a, nil
}

// lookUpProof asks the archive for its newest base backup and its last drill.
func (w *watch) lookUpProof() (monitor.Proof, error) {
	a, err := w.reached()
	if err != nil {
		return monitor.Proof{}, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), proofTimeout)
	defer cancel()
	return proofOf(ctx, a, time.Now())
}

// proofOf is what an archive says of restores.
func proofOf(ctx context.Context, a *archive.Archive, now time.Time) (p monitor.Proof, err error) {
	entries, err := backup.List(ctx, a, now)
	if err != nil {
		return p, err
	}
	for _, e := range entries {
		if e.Whole() && e.Backup.Finished.After(p.LastBackup) {
			p.LastBackup = e.Backup.Finished
		}
	}
	last, err := a.LastDrill(ctx)
	var damaged *archive.DamagedError
	var format *archive.FormatError
	if err != nil && !errors.As(err, &damaged) && !errors.As(err, &format) {
		return p, err
	}
	if last != nil {
		p.LastDrill, p.DrillSuccess = last.Finished, last.Success
	}
	return p, nil
}

// findReport says what the archive at a location holds.
func (w *watch) findReport(where storage.Location) web.Find {
	return func(ctx context.Context) (*status.Report, error) {
		a, err := w.reached()
		if err != nil {
			return nil, err
		}
		return status.Gather(ctx, a, where.String(), time.Now(), archive.Pause)
	}
}
