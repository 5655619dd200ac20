package s3

import (
	"context"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/walrecv/walrecv/storage"
)

// List implements [storage.Store], with one request for a thousand keys.
func (s *Store) List(ctx context.Context, prefix string, fn func(storage.Info) error) error {
	if err := storage.CheckPrefix(prefix); err != nil {
		return err
	}
	return s.list(ctx, prefix, "", fn)
}

// ListFrom implements [storage.FromLister].
func (s *Store) ListFrom(ctx context.Context, prefix, from string, fn func(storage.Info) error) error {
	if err := storage.CheckPrefix(prefix); err != nil {
		return err
	}
	return s.list(ctx, prefix, from, fn)
}

func (s *Store) list(ctx context.Context, prefix, from string, fn func(storage.Info) error) error {
	what := strings.TrimSpace("list " + prefix)
	in := &s3.ListObjectsV2Input{Prefix: s.key(prefix)}
	if from > prefix {
		in.StartAfter = s.key(before(from))
	}
	last := ""
	return s.pages(ctx, what, in, func(out *s3.ListObjectsV2Output) error {
		for _, o := range out.Contents {
			key, ok := s.relative(o.Key)
			if !ok || key < from {
				continue
			}
			if err := ended(ctx, what); err != nil {
				return err
			}
			if key <= last || o.Size == nil {
				return s.notS3(what, "a listing that is not in order")
			}
			last = key
			if err := fn(storage.Info{Key: key, Size: *o.Size, Modified: modified(o.LastModified)}); err != nil {
				return err
			}
		}
		return nil
	})
}

// ListDirs implements [storage.DirLister].
func (s *Store) ListDirs(ctx context.Context, prefix string, fn func(name string) error) error {
	if err := storage.CheckPrefix(prefix); err != nil {
		return err
	}
	if prefix != "" && !strings.HasSuffix(prefix, "/") {
		return fmt.Errorf("storage prefix %q does not end with a slash", prefix)
	}
	what, slash := strings.TrimSpace("list "+prefix), "/"
	in := &s3.ListObjectsV2Input{Prefix: s.key(prefix), Delimiter: &slash}
	return s.pages(ctx, what, in, func(out *s3.ListObjectsV2Output) error {
		for _, d := range out.CommonPrefixes {
			if d.Prefix == nil {
				continue
			}
			dir := strings.TrimSuffix(*d.Prefix, slash)
			key, ok := s.relative(&dir)
			if !ok {
				continue
			}
			if err := ended(ctx, what); err != nil {
				return err
			}
			if err := fn(strings.TrimPrefix(key, prefix)); err != nil {
				return err
			}
		}
		return nil
	})
}

// pages asks for one page after the other until fn has an error.
func (s *Store) pages(ctx context.Context, what string, in *s3.ListObjectsV2Input, fn func(*s3.ListObjectsV2Output) error) error {
	in.Bucket = &s.loc.Bucket
	if s.options.page > 0 {
		in.MaxKeys = &s.options.page
	}
	for {
		if err := ended(ctx, what); err != nil {
			return err
		}
		out, err := s.client.ListObjectsV2(ctx, in)
		if err != nil {
			return s.failed(ctx, what, err)
		}
		// An answer that is no listing decodes as an empty one.
		if out.KeyCount == nil && out.Name == nil {
			return s.notS3(what, "an answer that is no listing")
		}
		if err := fn(out); err != nil {
			return err
		}
		if out.IsTruncated == nil || !*out.IsTruncated {
			return nil
		}
		if out.NextContinuationToken == nil || *out.NextContinuationToken == "" {
			return s.notS3(what, "a listing that cannot be continued")
		}
		in.ContinuationToken, in.StartAfter = out.NextContinuationToken, nil
	}
}

// before is a text that no key is, nor any between it and from: "~" is above
// every byte of a key, so that all that begins like it comes before it.
func before(from string) string {
	last := len(from) - 1
	if from[last] <= ' ' || from[last] > '~' {
		return from[:last] // no key goes on like this: what is too much is passed over
	}
	return from[:last] + string(rune(from[last]-1)) + "~"
}
