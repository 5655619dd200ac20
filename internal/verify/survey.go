package verify

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/backup"
	"github.com/walrecv/walrecv/segment"
)

// survey is what there is to be verified. It is not changed any more once the
// segments are read.
type survey struct {
	since     segment.LSN // start of the first segment of interest
	listing   *archive.Listing
	strangers strangers
	chain     *archive.Chain
	unread    map[segment.TimelineID]error // histories that the store did not yield
	gaps      []*archive.DamagedError      // that cannot be read
	index     *archive.Index               // nil if there is none to be had
	indexless error                        // why
	lost      []archive.Hole               // what the index has and the listing has not
	backups   []backup.Entry               // base backups, good or not
	digests   map[segment.Name]archive.Digest
	seen      map[segment.Name][]seen // damage that was seen before
}

// survey lists the archive and reads all but the segments.
func (v *Verifier) survey(ctx context.Context) (*survey, error) {
	s := &survey{digests: map[segment.Name]archive.Digest{}, seen: map[segment.Name][]seen{}}
	look, err := archive.Settle(ctx, func(ctx context.Context) (archive.Look, error) { return v.look(ctx, s) }, v.options.Pause)
	if err != nil {
		return nil, err
	}
	s.listing, s.chain = look.Listing, look.Chain
	v.listBackups(ctx, s)
	v.forgotten(s.gaps, adviceGap)
	if err := v.lookUp(ctx, s); err != nil {
		return nil, err
	}
	err = v.retry(ctx, func(ctx context.Context, _ func()) (err error) {
		s.lost, err = v.archive.Lost(ctx, s.listing, s.index)
		return err
	})
	if s.indexless == nil {
		s.indexless = err
	}
	return s, ctx.Err()
}

// look looks at the archive. The index comes first: what it names was there before
// it was listed.
func (v *Verifier) look(ctx context.Context, s *survey) (look archive.Look, err error) {
	s.index, s.unread = nil, map[segment.TimelineID]error{}
	s.indexless = v.retry(ctx, func(ctx context.Context, _ func()) (err error) {
		s.index, err = v.archive.Index(ctx)
		return err
	})
	err = v.retry(ctx, func(ctx context.Context, alive func()) (err error) {
		if look.Listing, err = v.archive.Listing(ctx); err != nil {
			return err
		}
		alive()
		s.strangers, err = v.listStrangers(ctx, look.Listing, alive)
		return err
	})
	if err != nil {
		return look, err
	}
	histories, damaged := v.histories(ctx, look.Listing, s.unread)
	gaps, bad, err := recall(ctx, v, v.archive.Gaps)
	if err != nil {
		return look, fmt.Errorf("read the gaps of the archive: %w", err)
	}
	s.gaps = bad
	look.Chain = archive.NewChain(look.Listing, histories, damaged, gaps)
	return look, nil
}

// histories reads the history files, and says what is wrong with those that
// cannot be used. Those that the store did not yield are noted in unread.
func (v *Verifier) histories(ctx context.Context, l *archive.Listing, unread map[segment.TimelineID]error) (sound map[segment.TimelineID]segment.History, damaged map[segment.TimelineID]error) {
	sound, damaged = map[segment.TimelineID]segment.History{}, map[segment.TimelineID]error{}
	for _, t := range l.Histories() {
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
			damaged[t], unread[t] = err, err
		}
	}
	return sound, damaged
}

// holds tells whether the archive has a segment, complete or not.
func (s *survey) holds(n segment.Name) bool {
	return s.listing.Has(n) || len(s.listing.Partials(n))+len(s.listing.Chunks(n)) > 0
}

// history is what is known of the descent of a timeline.
func (s *survey) history(t segment.TimelineID) segment.History {
	if b := s.chain.Branch(t); b != nil {
		return b.History
	}
	return segment.History{Timeline: t}
}

// tailEnd is where the tail of a timeline ends that can be recovered to, 0 if there
// is none.
func tailEnd(l *archive.Listing, b archive.Branch) segment.LSN {
	tails := l.Tails(b.Timeline)
	if len(tails) == 0 {
		return 0
	}
	from := tails[0]
	if n := len(b.Ranges); n > 0 {
		from = segment.Name{Timeline: b.Timeline, Number: b.Ranges[n-1].Last + 1}
	}
	return l.TailEnd(from)
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
		t.Tail = tailEnd(s.listing, b)
		list = append(list, t)
	}
	return list
}
