package codec

import (
	"io"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"
)

// streamEncoders keeps the encoders of streams that have ended.
var streamEncoders sync.Pool

const (
	// streamPiece is what is compressed at a time, in bytes. An encoder that works on
	// several blocks at a time by itself hands over every 128 KiB, twice, and takes a
	// third more of the processor for it.
	streamPiece = 512 << 10
	// streamPieces is how many of these a Stream has.
	streamPieces = 4
)

// Stream compresses with zstd, at its default level, a content of which the length is
// not known, beside who writes it. It is for one goroutine at a time.
type Stream struct {
	enc  *zstd.Encoder // nil once it is over
	fill []byte        // the piece that is filled; nil: none is
	full chan []byte   // pieces to compress
	free chan []byte   // pieces to fill, without content
	done chan struct{} // closed when nothing is compressed any more
	err  atomic.Value  // a failure: the first one
}

type failure struct{ error }

// NewStream begins a frame. w is written to by another goroutine, until Close or Abort
// has returned.
func NewStream(w io.Writer) (*Stream, error) {
	enc, ok := streamEncoders.Get().(*zstd.Encoder)
	if !ok {
		var err error
		if enc, err = newEncoder(zstd.SpeedFastest, 1); err != nil {
			return nil, err
		}
	}
	enc.Reset(w)
	s := &Stream{enc: enc, full: make(chan []byte, streamPieces), free: make(chan []byte, streamPieces), done: make(chan struct{})}
	for range streamPieces {
		s.free <- make([]byte, 0, streamPiece)
	}
	go s.run()
	return s, nil
}

// run compresses one piece after the other. After a failure it only gives them back.
func (s *Stream) run() {
	defer close(s.done)
	for piece := range s.full {
		if s.failed() == nil {
			if _, err := s.enc.Write(piece); err != nil {
				s.err.Store(failure{err})
			}
		}
		s.free <- piece[:0] // there is room for all of them
	}
}

func (s *Stream) failed() error {
	if f, ok := s.err.Load().(failure); ok {
		return f.error
	}
	return nil
}

// Write implements io.Writer. An error can be that of an earlier Write.
func (s *Stream) Write(p []byte) (int, error) {
	if s.enc == nil {
		return 0, errClosed
	}
	total := 0
	for total < len(p) {
		if s.fill == nil {
			s.fill = <-s.free
		}
		if err := s.failed(); err != nil {
			return total, err
		}
		n := min(len(p)-total, cap(s.fill)-len(s.fill))
		s.fill = append(s.fill, p[total:total+n]...)
		total += n
		if len(s.fill) == cap(s.fill) {
			s.full <- s.fill // there is room for all of them
			s.fill = nil
		}
	}
	return total, nil
}

// Close ends the frame. What was written is of no use before it has returned nil.
func (s *Stream) Close() error {
	if s.enc == nil {
		return errClosed
	}
	if s.fill != nil {
		s.full <- s.fill
	}
	s.wait()
	err := s.failed()
	if err == nil {
		err = s.enc.Close()
	}
	s.release()
	return err
}

// Abort gives up the frame, if it has not been ended. Afterwards nobody writes.
func (s *Stream) Abort() {
	if s.enc == nil {
		return
	}
	s.wait()
	s.release()
}

// wait waits for what is compressed.
func (s *Stream) wait() {
	close(s.full)
	<-s.done
}

func (s *Stream) release() {
	s.enc.Reset(nil)
	streamEncoders.Put(s.enc)
	s.enc = nil
}
