// Package compress replaces the sealed segments of a spool that has no archive
// by compressed ones, as pg_receivewal's --compress leaves them. It works beside
// the receiver and holds nothing back: a segment that could not be compressed
// stays as it is until the next try.
package compress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path"

	"github.com/walrecv/walrecv/internal/codec"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
)

const scratchSuffix = ".tmp"

// Compressor compresses what is sealed. Run is to be called once.
type Compressor struct {
	spool  *segment.Spool
	method codec.Method
	level  int
	log    *slog.Logger
	wake   chan struct{}
	failed string // the last failure, logged already
}

// New prepares a Compressor for a spool that was identified.
func New(spool *segment.Spool, method codec.Method, level int, log *slog.Logger) *Compressor {
	return &Compressor{spool: spool, method: method, level: level, log: log, wake: make(chan struct{}, 1)}
}

// Nudge says that there may be sealed segments. It never blocks.
func (c *Compressor) Nudge() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Run compresses what is sealed until ctx ends. What fails is logged, when it
// begins, and tried again with the next segment.
func (c *Compressor) Run(ctx context.Context) {
	for {
		err := c.Pass(ctx)
		switch {
		case err == nil:
			c.failed = ""
		case err.Error() != c.failed && ctx.Err() == nil:
			c.failed = err.Error()
			c.log.Warn("cannot compress a segment, it stays as it is for now, and is tried again with the next: correct what the error says", "error", err)
		}
		select {
		case <-c.wake:
		case <-ctx.Done():
			return
		}
	}
}

// Pass compresses every sealed segment that is not, as long as ctx lasts. It
// must not run beside Run.
func (c *Compressor) Pass(ctx context.Context) error {
	l, err := c.spool.Scan()
	if err != nil {
		return err
	}
	for _, f := range l.Sealed {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if f.Suffix != "" {
			continue
		}
		if err := c.segment(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

// segment compresses one segment. In this order: compressed into a scratch
// file, synced, renamed, the directory synced; then the plain file is removed.
func (c *Compressor) segment(ctx context.Context, f segment.File) error {
	fsys := c.spool.FS()
	plain := path.Join(c.spool.Dir(), f.Base)
	final := plain + c.method.Suffix()
	scratch := final + scratchSuffix
	if err := fsys.Remove(scratch); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	dst, err := fsys.Create(scratch, c.spool.Cluster().FileMode)
	if err != nil {
		return err
	}
	defer dst.Close()
	if err := c.copy(ctx, dst, plain, f.Size); err != nil {
		_ = fsys.Remove(scratch) // the first error is the one to tell of
		return fmt.Errorf("compress %s: %w", f.Base, err)
	}
	return c.spool.Exchange(func() error {
		if err := vfs.Rename(fsys, dst, scratch, final); err != nil {
			return err
		}
		return fsys.Remove(plain)
	})
}

func (c *Compressor) copy(ctx context.Context, dst io.WriterAt, plain string, size int64) error {
	src, err := c.spool.FS().OpenRead(plain)
	if err != nil {
		return err
	}
	defer src.Close()
	w, err := codec.NewWriter(io.NewOffsetWriter(dst, 0), c.method, c.level, size)
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, endable{ctx, io.NewSectionReader(src, 0, size)}); err != nil {
		return err
	}
	return w.Close()
}

// endable is a reader that fails once its context has ended: a stop need not wait
// for a large segment.
type endable struct {
	ctx context.Context
	r   io.Reader
}

func (e endable) Read(p []byte) (int, error) {
	if err := e.ctx.Err(); err != nil {
		return 0, err
	}
	return e.r.Read(p)
}

// Check reads a compressed segment through: nil says that it is a whole one.
func Check(spool *segment.Spool, f segment.File) error {
	file, err := spool.FS().OpenRead(path.Join(spool.Dir(), f.Base))
	if err != nil {
		return err
	}
	defer file.Close()
	_, method := codec.DetectSuffix(f.Base)
	plain, err := codec.NewReader(io.NewSectionReader(file, 0, f.Size), method, int64(spool.Size()))
	if err != nil {
		return err
	}
	defer plain.Close()
	n, err := io.Copy(io.Discard, plain)
	if err == nil && n != int64(spool.Size()) {
		err = fmt.Errorf("it holds %d bytes instead of %d", n, int64(spool.Size()))
	}
	return err
}
