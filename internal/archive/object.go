package archive

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"

	"github.com/walrecv/walrecv/internal/codec"
)

// copyBuffer is the size of the pieces in which content is compressed.
const copyBuffer = 128 << 10

// content is what an object is made of.
type content struct {
	io.ReadCloser
	summary func() (json.RawMessage, error) // called when all was read; nil: there is none
}

// encode writes the object of c, which must yield size bytes, to dst: the
// compressed content and the trailer. It holds no more in memory than the
// compressor needs, whatever the size.
func encode(dst io.Writer, c content, size int64) (trailer, error) {
	frame, err := codec.NewWriter(dst, codec.Zstd, 0, size)
	if err != nil {
		return trailer{}, err
	}
	sum := sha256.New()
	// One byte more than is due shows a content that is too long.
	plain := io.TeeReader(io.LimitReader(c, size+1), sum)
	if _, err := io.CopyBuffer(frame, plain, make([]byte, copyBuffer)); err != nil {
		return trailer{}, err
	}
	if err := frame.Close(); err != nil {
		return trailer{}, err
	}
	t := trailer{Digest: Digest(sum.Sum(nil)), Size: size}
	if c.summary != nil {
		if t.Summary, err = c.summary(); err != nil {
			return trailer{}, err
		}
	}
	end, err := t.encode()
	if err != nil {
		return trailer{}, err
	}
	_, err = dst.Write(end)
	return t, err
}

// body is the raw content of an object on its way from the store. It keeps the
// end of what passed, where the trailer is, and knows how the reading ended.
type body struct {
	r    io.Reader
	read int64 // bytes that passed
	size int64 // bytes that the store says there are
	end  []byte
	err  error // of the store: nil while all is well
	done bool
}

func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.r.Read(p)
	b.read += int64(n)
	b.keep(p[:n])
	switch {
	case err == io.EOF && b.read != b.size:
		// The store promised more. Perhaps it has more the next time.
		b.err = fmt.Errorf("%d bytes came of %d: %w", b.read, b.size, io.ErrUnexpectedEOF)
	case err == io.EOF:
		b.done = true
		return n, io.EOF
	case err != nil:
		b.err = err
	}
	return n, b.err
}

// keep remembers the last maxTrailer bytes.
func (b *body) keep(p []byte) {
	if len(p) >= maxTrailer {
		b.end = append(b.end[:0], p[len(p)-maxTrailer:]...)
		return
	}
	if over := len(b.end) + len(p) - maxTrailer; over > 0 {
		b.end = append(b.end[:0], b.end[over:]...)
	}
	b.end = append(b.end, p...)
}
