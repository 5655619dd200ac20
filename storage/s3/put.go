package s3

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/walrecv/walrecv/storage"
)

// Put implements [storage.Store]. The source is read twice, for its digest and
// to be sent, and once more for every further try.
func (s *Store) Put(ctx context.Context, key string, src storage.Source) error {
	what := "put " + key
	if err := check(ctx, what, key); err != nil {
		return err
	}
	if s.options.Unsafe {
		// Of two writers at once both may come past this: that is the danger
		// that was accepted.
		if err := s.free(ctx, key); err != nil {
			return err
		}
	}
	return s.putFree(ctx, key, src)
}

// putFree puts an object under a key that may be free.
func (s *Store) putFree(ctx context.Context, key string, src storage.Source) error {
	what := "put " + key
	r, err := src.Open()
	if err != nil {
		return storage.Unknown("open the source", err)
	}
	content := &content{r: r, size: src.Size()}
	defer content.Close()
	sum, err := content.digest(ctx, s.newHash())
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return s.put(ctx, what, key, content, sum)
}

func (s *Store) put(ctx context.Context, what, key string, content *content, sum []byte) error {
	in := &s3.PutObjectInput{Bucket: &s.loc.Bucket, Key: s.key(key), Body: content, ContentLength: &content.size}
	in.IfNoneMatch = s.condition()
	in.ServerSideEncryption, in.SSEKMSKeyId = s.encryption()
	in.StorageClass = s.class(key)
	h := s.header(sum)
	in.ChecksumSHA256, in.ChecksumCRC32C, in.ChecksumCRC64NVME = h.sha256, h.crc32c, h.crc64nvme
	out, err := s.client.PutObject(ctx, in, h.option)
	if content.err != nil {
		return fmt.Errorf("%s: %w", what, storage.Unknown("read the source", content.err))
	}
	if err == nil && out.ETag == nil {
		return s.notS3(what, "an answer without an ETag")
	}
	failure := s.failed(ctx, what, err)
	if s.givesUp(in.IfNoneMatch, failure) {
		if _, err := content.Seek(0, io.SeekStart); err != nil {
			return fmt.Errorf("%s: %w", what, storage.Unknown("read the source", err))
		}
		return s.put(ctx, what, key, content, sum)
	}
	return failure
}

// condition is what keeps an object from being overwritten; nil where the store
// refuses it and that was accepted.
func (s *Store) condition() *string {
	if s.noConditions.Load() {
		return nil
	}
	any := "*"
	return &any
}

// givesUp tells whether a request is to be made again without its condition.
func (s *Store) givesUp(condition *string, failure error) bool {
	if !s.options.Unsafe || condition == nil || !errors.Is(failure, storage.ErrUnsafe) {
		return false
	}
	s.noConditions.Store(true)
	return true
}

// class is the storage class of an object.
func (s *Store) class(key string) types.StorageClass {
	if s.loc.StorageClass == "" || s.options.Classed == nil || !s.options.Classed(key) {
		return ""
	}
	return types.StorageClass(s.loc.StorageClass)
}

// encryption is what the store is asked to encrypt with.
func (s *Store) encryption() (types.ServerSideEncryption, *string) {
	if s.loc.KMSKeyID == "" {
		return types.ServerSideEncryption(s.loc.SSE), nil
	}
	return types.ServerSideEncryption(s.loc.SSE), &s.loc.KMSKeyID
}

// content is a source that is sent. It remembers why it could not be read: to
// the SDK that looks like trouble with the store.
type content struct {
	r    io.ReadSeekCloser
	size int64
	at   int64
	err  error
	sent atomic.Int64 // bytes, also those of tries that failed
}

// digest reads all of it, and goes back to its start. Without a hash it only
// looks whether the size is right.
func (c *content) digest(ctx context.Context, sum hash.Hash) ([]byte, error) {
	w := io.Discard
	if sum != nil {
		w = sum
	}
	if err := storage.Copy(ctx, w, opened{c}); err != nil {
		return nil, err
	}
	if _, err := c.Seek(0, io.SeekStart); err != nil {
		return nil, storage.Unknown("read the source", err)
	}
	if sum == nil {
		return nil, nil
	}
	return sum.Sum(nil), nil
}

// Read does not look for the end at which it is: once the store has the last
// byte, the source need not be there any more.
func (c *content) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	if c.at == c.size {
		return 0, io.EOF
	}
	n, err := c.r.Read(p[:min(int64(len(p)), c.size-c.at)])
	c.at += int64(n)
	c.sent.Add(int64(n))
	if err == io.EOF && c.at < c.size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil && err != io.EOF {
		c.err = err
	}
	return n, err
}

// Seek goes back to the start, for another try; there is none once the reading
// has failed.
func (c *content) Seek(offset int64, whence int) (int64, error) {
	if c.err != nil {
		return 0, c.err
	}
	at, err := c.r.Seek(offset, whence)
	if err != nil {
		c.err = err
		return 0, err
	}
	c.at = at
	return at, nil
}

func (c *content) Close() { c.r.Close() } // read only

// opened is a content as a source for storage.Copy, which closes nothing of it.
type opened struct{ c *content }

func (o opened) Open() (io.ReadSeekCloser, error) { return unclosed{o.c.r}, nil }
func (o opened) Size() int64                      { return o.c.size }

type unclosed struct{ io.ReadSeeker }

func (unclosed) Close() error { return nil }
