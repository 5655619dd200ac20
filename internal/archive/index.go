package archive

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
)

// An index object says of up to 256 segments what the ends of their objects say.
// It is a cache: whoever finds it missing or damaged reads those.
const (
	// indexBlock is how many segment numbers an index object can be about. The
	// first is a multiple of it.
	indexBlock = 256

	// maxIndex bounds the plain content of an index object, in bytes.
	maxIndex = 4 << 20
)

// block is a run of segment numbers that share their index objects.
type block struct {
	timeline segment.TimelineID
	number   uint64 // of its first segment, divided by indexBlock
}

func blockOf(name segment.Name) block {
	return block{timeline: name.Timeline, number: name.Number / indexBlock}
}

// name is the i-th segment of the block.
func (b block) name(i uint64) segment.Name {
	return segment.Name{Timeline: b.timeline, Number: b.number*indexBlock + i}
}

// after tells whether the block is archived after another one.
func (b block) after(c block) bool {
	return b.timeline > c.timeline || b.timeline == c.timeline && b.number > c.number
}

type indexFile struct {
	Format   int          `json:"format"`
	Segments []indexEntry `json:"segments"`
}

type indexEntry struct {
	Name    string       `json:"name"`
	SHA256  string       `json:"sha256"`
	Summary *summaryFile `json:"summary,omitempty"`
}

// putIndex archives what is known of segments of one block, in order of their
// numbers. That an equal object is there is success.
func (a *Archive) putIndex(ctx context.Context, infos []SegmentInfo) error {
	size := a.id.SegmentSize
	file := indexFile{Format: formatNumber}
	for _, i := range infos {
		e := indexEntry{Name: i.Name.Format(size), SHA256: i.Digest.String()}
		if i.Known {
			e.Summary = newSummaryFile(i.Summary, i.Name.End(size))
		}
		file.Segments = append(file.Segments, e)
	}
	text, err := json.Marshal(file)
	if err != nil {
		return err
	}
	p, err := a.making(int64(len(text)), func() (content, error) {
		return content{ReadCloser: io.NopCloser(bytes.NewReader(text))}, nil
	}).inMemory()
	if err != nil {
		return err
	}
	err = a.store.Put(ctx, p.at(Object{
		System:   a.id.SystemID,
		Kind:     KindIndex,
		Timeline: infos[0].Name.Timeline,
		Segment:  file.Segments[0].Name,
		Last:     file.Segments[len(infos)-1].Name,
	}).Key(), p.source)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// listIndex lists the index objects.
func (a *Archive) listIndex(ctx context.Context) (map[block][]Object, error) {
	index := map[block][]Object{}
	prefix := systemDir(a.id.SystemID) + indexDir + "/"
	err := a.store.List(ctx, prefix, func(info storage.Info) error {
		if o, err := ParseKey(info.Key); err == nil {
			if b, ok := o.indexed(a.id.SegmentSize); ok {
				index[b] = append(index[b], o)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the index of the archive: %w", err)
	}
	return index, nil
}

// indexed is the block that an index object is about. ok is false if the key names
// segments that do not exist, or more than a block.
func (o Object) indexed(size segment.Size) (b block, ok bool) {
	first, errFirst := segment.ParseName(o.Segment, size)
	last, errLast := segment.ParseName(o.Last, size)
	return blockOf(first), errFirst == nil && errLast == nil && blockOf(first) == blockOf(last)
}

// isIndexed tells whether one of the index objects of a block ends with the last
// segment that there is of it, and does not begin after the first: what is older may
// have been removed.
func (a *Archive) isIndexed(index []Object, names []segment.Name) bool {
	first, last := names[0].Format(a.id.SegmentSize), names[len(names)-1].Format(a.id.SegmentSize)
	for _, o := range index {
		if o.Segment <= first && o.Last == last {
			return true
		}
	}
	return false
}

// listBlock lists the complete segments of a block.
func (a *Archive) listBlock(ctx context.Context, b block) ([]segment.Name, error) {
	var names []segment.Name
	err := a.eachOfBlock(ctx, b, func(name segment.Name, _ Object) { names = append(names, name) })
	return slices.Compact(names), err // one can be there encrypted, too
}

// eachOfBlock lists the objects of the complete segments of a block.
func (a *Archive) eachOfBlock(ctx context.Context, b block, visit func(segment.Name, Object)) error {
	prefix, last := a.segmentKey(b.name(0)), a.segmentKey(b.name(indexBlock-1))
	for !strings.HasPrefix(last, prefix) {
		prefix = prefix[:len(prefix)-1]
	}
	return a.store.List(ctx, prefix, func(info storage.Info) error {
		if o, err := ParseKey(info.Key); err == nil && o.Kind == KindSegment {
			name, err := segment.ParseName(o.Segment, a.id.SegmentSize)
			if err == nil && blockOf(name) == b {
				visit(name, o)
			}
		}
		return nil
	})
}

// readIndex reads an index object, which is proven to be sound by that. Its
// segments are in order.
func (a *Archive) readIndex(ctx context.Context, o Object) ([]SegmentInfo, error) {
	key := o.Key()
	if o.Encrypted && len(a.keys.Identities) == 0 {
		return nil, fmt.Errorf("%s: %w", key, ErrEncrypted)
	}
	stored, err := readSmall(ctx, a.store, key)
	if err != nil {
		return nil, err
	}
	plain := stored
	if o.Encrypted {
		if plain, err = a.keys.Identities.Decrypt(stored); err != nil {
			return nil, undecrypted(o, err, nil)
		}
	}
	t, err := decodeTrailer(plain[max(0, len(plain)-maxTrailer):])
	if err != nil || t.Size > maxIndex {
		return nil, &DamagedError{Key: key, Reason: fmt.Sprintf("%d bytes of content: %v", t.Size, err)}
	}
	r, err := a.newReader(io.NopCloser(bytes.NewReader(stored)), int64(len(stored)), o, t.Size)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	text := bytes.NewBuffer(make([]byte, 0, t.Size+bytes.MinRead))
	if _, err := text.ReadFrom(r); err != nil {
		return nil, err
	}
	infos, err := decodeIndex(text.Bytes(), o, a.id.SegmentSize)
	if err != nil {
		return nil, &DamagedError{Key: key, Reason: err.Error()}
	}
	return infos, nil
}

// decodeIndex reads the content of an index object.
func decodeIndex(text []byte, o Object, size segment.Size) ([]SegmentInfo, error) {
	var file indexFile
	if err := json.Unmarshal(text, &file); err != nil {
		return nil, err
	}
	if file.Format != formatNumber {
		return nil, fmt.Errorf("format %d", file.Format)
	}
	infos := make([]SegmentInfo, 0, len(file.Segments))
	for _, e := range file.Segments {
		info, err := e.info(size)
		if err != nil {
			return nil, fmt.Errorf("segment %q: %w", e.Name, err)
		}
		if n := len(infos); n > 0 && infos[n-1].Name.Compare(info.Name) >= 0 {
			return nil, fmt.Errorf("segment %s is out of order", e.Name)
		}
		if info.Name.Timeline != o.Timeline {
			return nil, fmt.Errorf("segment %s is of another timeline", e.Name)
		}
		infos = append(infos, info)
	}
	n := len(file.Segments)
	if n == 0 || file.Segments[0].Name != o.Segment || file.Segments[n-1].Name != o.Last {
		return nil, errors.New("it is not about the segments that its key names")
	}
	return infos, nil
}

func (e indexEntry) info(size segment.Size) (SegmentInfo, error) {
	name, err := segment.ParseName(e.Name, size)
	if err != nil {
		return SegmentInfo{}, err
	}
	info := SegmentInfo{Name: name}
	if info.Digest, err = parseDigest(e.SHA256); err != nil || e.Summary == nil {
		return info, err
	}
	info.Summary, err = e.Summary.summary(name, size)
	info.Known = err == nil
	return info, err
}
