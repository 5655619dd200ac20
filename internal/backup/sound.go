package backup

import (
	"context"
	"errors"
	"fmt"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/segment"
)

// readWAL fails if the WAL is known to be damaged: no recovery would come through it. No
// segment is read, only what was found out when it was archived.
func (f *finisher) readWAL(ctx context.Context) error {
	needed := f.b.Needed()
	size := f.a.Identity().SegmentSize
	look, err := look(ctx, f.a, size.Number(needed.Start))
	if err != nil {
		return err
	}
	marks, err := f.a.Marks(ctx)
	var damaged *archive.DamagedError
	if err != nil && !errors.As(err, &damaged) { // what a damaged mark is about, the segment says, too
		return err
	}
	index, err := f.a.Index(ctx)
	if err != nil {
		index = nil // the objects themselves say the same
	}
	sealed := needed.In(look, size).sealed
	return f.a.Infos(ctx, look.Listing, index, func(i archive.SegmentInfo, err error) error {
		if !sealed[i.Name] || errors.Is(err, archive.ErrEncrypted) { // nobody here can know more
			return nil
		}
		if err != nil && !errors.As(err, &damaged) {
			return err
		}
		if err == nil {
			err = damageIn(i, marks)
		}
		if err != nil {
			return finalError{fmt.Errorf("it needs segment %s, which cannot be used: %w", i.Name.Format(size), err)}
		}
		return nil
	})
}

// damageIn is the damage that is known of a segment.
func damageIn(i archive.SegmentInfo, marks []segment.Mark) error {
	if i.Known && i.Summary.Faults > 0 {
		return errors.New(i.Summary.FirstFault.Error())
	}
	for _, m := range marks {
		if m.Name == i.Name && !i.Clears(m) {
			return fmt.Errorf("it is damaged at %s, as the server sent it: %s", m.LSN, m.Reason)
		}
	}
	return nil
}
