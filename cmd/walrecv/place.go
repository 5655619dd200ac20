package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/backup"
	"github.com/walrecv/walrecv/internal/units"
	"github.com/walrecv/walrecv/segment"
)

// place is where something in the WAL of an archive begins, in one of several words.
type place struct {
	lsn     segment.LSN
	segment string // file name of one
	time    time.Time
	backup  string // ID of a base backup, or latestBackup
	set     bool   // it was given; the rest can be zero
}

// latestBackup is the newest base backup that is good.
const latestBackup = "latest"

// given tells whether it was given at all.
func (p place) given() bool { return p.set }

// String gives a text that parsePlace reads.
func (p place) String() string {
	switch {
	case !p.time.IsZero():
		return p.time.Format(time.RFC3339Nano)
	case p.segment+p.backup == "" && p.set:
		return p.lsn.String()
	}
	return p.segment + p.backup
}

// placeValue is a position, a segment or a time.
func placeValue(target *place) pflag.Value {
	return parsed[place]{target, "place", parsePlace, place.String}
}

// sinceValue is one of these, or a base backup.
func sinceValue(target *place) pflag.Value {
	return parsed[place]{target, "place", func(text string) (place, error) {
		p, err := parsePlace(text)
		var zoneless *units.NoOffsetError
		if err == nil || errors.As(err, &zoneless) || !archive.IsID(text) {
			return p, err
		}
		return place{backup: text, set: true}, nil
	}, place.String}
}

// parsePlace reads a position, the file name of a segment, or a time.
func parsePlace(text string) (place, error) {
	if l, err := segment.ParseLSN(text); err == nil {
		return place{lsn: l, set: true}, nil
	}
	if segment.IsSegmentName(text) {
		return place{segment: text, set: true}, nil
	}
	t, err := units.ParseTime(text)
	var zoneless *units.NoOffsetError
	if err == nil || errors.As(err, &zoneless) {
		return place{time: t, set: true}, err
	}
	return place{}, fmt.Errorf("%q is neither a WAL position, as in 0/5000000, nor the name of a segment, nor a time, as in 2026-01-31 12:00:00+00", text)
}

// in finds the position in an archive, or else the time.
func (p place) in(ctx context.Context, a *archive.Archive) (segment.LSN, time.Time, error) {
	switch {
	case p.segment != "":
		n, err := segment.ParseName(p.segment, a.Identity().SegmentSize)
		if err != nil {
			return 0, time.Time{}, usageError("%w", err)
		}
		return n.Start(a.Identity().SegmentSize), time.Time{}, nil
	case p.backup != "":
		l, err := backupStart(ctx, a, p.backup)
		return l, time.Time{}, err
	}
	return p.lsn, p.time, nil
}

// backupStart is where a base backup begins.
func backupStart(ctx context.Context, a *archive.Archive, id string) (start segment.LSN, err error) {
	entries, err := backup.List(ctx, a, time.Now())
	if err != nil {
		return 0, err
	}
	var newest *backup.Backup
	for _, e := range entries {
		if e.ID == id && e.StartLSN != 0 {
			return e.StartLSN, nil
		}
		if e.Whole() && (newest == nil || e.Backup.EndLSN > newest.EndLSN) {
			newest = e.Backup
		}
	}
	switch {
	case id != latestBackup:
		return 0, fmt.Errorf("the archive has no base backup %q; walrecv backup list shows those that there are", id)
	case newest == nil:
		return 0, errors.New("the archive has no base backup that is good; walrecv backup list shows what there is")
	}
	return newest.StartLSN, nil
}
