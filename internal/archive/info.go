package archive

import (
	"context"

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
	info := SegmentInfo{Name: name}
	key := a.segmentKey(name)
	t, err := readTrailer(ctx, a.store, key, int64(a.id.SegmentSize))
	if err != nil {
		return info, a.unlessEncrypted(ctx, key, err)
	}
	info.Digest = t.Digest
	if t.BadSummary != nil {
		return info, &DamagedError{Key: key, Reason: t.BadSummary.Error()}
	}
	if t.Summary == nil {
		return info, nil
	}
	info.Summary, err = decodeSummary(t.Summary, name, a.id.SegmentSize)
	if err != nil {
		return info, &DamagedError{Key: key, Reason: "its summary makes no sense: " + err.Error()}
	}
	info.Known = true
	return info, nil
}
