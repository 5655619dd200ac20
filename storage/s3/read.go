package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	smithy "github.com/aws/smithy-go"

	"github.com/walrecv/walrecv/storage"
)

// Open implements [storage.Store] with one request. A body that is closed before
// its end costs the connection.
func (s *Store) Open(ctx context.Context, key string) (io.ReadCloser, storage.Info, error) {
	what := "open " + key
	if err := check(ctx, what, key); err != nil {
		return nil, storage.Info{}, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	out, err := s.get(ctx, what, key, "")
	if err != nil {
		cancel(nil)
		return nil, storage.Info{}, err
	}
	info := storage.Info{Key: key, Size: *out.ContentLength, Modified: modified(out.LastModified)}
	return newBody(ctx, cancel, out.Body, info, s.options.times.rest), info, nil
}

// get asks for an object, or for a range of it. The answer has a length.
func (s *Store) get(ctx context.Context, what, key, byteRange string) (*s3.GetObjectOutput, error) {
	in := &s3.GetObjectInput{Bucket: &s.loc.Bucket, Key: s.key(key)}
	if byteRange != "" {
		in.Range = &byteRange
	}
	out, err := s.client.GetObject(ctx, in)
	if err != nil {
		return nil, s.failed(ctx, what, err)
	}
	if !hasLength(out) {
		out.Body.Close() // nothing of it is of use
		return nil, s.notS3(what, noLength)
	}
	return out, nil
}

// Stat implements [storage.Store]. It reads one byte: the answer to a HEAD does
// not tell a missing key from a missing bucket.
func (s *Store) Stat(ctx context.Context, key string) (storage.Info, error) {
	_, info, err := s.readRange(ctx, "stat "+key, key, "bytes=0-0", 1)
	return info, err
}

// ReadHead implements [storage.EndReader].
func (s *Store) ReadHead(ctx context.Context, key string, n int64) ([]byte, storage.Info, error) {
	return s.readRange(ctx, "read "+key, key, "bytes=0-"+strconv.FormatInt(n-1, 10), n)
}

// ReadTail implements [storage.EndReader].
func (s *Store) ReadTail(ctx context.Context, key string, n int64) ([]byte, storage.Info, error) {
	return s.readRange(ctx, "read "+key, key, "bytes=-"+strconv.FormatInt(n, 10), n)
}

// readRange reads a range of at most n bytes at one end of an object.
func (s *Store) readRange(ctx context.Context, what, key, byteRange string, n int64) ([]byte, storage.Info, error) {
	if err := check(ctx, what, key); err != nil {
		return nil, storage.Info{}, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	out, err := s.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &s.loc.Bucket, Key: s.key(key), Range: &byteRange})
	var answer smithy.APIError
	if errors.As(err, &answer) && answer.ErrorCode() == "InvalidRange" {
		return s.readEmpty(ctx, what, key) // which no range is in
	}
	if err != nil {
		return nil, storage.Info{}, s.failed(ctx, what, err)
	}
	info := storage.Info{Key: key}
	body := newBody(ctx, cancel, out.Body, info, s.options.times.rest)
	defer body.Close() // nothing was written through it
	if !hasLength(out) {
		return nil, storage.Info{}, s.notS3(what, noLength)
	}
	size, ok := total(out)
	if want := min(n, size); !ok || *out.ContentLength != want {
		return nil, storage.Info{}, s.notS3(what, "a range that was not asked for")
	}
	info.Size, info.Modified = size, modified(out.LastModified)
	data := make([]byte, *out.ContentLength)
	if _, err := io.ReadFull(body, data); err != nil {
		return nil, storage.Info{}, storage.Unknown(what, err)
	}
	// Its end lets the connection be used again.
	if _, err := body.Read(make([]byte, 1)); err != io.EOF {
		return nil, storage.Info{}, storage.Unknown(what, fmt.Errorf("more came than was asked for"))
	}
	return data, info, nil
}

// readEmpty reads an object that has no byte.
func (s *Store) readEmpty(ctx context.Context, what, key string) ([]byte, storage.Info, error) {
	out, err := s.get(ctx, what, key, "")
	if err != nil {
		return nil, storage.Info{}, err
	}
	out.Body.Close() // there is nothing in it
	if *out.ContentLength != 0 {
		return nil, storage.Info{}, s.notS3(what, "an object that has no byte, and then has some")
	}
	return nil, storage.Info{Key: key, Modified: modified(out.LastModified)}, nil
}

// modified is when an object was put, or a multipart upload begun, in seconds.
func modified(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

const noLength = "an object without a length"

// hasLength tells whether an answer can be read. It need not have an ETag: that of
// a file that was put into the directory of a gateway has none.
func hasLength(out *s3.GetObjectOutput) bool {
	return out.ContentLength != nil && *out.ContentLength >= 0
}

// total is the size of the object that a range is of: that of "bytes 0-0/123".
// A store may send all of a small object instead.
func total(out *s3.GetObjectOutput) (int64, bool) {
	if out.ContentRange == nil {
		return *out.ContentLength, true
	}
	_, text, ok := strings.Cut(*out.ContentRange, "/")
	size, err := strconv.ParseInt(text, 10, 64)
	return size, ok && err == nil && size >= 0
}

// body reads an object. A store that stops sending is given up.
type body struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	inner  io.ReadCloser
	info   storage.Info
	left   int64
	stall  time.Duration
	timer  *time.Timer
}

func newBody(ctx context.Context, cancel context.CancelCauseFunc, inner io.ReadCloser, info storage.Info, stall time.Duration) *body {
	b := &body{ctx: ctx, cancel: cancel, inner: inner, info: info, left: info.Size, stall: stall}
	b.timer = time.AfterFunc(stall, func() { cancel(&hungError{stall}) })
	b.timer.Stop()
	return b
}

// Read is bounded in time; the time between two calls is not.
func (b *body) Read(p []byte) (int, error) {
	b.timer.Reset(b.stall)
	n, err := b.inner.Read(p)
	b.timer.Stop()
	b.left -= int64(n)
	if err == nil || err == io.EOF {
		return n, err
	}
	var hung *hungError
	switch cause := context.Cause(b.ctx); {
	case errors.As(cause, &hung):
		return n, &failure{text: fmt.Sprintf("read %s: nothing came for %s", b.info.Key, b.stall)}
	case b.ctx.Err() != nil:
		return n, fmt.Errorf("read %s: %w", b.info.Key, b.ctx.Err())
	}
	return n, storage.Unknown("read "+b.info.Key, err)
}

// Close implements io.Closer.
func (b *body) Close() error {
	b.timer.Stop()
	b.cancel(nil)
	return b.inner.Close()
}
