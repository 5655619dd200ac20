package archive

import (
	"context"
	"fmt"
	"time"

	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
)

// LastAdded is when WAL was added last to its timeline from a segment on, by the store's
// clock: as a segment or as a piece of the tail. It is zero if there is none, or if the
// store does not tell.
func (a *Archive) LastAdded(ctx context.Context, from segment.Name) (last time.Time, err error) {
	name := from.Format(a.id.SegmentSize)
	wal := a.walDir() + from.Timeline.String() + "/"
	for prefix, first := range map[string]string{wal: wal + name, a.tailDir(): a.tailDir() + name} {
		err := storage.ListFrom(ctx, a.store, prefix, first, func(info storage.Info) error {
			if info.Modified.After(last) {
				last = info.Modified
			}
			return nil
		})
		if err != nil {
			return time.Time{}, fmt.Errorf("look when the archive was added to last: %w", err)
		}
	}
	return last, nil
}
