package archive

import (
	"bufio"
	"crypto/sha256"
	"encoding/json"
	"io"
	"slices"

	"github.com/walrecv/walrecv/internal/codec"
	"github.com/walrecv/walrecv/internal/crypt"
)

// copyBuffer is the size of the pieces in which content is compressed.
const copyBuffer = 128 << 10

// content is what an object is made of.
type content struct {
	io.ReadCloser
	summary func() (json.RawMessage, error) // called when all was read; nil: there is none
}

// object is an object that was made, without its bytes.
type object struct {
	trailer   trailer
	digest    Digest // that can be had without a key: the trailer's, or the one in the clear of what is encrypted
	encrypted bool
	length    int64 // bytes
}

// at is where an object is to be put whose place is known but for its form.
func (o object) at(place Object) Object {
	place.Encrypted = o.encrypted
	if place.Kind.keyed() {
		place.Digest = o.digest.short()
	}
	return place
}

// encode is the one place where objects are made. It writes the object of c, which
// must yield size bytes, to dst: the compressed content and the trailer, encrypted
// if enc is not nil. It holds no more in memory than the compressor needs, whatever
// the size.
func encode(dst io.WriterAt, enc *crypt.Encryption, c content, size int64) (object, error) {
	if enc == nil {
		out := &counter{w: bufio.NewWriterSize(io.NewOffsetWriter(dst, 0), copyBuffer)}
		t, err := compress(out, c, size, io.Discard)
		if err == nil {
			err = out.w.Flush()
		}
		return object{trailer: t, digest: t.Digest, length: out.n}, err
	}
	out, err := enc.NewWriter(dst, size)
	if err != nil {
		return object{}, err
	}
	o := object{encrypted: true}
	if !enc.Keyed() {
		o.trailer, err = compress(out, c, size, io.Discard)
		o.digest = o.trailer.Digest
	} else {
		clear := enc.NewHash()
		o.trailer, err = compress(out, c, size, clear)
		o.digest = Digest(clear.Sum(nil))
	}
	if err != nil {
		return object{}, err
	}
	o.length, err = out.Finish(crypt.Sum(o.digest))
	return o, err
}

// compress writes the frame of c and the trailer to dst, and the plain bytes to
// tee.
func compress(dst io.Writer, c content, size int64, tee io.Writer) (trailer, error) {
	frame, err := codec.NewWriter(dst, codec.Zstd, 0, size)
	if err != nil {
		return trailer{}, err
	}
	sum := sha256.New()
	// One byte more than is due shows a content that is too long.
	plain := io.TeeReader(io.LimitReader(c, size+1), io.MultiWriter(sum, tee))
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

// counter counts what is written.
type counter struct {
	w *bufio.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// memory is an object that is made in memory.
type memory struct{ bytes []byte }

// WriteAt implements io.WriterAt.
func (m *memory) WriteAt(p []byte, at int64) (int, error) {
	if end := int(at) + len(p); end > len(m.bytes) {
		m.bytes = slices.Grow(m.bytes, end-len(m.bytes))[:end]
	}
	return copy(m.bytes[at:], p), nil
}
