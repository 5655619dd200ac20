package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/backup"
	"github.com/walrecv/walrecv/internal/manifest"
)

const (
	adviceBackup    = "take a new base backup; this one cannot be restored: walrecv backup delete removes it"
	adviceAbandoned = "walrecv prune --yes removes it"
)

// listBackups lists the base backups.
func (v *Verifier) listBackups(ctx context.Context, s *survey) {
	now := v.options.Now
	if now.IsZero() {
		now = time.Now()
	}
	err := v.retry(ctx, func(ctx context.Context, _ func()) (err error) {
		s.backups, err = backup.List(ctx, v.archive, now)
		return err
	})
	if err != nil {
		v.unread(Finding{Kind: KindUnreadable, Object: v.systemDir() + "backup/", Message: err.Error(), Advice: adviceStore})
	}
}

// backups reports which base backups cannot be restored, as far as listings show it.
func (v *Verifier) backups(s *survey) {
	for _, e := range s.backups {
		f := Finding{Kind: KindBackup, Object: v.archive.BackupKey(e.ID, archive.BackupEnd), Timeline: e.Timeline, LSN: e.StartLSN, Advice: adviceBackup}
		var later *archive.FormatError
		switch {
		case e.State == backup.Abandoned:
			f.Kind, f.Object, f.Advice = KindAbandoned, v.archive.BackupKey(e.ID, archive.BackupStart), adviceAbandoned
			f.Message = "the base backup was begun and never completed"
			v.notice(f)
		case errors.As(e.Damage, &later):
			f.Kind, f.Message, f.Advice = KindUnreadable, later.Error(), "verify with the version of walrecv that made it"
			v.unread(f)
		case e.State == backup.Damaged:
			f.Message = e.Damage.Error()
			v.found(f)
		case e.State == backup.Good:
			v.good(s, e, f)
		}
	}
}

// good reports what a good base backup lacks.
func (v *Verifier) good(s *survey, e backup.Entry, f Finding) {
	for _, lack := range e.Lacks {
		f.Message = lack
		v.found(f)
	}
	if err := e.Backup.Needed().In(archive.Look{Listing: s.listing, Chain: s.chain}, v.id.SegmentSize).Err(); err != nil {
		f.Message = fmt.Sprintf("the base backup needs the WAL from %s to %s: %v", e.StartLSN, e.Backup.EndLSN, err)
		v.found(f)
	}
	if len(e.Lacks) == 0 {
		v.report.Backups++
	}
}

// storedObject is an object of a base backup that is to be read.
type storedObject struct {
	archive.Stored
	of *backup.Backup
}

// planBackups lists the objects that are to be read: those of good base backups that do
// not begin before what is of interest.
func (v *Verifier) planBackups(s *survey) (list []storedObject) {
	for _, e := range s.backups {
		if !v.options.Deep || e.State != backup.Good || len(e.Lacks) > 0 || v.id.SegmentSize.Floor(e.StartLSN) < s.since {
			continue
		}
		for _, o := range e.Backup.Objects {
			list = append(list, storedObject{o, e.Backup})
		}
	}
	return list
}

// readBackups reads objects of base backups.
func (v *Verifier) readBackups(ctx context.Context, list []storedObject) {
	var next atomic.Int64
	var workers sync.WaitGroup
	for range v.options.Workers {
		workers.Go(func() {
			buf := make([]byte, chunkLen)
			for i := next.Add(1) - 1; i < int64(len(list)) && ctx.Err() == nil; i = next.Add(1) - 1 {
				v.readStored(ctx, list[i], buf)
			}
		})
	}
	workers.Wait()
}

// readStored reads an object of a base backup, and reports what is wrong with it.
func (v *Verifier) readStored(ctx context.Context, o storedObject, buf []byte) {
	left := o.PlainSize
	var inside *manifest.DamagedError
	err := v.retry(ctx, func(ctx context.Context, alive func()) error {
		inside = nil
		body, err := v.archive.OpenStored(ctx, o.of.ID, o.Stored)
		if err != nil {
			return err
		}
		defer body.Close()
		r := &progressReader{r: body, alive: alive, read: func(n int64) {
			n = min(n, left) // after a failed try they come again
			left -= n
			v.done.Add(n)
		}}
		if o.Name() != archive.BackupManifest {
			_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, r, buf)
			return err
		}
		if _, err = manifest.Read(r, nil); errors.As(err, &inside) {
			return nil
		}
		return err
	})
	v.done.Add(left)
	v.judge(ctx, o, err, inside)
}

// judge reports what became of the reading of an object.
func (v *Verifier) judge(ctx context.Context, o storedObject, err error, inside *manifest.DamagedError) {
	f := Finding{
		Kind: KindBackup, Object: v.archive.BackupKey(o.of.ID, o.File), Timeline: o.of.Timeline, LSN: o.of.StartLSN, Advice: adviceBackup,
	}
	var damaged *archive.DamagedError
	switch {
	case err == nil && inside != nil:
		f.Message = inside.Error()
		v.found(f)
	case err == nil:
		v.count(func(r *Report) { r.Objects++; r.Bytes += o.PlainSize })
	case ctx.Err() != nil:
	case errors.Is(err, errStore):
		v.skipped.Add(1)
	case errors.As(err, &damaged):
		f.Message = damaged.Reason
		v.found(f)
	case errors.Is(err, archive.ErrEncrypted):
		v.encryptedStored(ctx, o)
	case errors.Is(err, fs.ErrNotExist) && v.deleted(ctx, o.of.ID):
		f.Kind, f.Message, f.Advice = KindRemoved, "the base backup was deleted meanwhile", ""
		v.notice(f)
	case errors.Is(err, fs.ErrNotExist):
		f.Message = "it was listed, and is gone"
		v.found(f)
	default:
		f.Kind, f.Message, f.Advice = KindUnreadable, err.Error(), adviceStore
		v.unread(f)
	}
}

// deleted tells whether what says that a base backup is good is gone: it goes first.
func (v *Verifier) deleted(ctx context.Context, id string) bool {
	err := v.retry(ctx, func(ctx context.Context, _ func()) error {
		_, err := v.archive.BackupDocument(ctx, id, archive.BackupEnd)
		return err
	})
	return errors.Is(err, fs.ErrNotExist)
}

// encryptedStored checks what can be checked of an object that no identity fits.
func (v *Verifier) encryptedStored(ctx context.Context, o storedObject) {
	err := v.retry(ctx, func(ctx context.Context, _ func()) error {
		return v.archive.CheckStored(ctx, o.of.ID, o.Stored)
	})
	if err != nil {
		v.judge(ctx, o, err, nil)
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.locked[v.archive.BackupKey(o.of.ID, o.File)] = true
}

// progressReader tells of what is read through it.
type progressReader struct {
	r     io.Reader
	alive func()
	read  func(n int64)
}

func (p *progressReader) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	p.alive()
	p.read(int64(n))
	return n, err
}
