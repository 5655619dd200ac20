package archive

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/walrecv/walrecv/internal/codec"
	"github.com/walrecv/walrecv/internal/crypt"
	"github.com/walrecv/walrecv/storage"
)

// reader yields the plain bytes of an object and proves at their end that they
// are what was put.
type reader struct {
	object Object
	size   int64 // plain bytes that there must be
	left   int64 // of them that have not come yet

	store io.ReadCloser
	body  *body
	outer *crypt.Outer // what stands in the clear; nil: nothing does
	end   *ending
	plain *codec.Reader
	sum   hash.Hash
	err   error // what every later Read returns
}

// open opens an object with size plain bytes. It is the one place where the
// content of objects is read.
func (a *Archive) open(ctx context.Context, o Object, size int64) (io.ReadCloser, error) {
	if err := a.lacksIdentity(ctx, o); err != nil {
		return nil, err
	}
	stored, info, err := a.store.Open(ctx, o.Key())
	if err != nil {
		return nil, err
	}
	return a.newReader(stored, info.Size, o, size)
}

// lacksIdentity looks whether an object is there that is of no use, since there is
// no identity: [ErrEncrypted]. nil says that there is one, or no need.
func (a *Archive) lacksIdentity(ctx context.Context, o Object) error {
	if !o.Encrypted || len(a.keys.Identities) > 0 {
		return nil
	}
	if _, err := a.store.Stat(ctx, o.Key()); err != nil {
		return err
	}
	return fmt.Errorf("%s: %w", o.Key(), ErrEncrypted)
}

// newReader reads an object of length bytes, and closes stored.
func (a *Archive) newReader(stored io.ReadCloser, length int64, o Object, size int64) (io.ReadCloser, error) {
	r := &reader{object: o, size: size, left: size, store: stored, sum: sha256.New()}
	err := r.decrypt(a.keys.Identities, length)
	if err == nil {
		r.plain, err = codec.NewReader(r.end, codec.Zstd, size)
	}
	if err != nil {
		stored.Close() // nothing was written through it
		return nil, err
	}
	return r, nil
}

// decrypt makes the object one that is not encrypted, if it is.
func (r *reader) decrypt(ids crypt.Identities, length int64) (err error) {
	r.body = &body{r: r.store, size: length}
	r.end = &ending{r: r.body}
	if !r.object.Encrypted {
		return nil
	}
	if r.end.r, r.outer, err = ids.NewReader(r.body); err != nil {
		return undecrypted(r.object, err, r.body.err)
	}
	if r.outer != nil {
		return checkSize(r.object, r.outer.Size, r.size)
	}
	return nil
}

// undecrypted says what an error means that came with the bytes of an object,
// decrypted if need be. stored is what the store failed with, if it did.
func undecrypted(o Object, err, stored error) error {
	switch {
	case err == nil:
		return nil
	case stored != nil:
		return storage.Unknown("read "+o.Key(), stored)
	case errors.Is(err, crypt.ErrNoIdentity):
		return fmt.Errorf("%s: %w, and no identity that was given fits", o.Key(), ErrEncrypted)
	}
	return &DamagedError{Key: o.Key(), Reason: err.Error()}
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
		return storage.Unknown("read "+r.object.Key(), r.body.err)
	case err != io.EOF:
		return r.damaged(err.Error())
	case !r.end.done:
		return r.damaged("something follows its content")
	case r.left != 0:
		return r.damaged(fmt.Sprintf("%d bytes are missing", r.left))
	}
	t, err := decodeTrailer(r.end.last)
	if err != nil {
		return r.damaged(err.Error())
	}
	if err := checkSize(r.object, t.Size, r.size); err != nil {
		return err
	}
	if got := r.Digest(); got != t.Digest {
		return r.damaged(fmt.Sprintf("its content has SHA-256 %s, %s was put", got, t.Digest))
	}
	if err := r.checkKey(t.Digest); err != nil {
		return err
	}
	return io.EOF
}

// checkKey compares the digest that stands in the key with the object's.
func (r *reader) checkKey(d Digest) error {
	if r.object.Encrypted {
		if r.outer == nil {
			return nil // nobody knows
		}
		d = Digest(r.outer.Digest)
	}
	if r.object.Digest == "" || r.object.Digest == d.short() {
		return nil
	}
	return r.damaged(fmt.Sprintf("its content has the digest %s, which is not what the key says", d))
}

// Digest is that of the plain bytes. It means something once Read has returned
// io.EOF.
func (r *reader) Digest() Digest { return Digest(r.sum.Sum(nil)) }

// Memory is about how much memory the reading takes, in bytes.
func (r *reader) Memory() int64 { return r.plain.Memory() }

func (r *reader) damaged(reason string) error {
	return &DamagedError{Key: r.object.Key(), Reason: reason}
}

func (r *reader) Close() error {
	if r.err == nil {
		r.err = errors.New("archive: read after close")
	}
	return errors.Join(r.plain.Close(), r.store.Close())
}

// readTrailer gets the trailer of an object with size plain bytes, from its end
// only if the store can read there.
func (a *Archive) readTrailer(ctx context.Context, o Object, size int64) (trailer, error) {
	end, err := a.readLast(ctx, o)
	if err != nil {
		return trailer{}, err
	}
	t, err := decodeTrailer(end)
	if err != nil {
		return trailer{}, &DamagedError{Key: o.Key(), Reason: err.Error()}
	}
	return t, checkSize(o, t.Size, size)
}

// readLast reads the last bytes of an object, decrypted.
func (a *Archive) readLast(ctx context.Context, o Object) ([]byte, error) {
	key := o.Key()
	if !o.Encrypted {
		end, _, err := storage.ReadTail(ctx, a.store, key, maxTrailer)
		return end, err
	}
	if err := a.lacksIdentity(ctx, o); err != nil {
		return nil, err
	}
	head, info, err := storage.ReadHead(ctx, a.store, key, crypt.HeadLength)
	if err != nil {
		return nil, err
	}
	var storeErr error
	end, err := a.keys.Identities.ReadLast(head, info.Size, maxTrailer, func(n int64) (tail []byte, err error) {
		tail, _, storeErr = storage.ReadTail(ctx, a.store, key, n)
		return tail, storeErr
	})
	return end, undecrypted(o, err, storeErr)
}

// checkSize compares the length that an object claims with the one it must have.
func checkSize(o Object, claimed, size int64) error {
	if claimed == size {
		return nil
	}
	return &DamagedError{Key: o.Key(), Reason: fmt.Sprintf("it says that it has %d bytes, not %d", claimed, size)}
}
