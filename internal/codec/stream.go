package codec

import (
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// streamEncoders keeps the encoders of streams that have ended.
var streamEncoders sync.Pool

// streamWorkers makes the encoder look for matches in one block while it writes out
// the one before.
const streamWorkers = 2

// Stream compresses with zstd, at its default level, a content of which the length is
// not known, on two cores. It is for one goroutine at a time.
type Stream struct {
	enc *zstd.Encoder // nil once it is over
}

// NewStream begins a frame. w is written to by other goroutines, one at a time, until
// Close or Abort has returned.
func NewStream(w io.Writer) (*Stream, error) {
	enc, ok := streamEncoders.Get().(*zstd.Encoder)
	if !ok {
		var err error
		if enc, err = newEncoder(zstd.SpeedFastest, streamWorkers); err != nil {
			return nil, err
		}
	}
	enc.Reset(w)
	return &Stream{enc}, nil
}

// Write implements io.Writer. An error can be that of an earlier Write.
func (s *Stream) Write(p []byte) (int, error) {
	if s.enc == nil {
		return 0, errClosed
	}
	return s.enc.Write(p)
}

// Close ends the frame. What was written is of no use before it has returned nil.
func (s *Stream) Close() error {
	if s.enc == nil {
		return errClosed
	}
	err := s.enc.Close()
	s.Abort()
	return err
}

// Abort gives up the frame, if it has not been ended. Afterwards nobody writes.
func (s *Stream) Abort() {
	if s.enc == nil {
		return
	}
	s.enc.Reset(nil) // waits for the goroutines
	streamEncoders.Put(s.enc)
	s.enc = nil
}
