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

// First is the first segment of a timeline of which anything is archived, complete
// or not. ok is false if nothing is. It takes two requests, however much there is.
func (a *Archive) First(ctx context.Context, t segment.TimelineID) (name segment.Name, ok bool, err error) {
	// In the order in which WAL moves: what leaves the tail is complete then.
	for _, prefix := range []string{a.tailDir() + t.String(), a.walDir() + t.String() + "/"} {
		n, there, err := a.firstBelow(ctx, prefix)
		if err != nil {
			return segment.Name{}, false, fmt.Errorf("list timeline %d: %w", uint32(t), err)
		}
		if there && (!ok || n.Number < name.Number) {
			name, ok = n, true
		}
	}
	return name, ok, nil
}

func (a *Archive) firstBelow(ctx context.Context, prefix string) (name segment.Name, ok bool, err error) {
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
	if errors.Is(err, errFound) {
		err = nil
	}
	return name, ok, err
}
