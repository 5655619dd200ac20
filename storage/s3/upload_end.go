package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/walrecv/walrecv/storage"
)

// join has the store make one object of the parts, unless its key is taken.
func (p *parts) join() error {
	s := p.store
	if s.options.Unsafe {
		if err := s.free(p.whole, p.key); err != nil {
			return err
		}
	}
	var all []finished
	for _, one := range p.sent {
		all = append(all, *one)
	}
	return s.unlessOurs(p.whole, p.key, all, func(ctx context.Context) error {
		return p.joinFree(ctx, p.list())
	})
}

// list is the list of all parts, as the store wants to have it.
func (p *parts) list() *types.CompletedMultipartUpload {
	var list types.CompletedMultipartUpload
	for i, one := range p.sent {
		number, h := int32(i+1), p.store.header(one.sum) // at most partsMost
		list.Parts = append(list.Parts, types.CompletedPart{
			PartNumber: &number, ETag: one.etag,
			ChecksumSHA256: h.sha256, ChecksumCRC32C: h.crc32c, ChecksumCRC64NVME: h.crc64nvme,
		})
	}
	return &list
}

func (p *parts) joinFree(ctx context.Context, list *types.CompletedMultipartUpload) error {
	s, what := p.store, "put "+p.key
	in := &s3.CompleteMultipartUploadInput{
		Bucket: &s.loc.Bucket, Key: s.key(p.key), UploadId: &p.id, MultipartUpload: list, IfNoneMatch: s.condition(),
	}
	out, err := s.client.CompleteMultipartUpload(ctx, in)
	if err == nil && out.ETag == nil {
		return s.notS3(what, "an answer without an ETag")
	}
	failure := s.failed(ctx, what, err)
	if s.givesUp(in.IfNoneMatch, failure) {
		return p.joinFree(ctx, list)
	}
	return failure
}

// unlessOurs makes the request by which an object comes to be, with patience. Where
// its key is then taken, or the answer tells nothing, and another answer may have
// been lost before, the object there may be this very one. Then it is read, and
// compared with the digests of the parts.
func (s *Store) unlessOurs(ctx context.Context, key string, parts []finished, put func(context.Context) error) error {
	counted, tries := countTries(ctx)
	failure := s.insist(ctx, func() error { return put(counted) })
	if failure == nil || errors.Is(failure, fs.ErrExist) && tries.Load() <= 1 || ctx.Err() != nil {
		return failure
	}
	ours, err := s.is(ctx, key, parts)
	switch {
	case ours:
		return nil
	case err == nil:
		return &fs.PathError{Op: "put", Path: key, Err: fs.ErrExist}
	case !errors.Is(failure, fs.ErrExist):
		return failure
	}
	return storage.Unknown(fmt.Sprintf("put %s: the key is taken, and it is not known by what", key), err)
}

// is tells whether an object consists of certain parts. It reads all of it.
func (s *Store) is(ctx context.Context, key string, parts []finished) (bool, error) {
	body, info, err := s.Open(ctx, key)
	if err != nil {
		return false, err
	}
	defer body.Close() // nothing was written through it
	for _, one := range parts {
		info.Size -= one.size
	}
	if info.Size != 0 {
		return false, nil
	}
	for _, one := range parts {
		h := s.ownHash()
		if _, err := io.CopyN(h, body, one.size); err != nil {
			return false, storage.Unknown("read "+key, err)
		}
		if !bytes.Equal(h.Sum(nil), one.sum) {
			return false, nil
		}
	}
	return true, nil
}

// insist makes a request of an upload again and again, with growing pauses, as long
// as what keeps it from succeeding may pass.
func (s *Store) insist(ctx context.Context, request func() error) error {
	const longest = 30 * time.Second
	began, pause := time.Now(), s.options.times.pause
	for {
		err := request()
		var f *failure
		if !errors.As(err, &f) || !f.passes || time.Since(began) >= s.options.times.insist {
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
		pause = min(2*pause, longest)
	}
}

// triesKey is of a context that counts how often an object may have been made.
type triesKey struct{}

func countTries(ctx context.Context) (context.Context, *atomic.Int32) {
	tries := new(atomic.Int32)
	return context.WithValue(ctx, triesKey{}, tries), tries
}

// tried counts a try of a request.
func tried(ctx context.Context, operation string) {
	tries, ok := ctx.Value(triesKey{}).(*atomic.Int32)
	if ok && (operation == "PutObject" || operation == "CompleteMultipartUpload") {
		tries.Add(1)
	}
}
