package archive

import (
	"context"
	"fmt"

	"github.com/walrecv/walrecv/segment"
)

// SegmentInfo is what an archive says of a complete segment, without its bytes.
type SegmentInfo struct {
	Name    segment.Name
	Digest  Digest // of the plain bytes it was archived with
	Summary segment.Summary
	Known   bool // Summary means something: older objects have none
}

// SegmentInfo reads the end of a segment's object, which is not proven to be
// sound by that. An error that wraps fs.ErrNotExist says that there is no such
// segment. With a summary that is not what was put it is a [DamagedError], and
// what is returned with it has the digest.
func (a *Archive) SegmentInfo(ctx context.Context, name segment.Name) (SegmentInfo, error) {
	var key string
	var t trailer
	err := a.either(a.walObject(KindSegment, name), func(o Object) (err error) {
		key = o.Key()
		t, err = a.readTrailer(ctx, o, int64(a.id.SegmentSize))
		return err
	})
	if err != nil {
		return SegmentInfo{Name: name}, err
	}
	info, err := t.info(name, a.id.SegmentSize)
	if err != nil {
		return info, &DamagedError{Key: key, Reason: err.Error()}
	}
	return info, nil
}

// PlainSize is how many plain bytes a segment's object says that it has. It is
// not what they are said to be by the archive's identity if one of both is wrong.
func (a *Archive) PlainSize(ctx context.Context, name segment.Name) (int64, error) {
	var t trailer
	err := a.either(a.walObject(KindSegment, name), func(o Object) (err error) {
		t, err = a.readTrailer(ctx, o, int64(a.id.SegmentSize))
		return err
	})
	if t.Size > 0 {
		return t.Size, nil
	}
	return 0, err
}

// info is what a trailer says of a segment.
func (t trailer) info(name segment.Name, size segment.Size) (SegmentInfo, error) {
	info := SegmentInfo{Name: name, Digest: t.Digest}
	if t.BadSummary != nil || t.Summary == nil {
		return info, t.BadSummary
	}
	var err error
	if info.Summary, err = decodeSummary(t.Summary, name, size); err != nil {
		return info, fmt.Errorf("its summary makes no sense: %w", err)
	}
	info.Known = true
	return info, nil
}
