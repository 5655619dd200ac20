package codec

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// windowSize is how far back zstd may refer, in bytes, below the highest levels.
// On WAL a larger window takes three times the memory and gains nothing.
const windowSize = 1 << 20

// bestWindowSize is for who asks for the highest levels.
const bestWindowSize = 8 << 20

// errClosed is the answer to a Write after Close.
var errClosed = errors.New("codec: write after close")

// NewWriter returns a writer that compresses into w: one gzip member, one zstd
// frame or one lz4 frame. level is one that [ParseSpec] allows, 0 for the
// method's default. contentSize is the number of bytes that will be written,
// negative if it is not known; writing more, or closing after less, is an error.
//
// Close ends the format and does not close w. What was written to w is of no use
// before Close has returned nil. A Writer that is not closed leaves nothing
// behind but garbage.
func NewWriter(w io.Writer, m Method, level int, contentSize int64) (io.WriteCloser, error) {
	if err := checkLevel(m, level); err != nil {
		return nil, err
	}
	out := &writer{size: contentSize}
	switch m {
	case None:
		out.enc = nopCloser{w}
	case Gzip:
		if level == 0 {
			level = gzip.DefaultCompression
		}
		enc, err := gzip.NewWriterLevel(w, level)
		if err != nil {
			return nil, err
		}
		out.enc = enc
	case LZ4:
		enc, err := newLZ4(w, level, contentSize)
		if err != nil {
			return nil, err
		}
		out.enc = enc
	case Zstd:
		enc, err := newZstd(w, level, contentSize)
		if err != nil {
			return nil, err
		}
		out.enc = enc
	}
	return out, nil
}

// writer holds the content to the length that was announced, whatever the
// method does about it.
type writer struct {
	enc     io.WriteCloser
	size    int64 // announced; negative: unknown
	written int64
	err     error // what every later call returns
}

func (w *writer) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	if w.size >= 0 && int64(len(p)) > w.size-w.written {
		w.err = fmt.Errorf("codec: content is longer than the %d bytes announced", w.size)
		return 0, w.err
	}
	n, err := w.enc.Write(p)
	w.written += int64(n)
	if err != nil {
		w.err = err
	}
	return n, err
}

func (w *writer) Close() error {
	if w.err != nil {
		if errors.Is(w.err, errClosed) {
			return nil
		}
		return w.err
	}
	if w.size >= 0 && w.written != w.size {
		w.err = fmt.Errorf("codec: content has %d bytes, %d were announced", w.written, w.size)
		return w.err
	}
	if err := w.enc.Close(); err != nil {
		w.err = err
		return err
	}
	w.err = errClosed
	return nil
}

// nopCloser keeps Close away from the caller's writer.
type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

func newLZ4(w io.Writer, level int, contentSize int64) (io.WriteCloser, error) {
	enc := lz4.NewWriter(w)
	err := enc.Apply(
		lz4.BlockSizeOption(lz4.Block256Kb),
		lz4.ChecksumOption(true),
		lz4.ConcurrencyOption(1),
		lz4.SizeOption(uint64(max(contentSize, 0))),
		lz4.CompressionLevelOption(lz4Level(level)),
	)
	if err != nil {
		return nil, fmt.Errorf("codec: lz4: %w", err)
	}
	return enc, nil
}

// lz4Level maps a level of the reference implementation, where those below 3
// are the fast compressor and those from 3 on search longer and longer.
func lz4Level(level int) lz4.CompressionLevel {
	if level < 3 {
		return lz4.Fast
	}
	return min(lz4.Level1<<(level-3), lz4.Level9)
}

// encoders keeps zstd encoders that are done: each has some megabytes of tables
// that are worth more than one file. There is one pool per speed.
var encoders [zstd.SpeedBestCompression + 1]sync.Pool

// zstdWriter lends an encoder from the pool to one stream.
type zstdWriter struct {
	enc   *zstd.Encoder
	speed zstd.EncoderLevel
}

func newZstd(w io.Writer, level int, contentSize int64) (io.WriteCloser, error) {
	speed := zstd.SpeedFastest
	if level > 0 {
		speed = zstd.EncoderLevelFromZstd(level)
	}
	enc, ok := encoders[speed].Get().(*zstd.Encoder)
	if !ok {
		var err error
		if enc, err = newEncoder(speed, 1); err != nil {
			return nil, err
		}
	}
	enc.ResetContentSize(w, contentSize)
	return &zstdWriter{enc: enc, speed: speed}, nil
}

// newEncoder makes an encoder that works on so many blocks at a time.
func newEncoder(speed zstd.EncoderLevel, workers int) (*zstd.Encoder, error) {
	window := windowSize
	if speed == zstd.SpeedBestCompression {
		window = bestWindowSize
	}
	enc, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(speed),
		zstd.WithWindowSize(window),
		zstd.WithEncoderConcurrency(workers),
		zstd.WithEncoderCRC(true),
		zstd.WithZeroFrames(true),
	)
	if err != nil {
		return nil, fmt.Errorf("codec: zstd: %w", err)
	}
	return enc, nil
}

func (z *zstdWriter) Write(p []byte) (int, error) { return z.enc.Write(p) }

func (z *zstdWriter) Close() error {
	if err := z.enc.Close(); err != nil {
		return err
	}
	z.enc.Reset(nil)
	encoders[z.speed].Put(z.enc)
	z.enc = nil
	return nil
}
