package extract

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/manifest"
	"github.com/walrecv/walrecv/segment"
)

// tries say how patient a restore is with the store.
type tries struct {
	most        int // in a row that get nowhere
	first, last time.Duration
}

var defaultTries = tries{most: 6, first: time.Second, last: 30 * time.Second}

// fetch opens an object and reads it with read, again if the store fails. got tells
// how far read got: a try that gets further is not one in vain.
func (x *extraction) fetch(ctx context.Context, o archive.Stored, read func(io.Reader) error, got func() int) error {
	pauses := backoff.ExponentialBackOff{
		InitialInterval: x.tries.first, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: x.tries.last,
	}
	before := got()
	for vain := 1; ; vain++ {
		err := x.fetchOnce(ctx, o, read)
		if now := got(); now > before {
			before, vain = now, 1
			pauses.Reset()
		}
		var onDisk *diskError
		switch {
		case err == nil || errors.As(err, &onDisk):
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case isFinal(err):
			return x.lost(o, err)
		case vain >= x.tries.most:
			return fmt.Errorf("%s of base backup %s: %w", o.File, x.backup.ID, err)
		}
		pause := time.NewTimer(pauses.NextBackOff())
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return context.Cause(ctx)
		}
	}
}

func (x *extraction) fetchOnce(ctx context.Context, o archive.Stored, read func(io.Reader) error) error {
	r, err := x.archive.OpenStored(ctx, x.backup.ID, o)
	if err != nil {
		return err
	}
	defer r.Close() // nothing was written through it
	return read(r)
}

// isFinal tells whether an error says what an object is.
func isFinal(err error) bool {
	var ours *DamagedError
	var damaged *archive.DamagedError
	return errors.As(err, &ours) || errors.As(err, &damaged) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, archive.ErrEncrypted)
}

// lost says of a backup what is wrong with one of its objects.
func (x *extraction) lost(o archive.Stored, err error) error {
	var ours *DamagedError
	switch {
	case errors.As(err, &ours):
		return err
	case errors.Is(err, archive.ErrEncrypted):
		return fmt.Errorf("base backup %s: %w", x.backup.ID, err)
	case errors.Is(err, fs.ErrNotExist):
		return x.damaged("its object %s is missing: %w", o.File, err)
	}
	return x.damaged("%w", err)
}

// unpackObject extracts a tar, or a piece of one.
func (x *extraction) unpackObject(ctx context.Context, s *space, o archive.Stored) error {
	u := &unpacking{x: x, space: s, file: o.File, buf: make([]byte, piece)}
	return x.fetch(ctx, o, u.unpack, func() int { return u.done })
}

// readManifest reads the manifest, and leaves a copy of it in the data directory, as
// pg_basebackup does.
func (x *extraction) readManifest(ctx context.Context) error {
	data := x.spaces[0]
	read := func(r io.Reader) error {
		out, err := data.create(manifestFile, fileMode)
		if err != nil {
			return disk(err)
		}
		w := &diskWriter{w: out}
		buffered := bufio.NewWriterSize(w, piece)
		c := &manifest.Copy{W: buffered}
		if x.moved() {
			c.Path, c.Content = mapFile, x.mapContent()
		}
		x.manifest, err = manifest.Read(r, c)
		if err == nil {
			err = buffered.Flush()
		}
		err = errors.Join(err, disk(out.Close()))
		if err != nil {
			err = errors.Join(err, disk(data.root.Remove(manifestFile)))
		}
		var damaged *manifest.DamagedError
		if errors.As(err, &damaged) {
			return x.damaged("%w", damaged)
		}
		return err
	}
	if err := x.fetch(ctx, x.backup.Manifest(), read, func() int { return 0 }); err != nil {
		return err
	}
	x.seen = make([]atomic.Bool, x.manifest.Len())
	x.total = x.manifest.Size()
	if x.options.Reread {
		x.total *= 2
	}
	return x.checkManifest()
}

// diskWriter marks its errors as those of the disk.
type diskWriter struct{ w io.Writer }

// Write implements io.Writer.
func (d *diskWriter) Write(p []byte) (int, error) {
	n, err := d.w.Write(p)
	return n, disk(err)
}

// checkManifest looks whether the manifest is that of this backup.
func (x *extraction) checkManifest() error {
	m, system := x.manifest, x.archive.Identity().SystemID
	if m.SystemID != 0 && m.SystemID != system {
		return x.damaged("its manifest is of the cluster with system identifier %d, not of %d", m.SystemID, system)
	}
	var start, end segment.LSN
	for i, r := range m.Ranges {
		if i == 0 || r.Start < start {
			start = r.Start
		}
		end = max(end, r.End)
	}
	if start != x.backup.StartLSN || end != x.backup.EndLSN {
		return x.damaged("its manifest is of a backup from %s to %s, not from %s to %s", start, end, x.backup.StartLSN, x.backup.EndLSN)
	}
	return nil
}

// keepControl keeps pg_control, which begins with the system identifier, in the byte
// order of the server's machine: all that are supported are little-endian.
func (x *extraction) keepControl(content []byte, mode fs.FileMode) error {
	system := x.archive.Identity().SystemID
	if len(content) < 8 || binary.LittleEndian.Uint64(content) != system {
		return x.damaged("its %s is not that of the cluster with system identifier %d", controlFile, system)
	}
	x.control, x.controls = content, mode
	return nil
}
