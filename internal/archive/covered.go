package archive

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
)

// coveredPage is how many objects are listed before some of them are given out.
const coveredPage = 1000

// Covered is an object that is about nothing but WAL that was removed.
type Covered struct {
	Object
	Size int64 // bytes, as stored
}

// EachCovered calls visit with all that is covered, in pages, the WAL before what only
// tells of it. No listing is under way meanwhile, so visit may delete. What stays is
// passed over without listing it. The first error of visit ends it.
func (a *Archive) EachCovered(ctx context.Context, pruned []Pruned, visit func([]Covered) error) error {
	for _, sub := range []string{tailDir, walDir, indexDir, gapDir, markDir} {
		dir := systemDir(a.id.SystemID) + sub + "/"
		for from := dir; from != ""; {
			var page []Covered
			next := ""
			err := storage.ListFrom(ctx, a.store, dir, from, func(info storage.Info) error {
				o, err := ParseKey(info.Key)
				switch {
				case err != nil:
				case !slices.ContainsFunc(pruned, func(p Pruned) bool { return p.Covers(o, a.id.SegmentSize) }):
					next = a.behind(dir, o, pruned)
				case len(page) == coveredPage:
					next = info.Key
				default:
					page = append(page, Covered{o, info.Size})
				}
				if next != "" {
					return errFound
				}
				return nil
			})
			if err != nil && !errors.Is(err, errFound) {
				return fmt.Errorf("list %s: %w", dir, err)
			}
			if len(page) > 0 {
				if err := visit(page); err != nil {
					return err
				}
			}
			from = next
		}
	}
	return nil
}

// behind is where the next timeline begins if no more of an object's can be covered,
// since they come in order; "" if some can.
func (a *Archive) behind(dir string, o Object, pruned []Pruned) string {
	n, err := segment.ParseName(o.Segment, a.id.SegmentSize)
	if err != nil || o.Kind == KindMark || o.Timeline == ^segment.TimelineID(0) {
		return ""
	}
	for _, p := range pruned {
		if o.Timeline <= p.Timeline && n.Start(a.id.SegmentSize) < p.Before {
			return ""
		}
	}
	return dir + (o.Timeline + 1).String()
}

// Delete deletes an object. That it is absent already is success. On nil the absence is
// durable.
func (a *Archive) Delete(ctx context.Context, key string) error {
	deleter, ok := a.store.(storage.Deleter)
	if !ok {
		return ErrCannotDelete
	}
	return deleter.Delete(ctx, key)
}
