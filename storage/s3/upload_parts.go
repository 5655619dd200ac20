package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/walrecv/walrecv/storage"
)

const (
	// partSize is the size of a part, in bytes, as long as there are few of them.
	partSize = 8 << 20
	// partsAtOnce is how many of these a Store has on their way.
	partsAtOnce = 3
	// partsMost is how many parts an object can have, everywhere.
	partsMost = 10_000
	// partsOfASize is after how many parts they become twice as large. So the last
	// ones of an object of 5 TiB, the most there is, have 4 GiB, of the 5 there may be.
	partsOfASize = 1000
)

// parts is a multipart upload. The methods are for one goroutine.
type parts struct {
	store *Store
	key   string
	id    string
	whole context.Context // of Create
	ctx   context.Context // ends with the first part that fails
	stop  context.CancelFunc
	group *errgroup.Group
	sent  []*finished // by number, less 1
}

// finished is a part that the store has.
type finished struct {
	size int64
	sum  []byte
	etag *string
}

// newParts begins an upload of which the first part is filled already. That the key
// is free is asked for before: after gigabytes it would be late to hear.
func (s *Store) newParts(ctx context.Context, key string) (*parts, error) {
	if err := s.free(ctx, key); err != nil {
		return nil, err
	}
	in := &s3.CreateMultipartUploadInput{
		Bucket: &s.loc.Bucket, Key: s.key(key),
		StorageClass: s.class(key), ChecksumAlgorithm: s.algorithm(),
	}
	in.ServerSideEncryption, in.SSEKMSKeyId = s.encryption()
	var id *string
	err := s.insist(ctx, func() error {
		out, err := s.client.CreateMultipartUpload(ctx, in)
		if err == nil {
			id = out.UploadId
		}
		return s.failed(ctx, "put "+key, err)
	})
	if err != nil {
		return nil, err
	}
	if id == nil || *id == "" {
		return nil, s.notS3("put "+key, "an upload without a name")
	}
	p := &parts{store: s, key: key, id: *id, whole: ctx}
	ctx, p.stop = context.WithCancel(ctx)
	p.group, p.ctx = errgroup.WithContext(ctx)
	return p, nil
}

// newRoom is what the parts on their way take of memory, in bytes.
func (s *Store) newRoom() *semaphore.Weighted {
	return semaphore.NewWeighted(partsAtOnce * s.partSize(1))
}

// partSize is the size of the n-th part but for the last, in bytes.
func (s *Store) partSize(n int) int64 {
	size := s.options.part
	if size == 0 {
		size = partSize
	}
	return size << ((n - 1) / partsOfASize)
}

// send sends a part, whose memory is no longer the caller's, once there is room. What
// is larger than all the room goes alone.
func (p *parts) send(data []byte) error {
	if len(p.sent) == partsMost {
		return &failure{text: fmt.Sprintf("put %s: an object of more than %d parts", p.key, partsMost)}
	}
	takes := min(int64(cap(data)), partsAtOnce*p.store.partSize(1))
	if p.store.room.Acquire(p.ctx, takes) != nil {
		return p.failed()
	}
	one := &finished{size: int64(len(data))}
	p.sent = append(p.sent, one)
	number := int32(len(p.sent)) // at most partsMost
	p.group.Go(func() error {
		defer p.store.room.Release(takes)
		defer p.store.recycle(data)
		one.sum = p.store.sum(data)
		return p.store.insist(p.ctx, func() (err error) {
			one.etag, err = p.put(number, data, one.sum)
			return err
		})
	})
	return p.failed()
}

// buffer is the memory of the next part.
func (p *parts) buffer() []byte {
	if size := p.store.partSize(len(p.sent) + 1); size > p.store.partSize(1) {
		return make([]byte, 0, size)
	}
	return p.store.buffer()
}

// failed is why there is no use in going on, or nil.
func (p *parts) failed() error {
	if err := ended(p.whole, "put "+p.key); err != nil || p.ctx.Err() == nil {
		return err
	}
	return context.Cause(p.ctx) // the error of the first part that failed
}

// put sends one part, with the tries that every request gets.
func (p *parts) put(number int32, data, sum []byte) (etag *string, err error) {
	s, what := p.store, "put "+p.key
	size := int64(len(data))
	body, _ := partSource{p.ctx, data}.Open() // memory
	in := &s3.UploadPartInput{
		Bucket: &s.loc.Bucket, Key: s.key(p.key), UploadId: &p.id, PartNumber: &number,
		Body: &content{r: body, size: size}, ContentLength: &size,
	}
	h := s.header(sum)
	in.ChecksumSHA256, in.ChecksumCRC32C, in.ChecksumCRC64NVME = h.sha256, h.crc32c, h.crc64nvme
	out, err := s.client.UploadPart(p.ctx, in, h.option)
	if err := s.failed(p.ctx, what, err); err != nil {
		return nil, err
	}
	if out.ETag == nil {
		return nil, s.notS3(what, "a part without an ETag")
	}
	return out.ETag, nil
}

// complete makes the object of its parts.
func (p *parts) complete() error {
	err := p.group.Wait()
	p.stop()
	if whole := ended(p.whole, "put "+p.key); whole != nil {
		return whole
	}
	if err != nil {
		return err
	}
	return p.join()
}

// abort throws them away: first those that are on their way, which would come later.
func (p *parts) abort(ctx context.Context) error {
	p.stop()
	_ = p.group.Wait() // why it is aborted
	return p.store.abort(ctx, p.key, p.id)
}

// abort removes an upload, if it is there.
func (s *Store) abort(ctx context.Context, key, id string) error {
	_, err := s.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &s.loc.Bucket, Key: s.key(key), UploadId: &id})
	if err := s.failed(ctx, "abort "+key, err); !errors.Is(err, errNoUpload) {
		return err
	}
	return nil
}

// buffer is the memory of a part, without content.
func (s *Store) buffer() []byte {
	select {
	case data := <-s.spare:
		return data[:0]
	default:
		return make([]byte, 0, s.partSize(1))
	}
}

// recycle takes the memory of a part back. It is used again for the next ones, also
// of other uploads: the garbage collector would let it double first.
func (s *Store) recycle(data []byte) {
	if int64(cap(data)) != s.partSize(1) {
		return
	}
	select {
	case s.spare <- data:
	default:
	}
}

// partSource is a part that is sent, and that tells a patience of every byte.
type partSource struct {
	ctx  context.Context
	data []byte
}

func (p partSource) Size() int64 { return int64(len(p.data)) }

func (p partSource) Open() (io.ReadSeekCloser, error) {
	return partReader{bytes.NewReader(p.data), p.ctx}, nil
}

type partReader struct {
	r   *bytes.Reader
	ctx context.Context
}

func (r partReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	storage.Moved(r.ctx, n)
	return n, err
}

func (r partReader) Seek(offset int64, whence int) (int64, error) { return r.r.Seek(offset, whence) }
func (r partReader) Close() error                                 { return nil }
