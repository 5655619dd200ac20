package archive

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"sync"
	"syscall"

	"github.com/walrecv/walrecv/internal/crypt"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/storage"
)

// scratchSuffix ends the names of scratch files; those that a crash leaves are
// removed with all others of the spool that end in ".tmp".
const scratchSuffix = ".put.tmp"

// maxInMemory is the largest segment, in bytes, that is compressed in memory
// where there is no room on disk.
const maxInMemory = 64 << 20

// Scratch is a directory in which compressed objects wait for the end of their
// Put. Nothing in it is worth a sync. It is safe for concurrent use.
//
// A full disk must not keep the archive from taking the segments whose removal
// would make room: then one object at a time is made in memory. Whoever has it waits
// for nothing that needs another one, such as its turn behind one.
type Scratch struct {
	fsys    vfs.FS
	dir     string
	private bool
	memory  chan struct{} // holds a token while an object is in memory
}

// NewScratch returns a Scratch in a directory that exists.
func NewScratch(fsys vfs.FS, dir string) *Scratch {
	return &Scratch{fsys: fsys, dir: dir, memory: make(chan struct{}, 1)}
}

// NewPrivateScratch returns a Scratch in a directory that others use as well, and
// whose files nobody sweeps. They lose their names, which are random, as soon as
// they have them, so that nothing stays however the process ends.
func NewPrivateScratch(fsys vfs.FS, dir string) *Scratch {
	s := NewScratch(fsys, dir)
	s.private = true
	return s
}

// LocalError says that the disk of this host failed, not the store. Trying
// again may not help, and a segment that cannot be read is no outage.
type LocalError struct{ Err error }

func (e *LocalError) Error() string { return e.Err.Error() }

// Unwrap returns the reason.
func (e *LocalError) Unwrap() error { return e.Err }

// prepared is an object that is ready to be put.
type prepared struct {
	object
	source *source
	remove func()
}

// making is how an object is made.
type making struct {
	encryption *crypt.Encryption       // nil: not encrypted
	size       int64                   // plain bytes
	open       func() (content, error) // a new reader of them
}

// prepare makes an object. base is a name that no other call uses at this time.
// The caller calls remove in the end. Errors of the disk are a [LocalError].
func (s *Scratch) prepare(ctx context.Context, base string, m making) (*prepared, error) {
	p, err := s.onDisk(base, m)
	if !noRoom(err) || m.size > maxInMemory {
		return p, err
	}
	select {
	case s.memory <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	p, err = m.inMemory()
	if err != nil {
		<-s.memory
		return nil, err
	}
	p.remove = sync.OnceFunc(func() { <-s.memory })
	return p, nil
}

// maxSmallObject is how many plain bytes an object has at most, that is always made
// in memory: the tail is archived often, and in small pieces.
const maxSmallObject = 1 << 20

// prepareSmall is prepare for an object that mostly is small: up to maxSmallObject
// plain bytes it never touches the disk. How many there are at a time is for the
// caller to limit.
func (s *Scratch) prepareSmall(ctx context.Context, base string, m making) (*prepared, error) {
	if m.size > maxSmallObject {
		return s.prepare(ctx, base, m)
	}
	return m.inMemory()
}

// noRoom tells whether an error says that a disk or a quota is full.
func noRoom(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

func (s *Scratch) onDisk(base string, m making) (*prepared, error) {
	file, remove, err := s.create(base)
	if err != nil {
		return nil, &LocalError{err}
	}
	o, err := m.encode(file)
	if err != nil {
		remove()
		return nil, &LocalError{fmt.Errorf("compress %s: %w", base, err)}
	}
	return &prepared{object: o, source: &source{at: file, size: o.length}, remove: remove}, nil
}

// create makes an empty scratch file. remove closes it, too.
func (s *Scratch) create(base string) (file vfs.File, remove func(), err error) {
	name := path.Join(s.dir, base+scratchSuffix)
	if s.private {
		name = path.Join(s.dir, "walrecv-"+rand.Text()+scratchSuffix)
	} else if err := s.fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("remove old scratch file: %w", err)
	}
	file, err = s.fsys.Create(name, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("create scratch file: %w", err)
	}
	// Best effort: what stays is removed with the next start.
	remove = sync.OnceFunc(func() {
		_ = file.Close()
		_ = s.fsys.Remove(name)
	})
	if !s.private {
		return file, remove, nil
	}
	if err := s.fsys.Remove(name); err != nil {
		remove()
		return nil, nil, fmt.Errorf("remove the name of a scratch file: %w", err)
	}
	return file, remove, nil
}

// inMemory makes an object that is small.
func (m making) inMemory() (*prepared, error) {
	var out memory
	o, err := m.encode(&out)
	if err != nil {
		return nil, &LocalError{err}
	}
	return &prepared{object: o, source: &source{at: bytes.NewReader(out.bytes), size: o.length}, remove: func() {}}, nil
}

func (m making) encode(dst io.WriterAt) (object, error) {
	plain, err := m.open()
	if err != nil {
		return object{}, err
	}
	defer plain.Close() // nothing was written through it
	return encode(dst, m.encryption, plain, m.size)
}

// source is a [storage.Source] that remembers the error of its own reading: to
// the Put it looks like one of the store.
type source struct {
	at   io.ReaderAt
	size int64

	mu  sync.Mutex
	err error
}

var _ storage.Source = (*source)(nil)

// Open implements [storage.Source].
func (s *source) Open() (io.ReadSeekCloser, error) {
	return &sourceReader{section: io.NewSectionReader(s.at, 0, s.size), source: s}, nil
}

// Size implements [storage.Source].
func (s *source) Size() int64 { return s.size }

// failed is the first error of reading the source, or nil.
func (s *source) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *source) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
}

type sourceReader struct {
	section *io.SectionReader
	source  *source
}

func (r *sourceReader) Read(p []byte) (int, error) {
	n, err := r.section.Read(p)
	if err != nil && err != io.EOF {
		r.source.fail(err)
	}
	return n, err
}

func (r *sourceReader) Seek(offset int64, whence int) (int64, error) {
	return r.section.Seek(offset, whence)
}

func (r *sourceReader) Close() error { return nil }
