package s3

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// Sweep removes the uploads below the prefix that were begun before a certain time,
// by the store's clock, and returns how many. They are left by writers that crashed,
// take room, and are seen by no listing of objects. A writer that is still at work
// merely has its upload fail; a day is more than one takes.
//
// It needs rights that nothing else does: s3:ListBucketMultipartUploads on the
// bucket, and s3:AbortMultipartUpload.
func (s *Store) Sweep(ctx context.Context, before time.Time) (removed int, err error) {
	in := &s3.ListMultipartUploadsInput{Bucket: &s.loc.Bucket, Prefix: &s.prefix}
	if s.options.page > 0 {
		in.MaxUploads = &s.options.page
	}
	const what = "list uploads"
	for {
		out, err := s.client.ListMultipartUploads(ctx, in)
		if err := s.failed(ctx, what, err); err != nil {
			return removed, err
		}
		if out.Bucket == nil && out.Uploads == nil {
			return removed, s.notS3(what, "an answer that is no listing")
		}
		for _, u := range out.Uploads {
			key, ours := s.relative(u.Key)
			if !ours || s.options.Ours != nil && !s.options.Ours(key) || u.UploadId == nil || u.Initiated == nil || !u.Initiated.Before(before) {
				continue
			}
			if err := s.abort(ctx, key, *u.UploadId); err != nil {
				return removed, err
			}
			removed++
		}
		if out.IsTruncated == nil || !*out.IsTruncated {
			return removed, nil
		}
		if out.NextKeyMarker == nil || *out.NextKeyMarker == "" {
			return removed, s.notS3(what, "a listing that cannot be continued")
		}
		// Not behind one upload, which may be among those that are gone by now, but
		// behind its key. Of a key with several the rest goes next time.
		in.KeyMarker = out.NextKeyMarker
	}
}
