package archive

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"time"

	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
)

// maxTailListing is how many bytes of listings one try may have to move.
const maxTailListing = 1 << 20

// look finds what the spool and the archive had when the stream began. The spool
// comes first: a segment that leaves it meanwhile is in the archive then.
func (r *tailRun) look(ctx context.Context, job *tailJob) error {
	at, size := job.stream.at, job.stream.size
	first := segment.Name{Timeline: at.Timeline, Number: size.Number(at.LSN)}
	job.found = found{complete: map[uint64]bool{}, encrypted: r.archive.keys.Encryption != nil}
	err := r.spool.View(func(l segment.Listing) {
		for _, f := range l.Sealed {
			if f.Name.Timeline == first.Timeline && f.Name.Number >= first.Number {
				job.found.complete[f.Name.Number] = false
			}
		}
	})
	if err != nil {
		return &LocalError{err}
	}
	err = tryOnce(ctx, maxTailListing, func(ctx context.Context) error {
		return r.archive.lookFrom(ctx, first, &job.found)
	})
	if err != nil {
		return err
	}
	// What waits in the spool is asked for anew: this is later than the beginning of
	// the stream.
	job.since = r.uploader.looks.Load()
	if r.drain {
		return r.uploader.Drain(ctx)
	}
	r.uploader.Nudge()
	return nil
}

// lookFrom adds what the archive has of a segment and of those after it on its
// timeline.
func (a *Archive) lookFrom(ctx context.Context, first segment.Name, had *found) error {
	base, t := first.Format(a.id.SegmentSize), first.Timeline.String()
	wal := systemDir(a.id.SystemID) + walDir + "/" + t + "/"
	err := storage.ListFrom(ctx, a.store, wal, wal+base, func(info storage.Info) error {
		if o, n, ok := a.parse(info.Key); ok && o.Kind == KindSegment {
			had.complete[n.Number] = true
		}
		return nil
	})
	if err != nil {
		return err
	}
	tail := systemDir(a.id.SystemID) + tailDir + "/"
	return storage.ListFrom(ctx, a.store, tail+t, tail+base+"/", func(info storage.Info) error {
		if o, n, ok := a.parse(info.Key); ok && o.To <= int64(a.id.SegmentSize) {
			had.chunks = append(had.chunks, Chunk{Name: n, From: o.From, To: o.To, Encrypted: o.Encrypted})
		}
		return nil
	})
}

// parse reads the key of something that belongs to a segment.
func (a *Archive) parse(key string) (Object, segment.Name, bool) {
	o, err := ParseKey(key)
	if err != nil || o.Segment == "" {
		return o, segment.Name{}, false
	}
	n, err := segment.ParseName(o.Segment, a.id.SegmentSize)
	return o, n, err == nil
}

// put puts a chunk.
func (r *tailRun) put(ctx context.Context, job *tailJob) error {
	c := job.step.chunk
	return tryOnce(ctx, c.To-c.From, func(try context.Context) error {
		began := time.Now()
		p, err := r.prepare(try, c)
		if err == nil {
			_, err = r.archive.put(try, r.archive.chunkObject(c), p)
			p.remove()
		}
		if ctx.Err() == nil {
			r.o.OnUpload("tail", time.Since(began), err)
		}
		return err
	})
}

// compareFound compares a chunk that was found with what came.
func (r *tailRun) compareFound(ctx context.Context, job *tailJob) error {
	c := job.step.chunk
	return tryOnce(ctx, c.To-c.From, func(try context.Context) error {
		p, err := r.prepare(try, c)
		if err != nil {
			return err
		}
		defer p.remove()
		if err := r.archive.compare(try, r.archive.chunkObject(c), p.object); err != nil {
			return err
		}
		return storage.Confirm(try, r.archive.store, r.archive.chunkKey(c)) // before anything is acknowledged on it
	})
}

// compareAhead compares what came with the beginning of what chunks hold, which are
// read to their ends: their digests count for all of it.
func (r *tailRun) compareAhead(ctx context.Context, job *tailJob) error {
	c := job.step.chunk
	return tryOnce(ctx, int64(r.archive.id.SegmentSize), func(try context.Context) error {
		file, err := openStreamed(r.spool, c.Name)
		if err != nil {
			return &LocalError{err}
		}
		defer file.Close() // it was only read
		for _, ahead := range job.step.ahead {
			if err := r.archive.beginsWith(try, ahead, file, c.To); err != nil {
				return err
			}
			if err := storage.Confirm(try, r.archive.store, r.archive.chunkKey(ahead)); err != nil {
				return err
			}
		}
		return nil
	})
}

// prepare makes the object of a chunk, a few at a time.
func (r *tailRun) prepare(ctx context.Context, c Chunk) (*prepared, error) {
	select {
	case r.encoding <- struct{}{}:
		defer func() { <-r.encoding }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return r.archive.prepareChunk(ctx, r.scratch, c, func() (io.ReadCloser, error) {
		file, err := openStreamed(r.spool, c.Name)
		if err != nil {
			return nil, err
		}
		return fileReader{io.NewSectionReader(file, c.From, c.To-c.From), file}, nil
	})
}

// compareComplete compares a complete segment, which the archive has already, with what
// came. One that has left the spool was compared by the uploader.
func (r *tailRun) compareComplete(ctx context.Context, job *tailJob) error {
	name := *job.step.complete
	size := int64(r.archive.id.SegmentSize)
	open := r.archive.partialContent(name, interruptible(ctx, func() (io.ReadCloser, error) {
		file, err := openStreamed(r.spool, name)
		if err != nil {
			return nil, err
		}
		return fileReader{io.NewSectionReader(file, 0, size), file}, nil
	}))
	return tryOnce(ctx, size, func(try context.Context) error {
		p, err := r.archive.prepare(try, r.scratch, "compare."+name.Format(r.archive.id.SegmentSize), open)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		defer p.remove()
		_, err = r.archive.put(try, r.archive.walObject(KindSegment, name), p)
		return err
	})
}

// openStreamed opens the file of a segment that is being streamed, or was.
func openStreamed(s Spool, name segment.Name) (vfs.File, error) {
	file := path.Join(s.Dir(), name.Format(s.Size()))
	f, err := s.FS().OpenRead(file + segment.PartialSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return s.FS().OpenRead(file)
	}
	return f, err
}
