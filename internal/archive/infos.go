package archive

import (
	"context"
	"iter"
	"reflect"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/walrecv/walrecv/segment"
)

// blocksAhead is how many blocks are read before they are visited.
const blocksAhead = 4

// Infos calls visit for every complete segment of a listing, by timeline and
// number: with what the objects of an index say, which may be nil, and for the
// rest with what the segments' own objects say. An index object that is damaged, or that another one
// contradicts, is as if it were not there. A segment whose object cannot be read
// is passed with its error, as of SegmentInfo. visit is not called concurrently,
// and its first error ends Infos.
func (a *Archive) Infos(ctx context.Context, l *Listing, index *Index, visit func(SegmentInfo, error) error) error {
	ctx, cancel := context.WithCancel(ctx)
	work, ctx := errgroup.WithContext(ctx)
	defer func() {
		cancel()
		_ = work.Wait() // what it could tell was told
	}()
	r := &infoReader{archive: a, index: index, requests: make(chan struct{}, smallReaders)}
	ready := make(chan *blockInfos, blocksAhead)
	work.Go(func() error {
		defer close(ready)
		for names := range l.blocks() {
			b := &blockInfos{infos: make([]SegmentInfo, len(names)), errs: make([]error, len(names)), done: make(chan struct{})}
			select {
			case ready <- b:
			case <-ctx.Done():
				return nil
			}
			work.Go(func() error {
				defer close(b.done)
				r.read(ctx, names, b)
				return nil
			})
		}
		return nil
	})
	for b := range ready {
		<-b.done
		if err := ctx.Err(); err != nil {
			return err
		}
		for i := range b.infos {
			if err := visit(b.infos[i], b.errs[i]); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// blocks yields the names of all complete segments, in order, those of one block
// together.
func (l *Listing) blocks() iter.Seq[[]segment.Name] {
	return func(yield func([]segment.Name) bool) {
		var names []segment.Name
		for name := range l.Segments() {
			if len(names) > 0 && blockOf(names[0]) != blockOf(name) {
				if !yield(names) {
					return
				}
				names = nil
			}
			names = append(names, name)
		}
		if len(names) > 0 {
			yield(names)
		}
	}
}

// blockInfos is what is known of the segments of a block.
type blockInfos struct {
	infos []SegmentInfo
	errs  []error
	done  chan struct{} // closed when it may be read
}

// infoReader reads what is known of segments, with a bounded number of requests
// at a time.
type infoReader struct {
	archive  *Archive
	index    *Index
	requests chan struct{} // holds a token for each
}

func (r *infoReader) read(ctx context.Context, names []segment.Name, b *blockInfos) {
	known := r.readIndex(ctx, r.index.of(blockOf(names[0])))
	var work sync.WaitGroup
	for i, name := range names {
		info, ok := known[name]
		if ok {
			b.infos[i] = info
			continue
		}
		r.requests <- struct{}{}
		work.Go(func() {
			b.infos[i], b.errs[i] = r.archive.SegmentInfo(ctx, name)
			<-r.requests
		})
	}
	work.Wait()
}

// readIndex gives what the index objects of a block agree upon.
func (r *infoReader) readIndex(ctx context.Context, objects []Object) map[segment.Name]SegmentInfo {
	known := map[segment.Name]SegmentInfo{}
	disputed := map[segment.Name]bool{}
	for _, o := range objects {
		r.requests <- struct{}{}
		infos, err := r.index.read(ctx, r.archive, o)
		<-r.requests
		if err != nil {
			continue // the objects themselves say the same
		}
		for _, info := range infos {
			if other, twice := known[info.Name]; twice && !reflect.DeepEqual(info, other) {
				disputed[info.Name] = true
			}
			known[info.Name] = info
		}
	}
	for name := range disputed {
		delete(known, name)
	}
	return known
}
