package archive

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"time"

	"github.com/walrecv/walrecv/internal/codec"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
)

// outcome is what there is to say of an upload that is over.
type outcome struct {
	digest Digest   // of the plain bytes, of a segment
	made   *trailer // of the object, if it was not there before
	err    error
}

// upload archives one item, when its turn has come. It succeeds once the archive has
// confirmed it.
func (u *Uploader) upload(ctx context.Context, i item, turn <-chan struct{}) (o outcome) {
	began := time.Now()
	switch i.kind {
	case itemHistory:
		o.err = u.uploadHistory(ctx, i)
	case itemGap, itemMark:
		o.err = u.uploadFinding(ctx, i)
	case itemSealed:
		o = u.uploadSealed(ctx, i, turn)
	case itemPartial:
		o.err = u.uploadPartial(ctx, i, turn)
	}
	if o.err == nil && i.archived == nil {
		u.log.Debug("archived", "file", i.bases[0], "took", time.Since(began).Round(time.Millisecond).String())
	}
	return o
}

func (u *Uploader) uploadHistory(ctx context.Context, i item) error {
	content, err := vfs.ReadFile(u.spool.FS(), u.path(i))
	if err != nil {
		return &LocalError{err}
	}
	return u.retry(ctx, i, patiently(int64(len(content)), func(ctx context.Context) error {
		return u.archive.PutHistory(ctx, i.name.Timeline, content)
	}))
}

// uploadFinding archives what was found out about the WAL. A file that says
// nothing must not hold up the WAL itself.
func (u *Uploader) uploadFinding(ctx context.Context, i item) error {
	kind := KindGap
	if i.kind == itemMark {
		kind = KindMark
	}
	content, err := vfs.ReadFile(u.spool.FS(), u.path(i))
	if err != nil {
		return &LocalError{err}
	}
	if err := u.archive.checkFinding(kind, i.bases[0], content); err != nil {
		u.log.Error("a file of the spool makes no sense and is not archived; move it away, and look at the disk", "file", i.bases[0], "error", err)
		return nil
	}
	return u.retry(ctx, i, patiently(int64(len(content)), func(ctx context.Context) error {
		return u.archive.putFinding(ctx, kind, i.bases[0], content)
	}))
}

// retry tries an upload until it works, and tells of every try.
func (u *Uploader) retry(ctx context.Context, i item, try func(context.Context) error) error {
	return u.outage.retry(ctx, i.bases[0], func(one context.Context) error {
		began := time.Now()
		err := try(one)
		if ctx.Err() == nil {
			u.onUpload(i.kind.String(), time.Since(began), err)
		}
		return err
	})
}

// uploadSealed archives a complete segment. If its file may have been replaced
// since it was archived, it is compared.
func (u *Uploader) uploadSealed(ctx context.Context, i item, turn <-chan struct{}) outcome {
	if i.archived != nil {
		if same, err := u.unchanged(ctx, i, *i.archived); same || err != nil {
			return outcome{digest: *i.archived, err: err}
		}
	}
	if err := u.checkTail(ctx, i); err != nil {
		return outcome{err: err}
	}
	open := u.archive.segmentContent(i.name, u.sealed(ctx, i), u.summary(ctx, i.name))
	return u.uploadPrepared(ctx, i, open, KindSegment, turn)
}

// sealed opens a complete segment.
func (u *Uploader) sealed(ctx context.Context, i item) Opener {
	return interruptible(ctx, func() (io.ReadCloser, error) { return u.openSealed(i) })
}

// unchanged tells whether a segment of the spool still has a digest. One that is
// gone holds nothing else.
func (u *Uploader) unchanged(ctx context.Context, i item, d Digest) (bool, error) {
	plain, err := u.sealed(ctx, i)()
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, &LocalError{err}
	}
	defer plain.Close() // nothing was written through it
	h := sha256.New()
	if _, err := io.Copy(h, plain); err != nil {
		return false, &LocalError{err}
	}
	return Digest(h.Sum(nil)) == d, nil
}

// summaryWait is how long a summary is waited for.
const summaryWait = 10 * time.Second

// summary is what is known of a segment; nil if it has to be read.
func (u *Uploader) summary(ctx context.Context, name segment.Name) *segment.Summary {
	if u.summaries == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, summaryWait)
	defer cancel()
	s, ok := u.summaries.Summary(ctx, name)
	if !ok {
		return nil
	}
	return &s
}

// uploadPartial archives the partial of a timeline that has ended. One that
// makes no sense must not hold up the living timelines: what counts of it was
// streamed again, or it holds nothing that was ever acknowledged.
func (u *Uploader) uploadPartial(ctx context.Context, i item, turn <-chan struct{}) error {
	end, err := u.contentEnd(i)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it is complete by now
	}
	if err != nil {
		return &LocalError{err}
	}
	if end == 0 {
		u.log.Debug("nothing to archive: a partial without WAL", "file", i.bases[0])
		return nil
	}
	if superseded, err := u.superseded(ctx, i, end); superseded || err != nil {
		u.log.Debug("nothing to archive: the archive has more of the segment than this partial", "file", i.bases[0], "error", err)
		return err
	}
	open := u.archive.partialContent(i.name, interruptible(ctx, func() (io.ReadCloser, error) { return u.openPartial(i) }))
	err = u.uploadPrepared(ctx, i, open, KindPartial, turn).err
	var corrupt *segment.CorruptError
	if errors.As(err, &corrupt) {
		u.log.Error("a partial of an ended timeline is not archived; move it away if nothing of it is needed", "file", i.bases[0], "error", err)
		return nil
	}
	return err
}

// uploadPrepared makes the object once, however often it is put.
//
// Places cannot be waited for in a circle. Whoever has one of making may wait for the
// one in memory, and whoever has that one for nothing but the store. Who waits for its
// turn has neither: what is before it may need them.
func (u *Uploader) uploadPrepared(ctx context.Context, i item, open func() (content, error), kind Kind, turn <-chan struct{}) (o outcome) {
	var p *prepared
	defer func() {
		if p != nil {
			p.remove()
		}
	}()
	size := int64(u.archive.id.SegmentSize)
	m := u.archive.making(size, open)
	if turn != nil {
		// Not if it could take the room on disk that what is before it cannot do without.
		if size <= maxInMemory {
			p, _ = u.make(ctx, func() (*prepared, error) { return u.scratch.onDisk(i.bases[0], m) }) // an error comes again below
		}
		select {
		case <-turn:
		case <-ctx.Done():
			return outcome{err: ctx.Err()}
		}
	}
	o.err = u.retry(ctx, i, func(ctx context.Context) (err error) {
		if p == nil { // the store has no part in how long that takes
			if p, err = u.make(ctx, func() (*prepared, error) { return u.scratch.prepare(ctx, i.bases[0], m) }); err != nil {
				return err
			}
		}
		return tryOnce(ctx, size, func(try context.Context) error {
			made, err := u.archive.put(try, u.archive.walObject(kind, i.name), p)
			if made {
				o.made = &p.trailer
			}
			return err
		})
	})
	if o.err == nil {
		o.digest = p.trailer.Digest
	}
	return o
}

// make makes an object when there is a processor for it. More of them at a time would
// not be made sooner, and whoever receives would have to wait for its turn behind all
// of them.
func (u *Uploader) make(ctx context.Context, object func() (*prepared, error)) (*prepared, error) {
	select {
	case u.making <- struct{}{}:
		defer func() { <-u.making }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return object()
}

// interruptible makes readers that fail once ctx has ended: a shutdown need not
// wait for a large segment to be compressed.
func interruptible(ctx context.Context, open Opener) Opener {
	return func() (io.ReadCloser, error) {
		plain, err := open()
		if err != nil {
			return nil, err
		}
		return fileReader{contextReader{ctx, plain}, plain}, nil
	}
}

// openSealed opens the plain bytes of a complete segment.
func (u *Uploader) openSealed(i item) (io.ReadCloser, error) {
	file, size, err := u.open(i)
	if err != nil {
		return nil, err
	}
	content := io.NewSectionReader(file, 0, size)
	_, method := codec.DetectSuffix(i.bases[0])
	if method == codec.None {
		if size != int64(u.archive.id.SegmentSize) {
			file.Close() // nothing was written through it
			return nil, u.wrongSize(i, size)
		}
		return fileReader{content, file}, nil
	}
	plain, err := codec.NewReader(content, method, int64(u.archive.id.SegmentSize))
	if err != nil {
		file.Close() // nothing was written through it
		return nil, err
	}
	return fileReader{plain, closers{plain, file}}, nil
}

// openPartial opens the bytes of a partial, and zeros up to a segment's length:
// what the spool makes of a partial that a crash left short.
func (u *Uploader) openPartial(i item) (io.ReadCloser, error) {
	file, size, err := u.open(i)
	if err != nil {
		return nil, err
	}
	if size > int64(u.archive.id.SegmentSize) {
		file.Close() // nothing was written through it
		return nil, u.wrongSize(i, size)
	}
	return WithZeros(file, file, size, u.archive.id.SegmentSize), nil
}

func (u *Uploader) open(i item) (vfs.File, int64, error) {
	file, err := u.spool.FS().OpenRead(u.path(i))
	if err != nil {
		return nil, 0, err
	}
	size, err := file.Size()
	if err != nil {
		file.Close() // nothing was written through it
		return nil, 0, err
	}
	return file, size, nil
}

// contentEnd is the offset at which what is not zeros ends in a partial.
func (u *Uploader) contentEnd(i item) (int64, error) {
	file, size, err := u.open(i)
	if err != nil {
		return 0, err
	}
	defer file.Close() // nothing was written through it
	return segment.ContentEnd(file, size)
}

func (u *Uploader) wrongSize(i item, size int64) error {
	return &segment.CorruptError{
		Segment: i.bases[0],
		Offset:  min(size, int64(u.archive.id.SegmentSize)),
		Reason:  fmt.Sprintf("the file has %d bytes, a segment has %d", size, int64(u.archive.id.SegmentSize)),
	}
}

func (u *Uploader) path(i item) string { return path.Join(u.spool.Dir(), i.bases[0]) }

// fileReader reads from one thing and closes another.
type fileReader struct {
	io.Reader
	io.Closer
}

// contextReader fails once its context has ended.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

type closers []io.Closer

func (c closers) Close() error {
	var errs []error
	for _, closer := range c {
		errs = append(errs, closer.Close())
	}
	return errors.Join(errs...)
}

// zeros reads as zeros without an end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
