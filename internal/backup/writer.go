package backup

import (
	"context"
	"errors"
	"fmt"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/segment"
)

// pieceSize is how many plain bytes an object has of a tar when the next file begins
// another one: as many as one connection brings in some seconds, since a restore
// reads several at a time.
const pieceSize = 256 << 20

// Writer puts a base backup into an archive while it comes from a server. Nothing of it
// waits on this host. It is for one goroutine at a time, and ends with a Finish that
// returns nil, or with Abort.
type Writer struct {
	a         *archive.Archive
	backup    Backup
	pieceSize int64

	ctx     context.Context       // of the call that began the tar or the manifest
	tar     string                // what is written: a tar; "" is the manifest
	pieces  int                   // objects of it
	borders tarReader             // of the tar
	object  *archive.ObjectWriter // that is written; nil: none is
	before  chan committed        // the one before it, while it is committed; nil: none is
	err     error                 // the first one: what every later call returns
}

type committed struct {
	stored archive.Stored
	err    error
}

// Begin says in an archive that a backup begins: from then on its WAL is held there.
// s has no ID; two backups can begin in the same second. Nothing of the backup may be
// put before.
func Begin(ctx context.Context, a *archive.Archive, s Start) (*Writer, error) {
	if id := a.Identity(); s.SystemID != id.SystemID || s.Major != id.Major {
		return nil, fmt.Errorf("the archive is of the cluster %s, the backup of %d, PostgreSQL %d: %w", id, s.SystemID, s.Major, segment.ErrWrongCluster)
	}
	s.Started = s.Started.UTC()
	err := archive.PutUnder(s.Started, func(id string) error {
		s.ID = id
		if err := s.check(id); err != nil {
			return err
		}
		content, err := encodeStart(s)
		if err != nil {
			return err
		}
		return a.PutBackupDocument(ctx, id, archive.BackupStart, content)
	})
	if err != nil {
		return nil, err
	}
	return &Writer{a: a, backup: Backup{Start: s}, pieceSize: pieceSize}, nil
}

// ID is that of the backup.
func (w *Writer) ID() string { return w.backup.ID }

// Tablespace says that the tar of a tablespace follows; oid 0 is the data directory.
// ctx governs its writing.
func (w *Writer) Tablespace(ctx context.Context, oid uint32, location string, size int64) error {
	t := Tablespace{OID: oid, Location: location, Size: size}
	return w.begin(ctx, t.Tar(), func() { w.backup.Tablespaces = append(w.backup.Tablespaces, t) })
}

// Manifest says that the server's manifest follows. ctx governs its writing.
func (w *Writer) Manifest(ctx context.Context) error { return w.begin(ctx, "", func() {}) }

// begin ends what was written, and begins something else.
func (w *Writer) begin(ctx context.Context, tar string, note func()) error {
	if w.err != nil {
		return w.err
	}
	if w.err = w.endPart(); w.err != nil {
		return w.err
	}
	note()
	w.ctx, w.tar, w.pieces, w.borders = ctx, tar, 0, tarReader{}
	w.err = w.nextObject()
	return w.err
}

// Write takes the next bytes of what was begun last. An error is final, and may be that
// of an earlier call.
func (w *Writer) Write(p []byte) (n int, err error) {
	if w.err == nil && w.object == nil {
		w.err = errors.New("data of a base backup comes before it is said what it is of")
	}
	if w.err != nil {
		return 0, w.err
	}
	if w.tar == "" {
		n, w.err = w.object.Write(p)
		return n, w.err
	}
	for rest := p; len(rest) > 0; {
		var out []byte
		var border bool
		if out, rest, border, w.err = w.borders.next(rest); w.err != nil {
			return 0, w.err
		}
		if border && w.object.Len() >= w.pieceSize {
			if w.err = w.nextObject(); w.err != nil {
				return 0, w.err
			}
		}
		if _, w.err = w.object.Write(out); w.err != nil {
			return 0, w.err
		}
	}
	return len(p), nil
}

// endPart ends the tar or the manifest that is written.
func (w *Writer) endPart() error {
	if w.object == nil {
		return nil
	}
	if w.tar != "" {
		if err := w.borders.end(); err != nil {
			return err
		}
	}
	return w.commit()
}

// nextObject begins an object, and commits the one that is written.
func (w *Writer) nextObject() error {
	if err := w.commit(); err != nil {
		return err
	}
	file := archive.BackupManifest
	if w.tar != "" {
		w.pieces++
		file = archive.TarFile(w.tar, w.pieces)
	}
	object, err := w.a.Create(w.ctx, archive.Object{Kind: archive.KindBaseBackup, ID: w.backup.ID, File: file})
	if err != nil {
		return err
	}
	w.object = object
	return nil
}

// commit ends the object that is written, while the next one already is: it waits for
// the one before.
func (w *Writer) commit() error {
	if w.object == nil {
		return nil
	}
	if err := w.committed(); err != nil {
		return err
	}
	object, done := w.object, make(chan committed, 1)
	w.object, w.before = nil, done
	go func() {
		stored, err := object.Commit()
		if err != nil {
			_ = object.Abort() // that it failed is what counts
		}
		done <- committed{stored, err}
	}()
	return nil
}

// committed waits for the object that is committed, and notes it.
func (w *Writer) committed() error {
	if w.before == nil {
		return nil
	}
	c := <-w.before
	w.before = nil
	if c.err != nil {
		return c.err
	}
	b := &w.backup
	b.Objects = append(b.Objects, c.stored)
	b.PlainSize += c.stored.PlainSize
	b.StoredSize += c.stored.Size
	return nil
}

// Abort gives the backup up; after a Finish that returned nil it does nothing. What is in
// the archive stays there, and is never listed as good.
func (w *Writer) Abort() {
	if w.err == nil {
		w.err = errors.New("the base backup was given up")
	}
	if w.object != nil {
		_ = w.object.Abort() // what is left is swept up as that of who was killed
		w.object = nil
	}
	_ = w.committed() // nothing of it counts
}
