package s3

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"
	"io/fs"
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
		if _, err := s.Stat(ctx, key); !errors.Is(err, fs.ErrNotExist) {
			if err == nil {
				err = &fs.PathError{Op: "put", Path: key, Err: fs.ErrExist}
			}
			return err
		}
	}
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
	if !s.noConditions.Load() {
		in.IfNoneMatch = star()
	}
	s.encrypt(in)
	if s.loc.StorageClass != "" && s.options.Classed != nil && s.options.Classed(key) {
		in.StorageClass = types.StorageClass(s.loc.StorageClass)
	}
	out, err := s.client.PutObject(ctx, in, s.checksum(in, sum))
	if content.err != nil {
		return fmt.Errorf("%s: %w", what, storage.Unknown("read the source", content.err))
	}
	if err == nil && out.ETag == nil {
		return s.notS3(what, "an answer without an ETag")
	}
	failure := s.failed(ctx, what, err)
	if s.options.Unsafe && in.IfNoneMatch != nil && errors.Is(failure, storage.ErrUnsafe) {
		s.noConditions.Store(true)
		if _, err := content.Seek(0, io.SeekStart); err != nil {
			return fmt.Errorf("%s: %w", what, storage.Unknown("read the source", err))
		}
		return s.put(ctx, what, key, content, sum)
	}
	return failure
}

func star() *string {
	any := "*"
	return &any
}

func (s *Store) encrypt(in *s3.PutObjectInput) {
	if s.loc.SSE != "" {
		in.ServerSideEncryption = types.ServerSideEncryption(s.loc.SSE)
	}
	if s.loc.KMSKeyID != "" {
		in.SSEKMSKeyId = &s.loc.KMSKeyID
	}
}

// The kinds of digest, as storage.S3Checksums lists them.
const (
	sumSHA256    = "sha256"
	sumCRC32C    = "crc32c"
	sumCRC64NVME = "crc64nvme"
	sumNone      = "none"
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	nvme       = crc64.MakeTable(0x9a6c9329ac4bc9b5)
)

// newHash is what makes the digest; nil for none.
func (s *Store) newHash() hash.Hash {
	switch s.loc.Checksum {
	case sumCRC32C:
		return crc32.New(castagnoli)
	case sumCRC64NVME:
		return crc64.New(nvme)
	case sumNone:
		return nil
	}
	return sha256.New()
}

// checksum adds the digest as a header, without which a bucket with object lock
// takes nothing. The SDK's own would come after the content, in a framing that not
// every store knows.
func (s *Store) checksum(in *s3.PutObjectInput, sum []byte) func(*s3.Options) {
	text := base64.StdEncoding.EncodeToString(sum)
	switch s.loc.Checksum {
	case sumCRC32C:
		in.ChecksumCRC32C = &text
	case sumCRC64NVME:
		in.ChecksumCRC64NVME = &text
	case sumNone:
	default:
		in.ChecksumSHA256 = &text
		return s3.WithAPIOptions(addPayloadHash(hex.EncodeToString(sum)))
	}
	return func(*s3.Options) {}
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
