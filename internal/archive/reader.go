package archive

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/walrecv/walrecv/internal/codec"
	"github.com/walrecv/walrecv/storage"
)

// reader yields the plain bytes of an object and proves at their end that they
// are what was put.
type reader struct {
	key   string
	short string // the digest begins with it; empty: any
	size  int64  // plain bytes that there must be
	left  int64  // of them that have not come yet

	store io.ReadCloser
	body  *body
	plain io.ReadCloser
	sum   hash.Hash
	err   error // what every later Read returns
}

// openObject opens an object with size plain bytes.
func openObject(ctx context.Context, store storage.Store, key, short string, size int64) (io.ReadCloser, error) {
	stored, info, err := store.Open(ctx, key)
	if err != nil {
		return nil, err
	}
	return newReader(stored, info.Size, key, short, size)
}

// newReader reads an object of length bytes, and closes stored.
func newReader(stored io.ReadCloser, length int64, key, short string, size int64) (io.ReadCloser, error) {
	b := &body{r: stored, size: length}
	plain, err := codec.NewReader(b, codec.Zstd, size)
	if err != nil {
		stored.Close() // nothing was read
		return nil, err
	}
	return &reader{
		key: key, short: short, size: size, left: size,
		store: stored, body: b, plain: plain, sum: sha256.New(),
	}, nil
}

// Read yields plain bytes. They are to be trusted only once it has returned
// io.EOF, which it does after length, checksum and digest were found right.
func (r *reader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.plain.Read(p)
	r.sum.Write(p[:n])
	r.left -= int64(n)
	if err != nil {
		r.err = r.finish(err)
	}
	return n, r.err
}

// finish says what the end of the plain bytes means.
func (r *reader) finish(err error) error {
	switch {
	case r.body.err != nil:
		return storage.Unknown("read "+r.key, r.body.err)
	case err != io.EOF:
		return r.damaged(err.Error())
	case !r.body.done:
		return r.damaged("something follows its content")
	case r.left != 0:
		return r.damaged(fmt.Sprintf("%d bytes are missing", r.left))
	}
	t, err := decodeTrailer(r.body.end)
	if err != nil {
		return r.damaged(err.Error())
	}
	if err := checkSize(r.key, t, r.size); err != nil {
		return err
	}
	if got := Digest(r.sum.Sum(nil)); got != t.Digest {
		return r.damaged(fmt.Sprintf("its content has SHA-256 %s, %s was put", got, t.Digest))
	}
	if err := checkShort(r.key, r.short, t.Digest); err != nil {
		return err
	}
	return io.EOF
}

// Digest is that of the plain bytes. It means something once Read has returned
// io.EOF.
func (r *reader) Digest() Digest { return Digest(r.sum.Sum(nil)) }

func (r *reader) damaged(reason string) error { return &DamagedError{Key: r.key, Reason: reason} }

func (r *reader) Close() error {
	if r.err == nil {
		r.err = errors.New("archive: read after close")
	}
	return errors.Join(r.plain.Close(), r.store.Close())
}

// checkShort compares the digest that stands in a key with the object's.
func checkShort(key, short string, d Digest) error {
	if short == "" || short == d.short() {
		return nil
	}
	return &DamagedError{Key: key, Reason: fmt.Sprintf("its content has SHA-256 %s, which is not what the key says", d)}
}

// readTrailer gets the trailer of an object with size plain bytes, from its end
// only if the store can read there.
func readTrailer(ctx context.Context, store storage.Store, key string, size int64) (trailer, error) {
	stored, info, err := store.Open(ctx, key)
	if err != nil {
		return trailer{}, err
	}
	defer stored.Close()
	end, err := readEnd(stored, info.Size)
	if err != nil {
		return trailer{}, storage.Unknown("read "+key, err)
	}
	t, err := decodeTrailer(end)
	if err != nil {
		return trailer{}, &DamagedError{Key: key, Reason: err.Error()}
	}
	return t, checkSize(key, t, size)
}

// checkSize compares the length that an object claims with the one it must have.
func checkSize(key string, t trailer, size int64) error {
	if t.Size == size {
		return nil
	}
	return &DamagedError{Key: key, Reason: fmt.Sprintf("it says that it has %d bytes, not %d", t.Size, size)}
}

// readEnd reads the last bytes of an object that has size bytes.
func readEnd(stored io.Reader, size int64) ([]byte, error) {
	at, ok := stored.(io.ReaderAt)
	if !ok {
		b := &body{r: stored, size: size}
		_, err := io.Copy(io.Discard, b)
		return b.end, err
	}
	end := make([]byte, min(size, maxTrailer))
	n, err := at.ReadAt(end, size-int64(len(end)))
	if n == len(end) {
		return end, nil
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return nil, err
}
