package archive

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/walrecv/walrecv/segment"
)

// Index is what the index of an archive held when it was listed. It is a cache:
// nil is one that holds nothing, with which all is found out that matters. It is
// safe for concurrent use.
type Index struct {
	blocks map[block][]Object

	mu      sync.Mutex
	damaged map[string]*DamagedError
}

// Index lists the index.
func (a *Archive) Index(ctx context.Context) (*Index, error) {
	blocks, err := a.listIndex(ctx)
	if err != nil {
		return nil, err
	}
	return &Index{blocks: blocks, damaged: map[string]*DamagedError{}}, nil
}

// of lists the objects about a block.
func (x *Index) of(b block) []Object {
	if x == nil {
		return nil
	}
	return x.blocks[b]
}

// read reads an object of the index, and remembers it if it is damaged.
func (x *Index) read(ctx context.Context, a *Archive, o Object) ([]SegmentInfo, error) {
	infos, err := a.readIndex(ctx, o)
	var damaged *DamagedError
	if errors.As(err, &damaged) {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.damaged[damaged.Key] = damaged
	}
	return infos, err
}

// Damaged lists the objects that were found damaged when they were read, by key.
func (x *Index) Damaged() []*DamagedError {
	if x == nil {
		return nil
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.SortedFunc(maps.Values(x.damaged), func(a, b *DamagedError) int { return strings.Compare(a.Key, b.Key) })
}

// Lost finds segments that the index names, so that they were in the archive, and
// that a listing from later lacks and that were not removed on purpose: by position.
// Only those objects are read that can name such a segment, and none that no identity
// fits.
func (a *Archive) Lost(ctx context.Context, l *Listing, x *Index) ([]Hole, error) {
	if x == nil {
		return nil, nil
	}
	var mu sync.Mutex
	lost := map[segment.Name]bool{}
	readers, ctx := errgroup.WithContext(ctx)
	readers.SetLimit(smallReaders)
	for _, objects := range x.blocks {
		for _, o := range objects {
			if l.hasAll(o) {
				continue
			}
			readers.Go(func() error {
				infos, err := x.read(ctx, a, o)
				mu.Lock()
				defer mu.Unlock()
				for _, i := range infos {
					if !l.Has(i.Name) && !l.IsPruned(i.Name) {
						lost[i.Name] = true
					}
				}
				var damaged *DamagedError
				if errors.As(err, &damaged) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrEncrypted) {
					return nil
				}
				return err
			})
		}
	}
	if err := readers.Wait(); err != nil {
		return nil, err
	}
	return runs(lost), nil
}

// hasAll tells whether every segment is there that an object of the index can name,
// but for those that were removed on purpose.
func (l *Listing) hasAll(o Object) bool {
	first, errFirst := segment.ParseName(o.Segment, l.size)
	last, errLast := segment.ParseName(o.Last, l.size)
	if errFirst != nil || errLast != nil {
		return false
	}
	t, from := l.timelines[o.Timeline], max(first.Number, l.size.Number(l.Start(o.Timeline)))
	return l.IsPruned(last) || t != nil && slices.ContainsFunc(t.ranges, func(r Range) bool { return r.First <= from && last.Number <= r.Last })
}

// runs puts adjacent segments together.
func runs(names map[segment.Name]bool) (list []Hole) {
	for n := range names {
		if names[segment.Name{Timeline: n.Timeline, Number: n.Number - 1}] {
			continue
		}
		h := Hole{Timeline: n.Timeline, First: n.Number, Last: n.Number}
		for names[segment.Name{Timeline: n.Timeline, Number: h.Last + 1}] {
			h.Last++
		}
		list = append(list, h)
	}
	slices.SortFunc(list, func(a, b Hole) int {
		return segment.Name{Timeline: a.Timeline, Number: a.First}.Compare(segment.Name{Timeline: b.Timeline, Number: b.First})
	})
	return list
}
