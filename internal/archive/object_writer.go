package archive

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"path"

	"github.com/walrecv/walrecv/internal/codec"
	"github.com/walrecv/walrecv/storage"
)

// ObjectWriter makes an object whose length is not known when it begins: of its plain
// bytes, which are written to it, compressed, and encrypted if need be. Nothing of it
// waits on this host, and what it takes of memory does not depend on the length. It is
// for one goroutine at a time, and ends with a Commit that returns nil, or with Abort.
type ObjectWriter struct {
	key    string
	stop   context.CancelFunc // of the upload
	upload storage.Upload
	out    *bufio.Writer  // into the upload
	stored summing        // what goes into out
	seal   io.WriteCloser // encrypts into stored
	frame  *codec.Stream  // compresses into seal
	plain  summing
}

// uploadBuffer is how many bytes are written to a store at a time. The compressor has
// some thousand for each 128 KiB of pages that are alike.
const uploadBuffer = 256 << 10

// Create begins an object of a base backup. ctx governs it to its end. An error that
// wraps fs.ErrExist says that the key is taken.
func (a *Archive) Create(ctx context.Context, o Object) (*ObjectWriter, error) {
	o.System, o.Encrypted = a.id.SystemID, a.keys.Encryption != nil
	ctx, stop := context.WithCancel(ctx)
	upload, err := storage.Create(ctx, a.store, o.Key())
	if err != nil {
		stop()
		return nil, err
	}
	w := &ObjectWriter{key: o.Key(), stop: stop, upload: upload, out: bufio.NewWriterSize(upload, uploadBuffer)}
	w.plain = summing{w: io.Discard, sum: sha256.New()}
	w.stored = summing{w: w.out, sum: sha256.New()}
	w.seal = open{&w.stored}
	if enc := a.keys.Encryption; enc != nil {
		if w.seal, err = enc.NewStream(&w.stored); err != nil {
			stop()
			return nil, errors.Join(err, upload.Abort())
		}
	}
	if w.frame, err = codec.NewStream(w.seal); err != nil {
		stop()
		return nil, errors.Join(err, upload.Abort())
	}
	return w, nil
}

// Write takes plain bytes. An error is final, and may be that of an earlier Write:
// what remains is Abort.
func (w *ObjectWriter) Write(p []byte) (int, error) {
	n, err := w.frame.Write(p)
	_, _ = w.plain.Write(p[:n]) // cannot fail
	return n, err
}

// Len is how many plain bytes were written.
func (w *ObjectWriter) Len() int64 { return w.plain.n }

// Commit makes the object durable. An error that wraps fs.ErrExist says that the key
// was taken by another object; after any error it is unknown whether the object is
// there, and what remains is Abort.
func (w *ObjectWriter) Commit() (Stored, error) {
	if err := w.finish(); err != nil {
		return Stored{}, err
	}
	if err := w.upload.Commit(); err != nil {
		return Stored{}, err
	}
	w.stop()
	return Stored{
		File:      path.Base(w.key),
		Size:      w.stored.n,
		SHA256:    Digest(w.stored.sum.Sum(nil)),
		PlainSize: w.plain.n,
	}, nil
}

// finish writes what ends the object.
func (w *ObjectWriter) finish() error {
	if err := w.frame.Close(); err != nil {
		return err
	}
	end, err := trailer{Digest: Digest(w.plain.sum.Sum(nil)), Size: w.plain.n}.encode()
	if err != nil {
		return err
	}
	if _, err := w.seal.Write(end); err != nil {
		return err
	}
	if err := w.seal.Close(); err != nil {
		return err
	}
	return w.out.Flush()
}

// Abort gives the object up; after a Commit that returned nil it does nothing. An error
// says that something may be left that takes room, never under the object's key. It does
// not wait for a store that does not answer, but for some seconds.
func (w *ObjectWriter) Abort() error {
	w.stop() // what is compressed may be on its way there
	w.frame.Abort()
	return w.upload.Abort()
}

// summing counts and digests what is written through it.
type summing struct {
	w   io.Writer
	sum hash.Hash
	n   int64
}

func (s *summing) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.sum.Write(p[:n])
	s.n += int64(n)
	return n, err
}

// open stands where something else is encrypted.
type open struct{ io.Writer }

func (open) Close() error { return nil }
