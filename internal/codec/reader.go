package codec

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// maxWindow is the largest zstd window that is accepted, in bytes: what
// `zstd -d` accepts too. A decoder allocates that much at most.
const maxWindow = 128 << 20

// ErrTooLong is what a file holds that has more content than the caller of
// [NewReader] allows. It comes wrapped in a [CorruptError].
var ErrTooLong = errors.New("content is longer than expected")

// CorruptError says that a file is not what its method says it should be: cut
// short (it then wraps [io.ErrUnexpectedEOF]), altered, of another format, or
// too long ([ErrTooLong]). Errors of the underlying reader are never in it.
type CorruptError struct {
	Method Method
	Err    error
}

func (e *CorruptError) Error() string { return fmt.Sprintf("%s: %v", e.Method, e.Err) }

// Unwrap returns the reason.
func (e *CorruptError) Unwrap() error { return e.Err }

// NewReader returns a reader of the plain bytes of r. It yields limit bytes at
// most; a file with more than that is corrupt. What was read is to be trusted
// only after io.EOF, which comes only at the end of a whole file with the right
// checksums. An error of r itself is returned as it is; everything that is wrong
// with the file is a [CorruptError].
//
// Several members or frames in one file are read as one. An empty file is cut
// short for every method but None, which knows no end. Close frees memory and
// does not close r.
func NewReader(r io.Reader, m Method, limit int64) (*Reader, error) {
	if _, ok := methods[m]; !ok {
		return nil, unknownMethod(string(m))
	}
	src := &source{r: r}
	return &Reader{method: m, left: limit, src: src, buf: bufio.NewReaderSize(src, 64<<10)}, nil
}

// source remembers how the underlying reader ended. Decoders wrap its error, or
// take a connection that broke between two frames for the end of the file.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.r.Read(p)
	s.err = err
	return n, err
}

// failed is the error of the underlying reader, nil if it is well or at its end.
func (s *source) failed() error {
	if s.err == io.EOF {
		return nil
	}
	return s.err
}

// Reader reads back what was compressed.
type Reader struct {
	method Method
	left   int64 // bytes that may still be yielded
	src    *source
	buf    *bufio.Reader
	dec    io.Reader // nil before the first Read
	free   func()    // nil if there is nothing to free
	err    error     // what every later Read returns
}

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if r.dec == nil {
		if err := r.open(); err != nil {
			r.err = r.explain(err)
			return 0, r.err
		}
	}
	// One byte more than is allowed tells whether the file ends where it should.
	if int64(len(p)) > r.left {
		p = p[:max(r.left, 1)]
	}
	n, err := r.dec.Read(p)
	if int64(n) > r.left {
		n, err = int(r.left), ErrTooLong
	}
	r.left -= int64(n)
	if err != nil {
		r.err = r.explain(err)
	}
	return n, r.err
}

// explain tells trouble with reading from trouble with what was read.
func (r *Reader) explain(err error) error {
	if failed := r.src.failed(); failed != nil && !errors.Is(err, ErrTooLong) {
		return failed
	}
	if err == io.EOF {
		return io.EOF
	}
	return &CorruptError{Method: r.method, Err: err}
}

// open makes the decoder, which may read the head of the file.
func (r *Reader) open() error {
	if r.method == None {
		r.dec = r.buf
		return nil
	}
	// All decoders take an empty file for an empty content.
	if _, err := r.buf.Peek(1); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	switch r.method {
	case Gzip:
		dec, err := gzip.NewReader(r.buf)
		if err != nil {
			return err
		}
		r.dec = dec
	case LZ4:
		r.dec = lz4.NewReader(r.buf)
	case Zstd:
		dec, err := zstd.NewReader(r.buf,
			zstd.WithDecoderConcurrency(1),
			zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxMemory(maxWindow),
			zstd.WithDecoderMaxWindow(maxWindow),
		)
		if err != nil {
			return err
		}
		r.dec, r.free = dec, dec.Close
	}
	return nil
}

// Memory is about how much memory the reading takes, in bytes, which the file itself
// decides. It reads the beginning of the file. What is wrong with that Read says.
func (r *Reader) Memory() int64 {
	switch r.method {
	case LZ4:
		if head, _ := r.buf.Peek(6); len(head) == 6 {
			return 2 << (8 + 2*(head[5]>>4&7)) // what is read and what comes of it, a block of each
		}
	case Zstd:
		head, _ := r.buf.Peek(zstd.HeaderMaxSize)
		var h zstd.Header
		switch {
		case h.Decode(head) != nil:
		case h.SingleSegment:
			return int64(min(h.FrameContentSize, uint64(r.left))) + zstdBlocks
		default:
			return int64(min(h.WindowSize, maxWindow)) + zstdBlocks
		}
	}
	return 0
}

// zstdBlocks is what a decoder has besides the window.
const zstdBlocks = 512 << 10

// Close implements io.Closer.
func (r *Reader) Close() error {
	if r.free != nil {
		r.free()
		r.free = nil
	}
	if r.err == nil {
		r.err = errors.New("codec: read after close")
	}
	r.dec, r.buf = nil, nil
	return nil
}
