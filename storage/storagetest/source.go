package storagetest

import (
	"bytes"
	"errors"
	"io"
	"sync/atomic"

	"github.com/walrecv/walrecv/storage"
)

// source is a Source with a hook, and with a size that may be a lie.
type source struct {
	data []byte
	size int64
	// hook, if not nil, is called before each read, with the bytes read so far
	// and the number of the reader, from 1. An error ends the reading.
	hook func(open int, done int64) error
	// piece, if not 0, is the most that one read gives.
	piece int

	openErr error
	opens   atomic.Int32
	closes  atomic.Int32
}

func newSource(data []byte) *source {
	return &source{data: data, size: int64(len(data)), piece: max(1, len(data)/7)}
}

var _ storage.Source = (*source)(nil)

func (s *source) Size() int64 { return s.size }

func (s *source) Open() (io.ReadSeekCloser, error) {
	if s.openErr != nil {
		return nil, s.openErr
	}
	return &sourceReader{Reader: bytes.NewReader(s.data), source: s, open: int(s.opens.Add(1))}, nil
}

// leaks reports whether a reader was not closed, or twice.
func (s *source) leaks() bool { return s.opens.Load() != s.closes.Load() }

type sourceReader struct {
	*bytes.Reader
	source *source
	open   int
	closed bool
}

// WriteTo would get around Read, and so it is hidden.
func (r *sourceReader) WriteTo(io.Writer) (int64, error) {
	return 0, errors.New("a Source's reader has Read, Seek and Close only")
}

func (r *sourceReader) Read(p []byte) (int, error) {
	if r.closed {
		return 0, errors.New("read after Close")
	}
	if hook := r.source.hook; hook != nil {
		if err := hook(r.open, r.Size()-int64(r.Len())); err != nil {
			return 0, err
		}
	}
	if r.source.piece > 0 {
		p = p[:min(len(p), r.source.piece)]
	}
	return r.Reader.Read(p)
}

func (r *sourceReader) Close() error {
	r.closed = true
	r.source.closes.Add(1)
	return nil
}
