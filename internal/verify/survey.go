package verify

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
)

// maxForeign is how many objects that are not known are named.
const maxForeign = 100

// survey is what there is to be verified. It is not changed any more once the
// segments are read.
type survey struct {
	since     segment.LSN // start of the first segment of interest
	listing   *archive.Listing
	index     *archive.Index
	strangers strangers
	chain     *archive.Chain
	unread    map[segment.TimelineID]error // histories that the store did not yield
	digests   map[segment.Name]archive.Digest
	seen      map[segment.Name][]seen // damage that was seen before
}

// strangers is what a Listing does not tell of.
type strangers struct {
	partials  []archive.Partial // in the order of their keys
	encrypted []archive.Object  // complete segments
	foreign   []string          // keys that are not known
	more      int               // not named of them
}

// survey lists the archive and reads all but the segments.
func (v *Verifier) survey(ctx context.Context) (*survey, error) {
	s := &survey{
		unread:  map[segment.TimelineID]error{},
		digests: map[segment.Name]archive.Digest{},
		seen:    map[segment.Name][]seen{},
	}
	err := v.retry(ctx, func(ctx context.Context, alive func()) (err error) {
		if s.listing, err = v.archive.Listing(ctx); err != nil {
			return err
		}
		alive()
		s.strangers, err = v.listStrangers(ctx, alive)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the archive: %w", err)
	}
	histories, damaged := v.histories(ctx, s)
	gaps, err := recall(ctx, v, archive.KindGap, v.archive.Gaps)
	if err != nil {
		return nil, fmt.Errorf("read the gaps of the archive: %w", err)
	}
	s.chain = archive.NewChain(s.listing, histories, damaged, gaps)
	if s.index, err = v.archive.Index(ctx); err != nil {
		return nil, err
	}
	if err := v.lookUp(ctx, s); err != nil {
		return nil, fmt.Errorf("read the index of the archive: %w", err)
	}
	marks, err := recall(ctx, v, archive.KindMark, v.archive.Marks)
	if err != nil {
		return nil, fmt.Errorf("read the marks of the archive: %w", err)
	}
	for _, m := range marks {
		s.seen[m.Name] = append(s.seen[m.Name], v.seenByReceiver(m))
	}
	return s, ctx.Err()
}

// listStrangers lists what is there besides what a Listing tells of.
func (v *Verifier) listStrangers(ctx context.Context, alive func()) (strangers, error) {
	var s strangers
	prefix := strconv.FormatUint(v.id.SystemID, 10) + "/"
	err := v.store.List(ctx, prefix, func(info storage.Info) error {
		alive()
		s.add(info.Key, v.id.SegmentSize)
		return nil
	})
	return s, err
}

func (s *strangers) add(key string, size segment.Size) {
	o, err := archive.ParseKey(key)
	var name segment.Name
	if err == nil && o.Segment != "" {
		name, err = segment.ParseName(o.Segment, size)
	}
	switch {
	case err != nil && len(s.foreign) == maxForeign:
		s.more++
	case err != nil:
		s.foreign = append(s.foreign, key)
	case o.Kind == archive.KindPartial:
		s.partials = append(s.partials, archive.Partial{Name: name, Digest: o.Digest, Encrypted: o.Encrypted})
	case o.Kind == archive.KindSegment && o.Encrypted:
		s.encrypted = append(s.encrypted, o)
	}
}

// histories reads the history files, and says what is wrong with those that
// cannot be used.
func (v *Verifier) histories(ctx context.Context, s *survey) (sound map[segment.TimelineID]segment.History, damaged map[segment.TimelineID]error) {
	sound, damaged = map[segment.TimelineID]segment.History{}, map[segment.TimelineID]error{}
	for _, t := range s.listing.Histories() {
		var h segment.History
		err := v.retry(ctx, func(ctx context.Context, _ func()) error {
			data, err := v.archive.History(ctx, t)
			if err == nil {
				h, err = segment.ParseHistory(t, data)
			}
			return err
		})
		switch {
		case err == nil:
			sound[t] = h
		case errors.Is(err, fs.ErrNotExist):
			damaged[t] = archive.ErrNoHistory // gone since the listing
		case isFinding(err):
			damaged[t] = err
		default:
			damaged[t], s.unread[t] = err, err
		}
	}
	return sound, damaged
}

// history is what is known of the descent of a timeline.
func (s *survey) history(t segment.TimelineID) segment.History {
	if b := s.chain.Branch(t); b != nil {
		return b.History
	}
	return segment.History{Timeline: t}
}

// timelines sums up what the archive holds.
func (s *survey) timelines(size segment.Size) []Timeline {
	partials := map[segment.TimelineID]int{}
	for _, p := range s.strangers.partials {
		partials[p.Name.Timeline]++
	}
	var list []Timeline
	for _, b := range s.chain.Branches {
		t := Timeline{ID: b.Timeline, Parent: b.Parent, Fork: b.Fork, Partials: partials[b.Timeline]}
		for _, r := range b.Ranges {
			t.Segments += r.Last - r.First + 1
		}
		if n := len(b.Ranges); n > 0 {
			t.Start = size.Start(b.Ranges[0].First)
			t.End = segment.Name{Number: b.Ranges[n-1].Last}.End(size)
		}
		list = append(list, t)
	}
	return list
}
