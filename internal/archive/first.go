package archive

import (
	"context"
	"errors"
	"fmt"

	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
)

// errFound ends a listing.
var errFound = errors.New("found")

// First is the first segment of a timeline of which anything is archived. ok is
// false if nothing is. It takes one request, however much there is.
func (a *Archive) First(ctx context.Context, t segment.TimelineID) (name segment.Name, ok bool, err error) {
	prefix := fmt.Sprintf("%s%s/%08X/", systemDir(a.id.SystemID), walDir, uint32(t))
	err = a.store.List(ctx, prefix, func(info storage.Info) error {
		o, err := ParseKey(info.Key)
		if err != nil {
			return nil //nolint:nilerr // not of this format
		}
		n, err := segment.ParseName(o.Segment, a.id.SegmentSize)
		if err != nil {
			return nil //nolint:nilerr // does not exist with this size of segments
		}
		name, ok = n, true
		return errFound
	})
	if err != nil && !errors.Is(err, errFound) {
		return segment.Name{}, false, fmt.Errorf("list timeline %d: %w", uint32(t), err)
	}
	return name, ok, nil
}
