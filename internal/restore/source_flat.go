package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/walrecv/walrecv/internal/codec"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
)

// maxSmall bounds what is read of files that are small, in bytes.
const maxSmall = 1 << 20

// flat is a directory of WAL under PostgreSQL's own names, as pg_receivewal and
// `walrecv receive` keep one: NAME, NAME.gz, .lz4 or .zst, each with or without
// .partial, and history files, which pg_receivewal compresses, too.
type flat struct {
	store storage.Store
	size  segment.Size
	where string
}

// methods are the ways in which a file may be compressed, in the order in which
// copies of the same file are tried.
var methods = []codec.Method{codec.None, codec.Zstd, codec.LZ4, codec.Gzip}

func (s *flat) segment(ctx context.Context, n segment.Name) (*stream, error) {
	base := n.Format(s.size)
	st, err := s.open(ctx, base, codec.None)
	if !errors.Is(err, fs.ErrNotExist) {
		return st, err
	}
	// A segment that is compressed in its place has its plain name until the
	// other one is there, so this order misses nothing.
	names, err := s.names(ctx, base)
	if err != nil {
		return nil, err
	}
	for _, m := range methods {
		if names[base+m.Suffix()] {
			return s.open(ctx, base+m.Suffix(), m)
		}
	}
	return nil, fmt.Errorf("%s in %s: %w", base, s.where, fs.ErrNotExist)
}

// partials finds the suffixes in either order: pg_receivewal compresses what it
// receives, archive commands compress what the server calls a partial.
func (s *flat) partials(ctx context.Context, n segment.Name) ([]partial, error) {
	base := n.Format(s.size)
	names, err := s.names(ctx, base)
	if err != nil {
		return nil, err
	}
	var partials []partial
	for _, name := range slices.Sorted(maps.Keys(names)) {
		m, ok := partialMethod(name, base)
		if !ok {
			continue
		}
		partials = append(partials, partial{s.path(name), func(ctx context.Context) (*stream, error) {
			st, err := s.open(ctx, name, m)
			if st != nil {
				st.cut = m != codec.None
			}
			return st, err
		}})
	}
	return partials, nil
}

// partialMethod tells whether name is a partial of the segment base, and how it
// is compressed.
func partialMethod(name, base string) (codec.Method, bool) {
	suffix, ok := strings.CutPrefix(name, base)
	if !ok || !strings.Contains(suffix, segment.PartialSuffix) {
		return "", false
	}
	for _, m := range methods {
		if suffix == m.Suffix()+segment.PartialSuffix || suffix == segment.PartialSuffix+m.Suffix() {
			return m, true
		}
	}
	return "", false
}

func (s *flat) history(ctx context.Context, t segment.TimelineID) ([]byte, error) {
	base := segment.HistoryName(t)
	data, err := s.read(ctx, base, codec.None)
	if errors.Is(err, fs.ErrNotExist) {
		data, err = s.compressedHistory(ctx, base)
	}
	if err != nil {
		return nil, err
	}
	return data, soundHistory(s.where, t, data)
}

func (s *flat) compressedHistory(ctx context.Context, base string) ([]byte, error) {
	names, err := s.names(ctx, base)
	if err != nil {
		return nil, err
	}
	for _, m := range methods {
		if names[base+m.Suffix()] {
			return s.read(ctx, base+m.Suffix(), m)
		}
	}
	return nil, fmt.Errorf("%s in %s: %w", base, s.where, fs.ErrNotExist)
}

func (s *flat) holdings(ctx context.Context, _ segment.Name) (holdings, error) {
	held := flatHoldings{}
	err := listFlat(ctx, s.store, func(f flatName) {
		held.add(f, s.size)
	})
	return held, err
}

func (s *flat) first(ctx context.Context, t segment.TimelineID) (number uint64, ok bool, err error) {
	err = listFlat(ctx, s.store, func(f flatName) {
		n, err := segment.ParseName(f.base, s.size)
		if err == nil && n.Timeline == t && (!ok || n.Number < number) {
			number, ok = n.Number, true
		}
	})
	return number, ok, err
}

// open opens a file of the directory as the plain bytes of a segment.
func (s *flat) open(ctx context.Context, name string, m codec.Method) (*stream, error) {
	stored, info, err := s.store.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	st := &stream{where: s.path(name), body: stored, length: info.Size}
	if m == codec.None {
		st.at, _ = stored.(io.ReaderAt)
		return st, nil
	}
	plain, err := codec.NewReader(stored, m, int64(s.size))
	if err != nil {
		stored.Close() // nothing was read
		return nil, err
	}
	st.body, st.memory = decoded{plain, stored}, plain.Memory
	return st, nil
}

// read reads a small file.
func (s *flat) read(ctx context.Context, name string, m codec.Method) ([]byte, error) {
	stored, _, err := s.store.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer stored.Close()
	plain, err := codec.NewReader(stored, m, maxSmall)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	data, err := io.ReadAll(plain)
	if err != nil {
		return nil, storage.Unknown("read "+s.path(name), err)
	}
	return data, nil
}

// names lists the files whose names begin with base.
func (s *flat) names(ctx context.Context, base string) (map[string]bool, error) {
	names := map[string]bool{}
	err := s.store.List(ctx, base, func(info storage.Info) error {
		names[info.Key] = true
		return nil
	})
	return names, err
}

func (s *flat) path(name string) string { return s.where + "/" + name }

// decoded is a body that is decompressed.
type decoded struct {
	io.ReadCloser // of the plain bytes
	stored        io.Closer
}

func (d decoded) Close() error { return errors.Join(d.ReadCloser.Close(), d.stored.Close()) }

// flatName is the name of a file in a flat directory, taken apart.
type flatName struct {
	key     string
	base    string // segment or history file, without suffixes
	method  codec.Method
	partial bool
}

// parseFlat takes a name apart; ok is false for what is neither a segment nor a
// history file.
func parseFlat(key string) (f flatName, ok bool) {
	f = flatName{key: key, method: codec.None}
	base := key
	for range 2 {
		if rest, m := codec.DetectSuffix(base); m != codec.None && f.method == codec.None {
			base, f.method = rest, m
		}
		if rest, cut := strings.CutSuffix(base, segment.PartialSuffix); cut && !f.partial {
			base, f.partial = rest, true
		}
	}
	f.base = base
	if segment.IsSegmentName(base) {
		return f, true
	}
	_, err := segment.ParseHistoryName(base)
	return f, err == nil && !f.partial
}

// errEnough ends a listing.
var errEnough = errors.New("enough was listed")

// listFlat lists the segments and history files in the root of a store. It does
// not go through the archives of format 1 that may be there instead: the names of
// their directories come after those of every segment that there is, as long as a
// cluster has not seen a hundred million timelines.
func listFlat(ctx context.Context, store storage.Store, fn func(flatName)) error {
	err := store.List(ctx, "", func(info storage.Info) error {
		dir, _, nested := strings.Cut(info.Key, "/")
		if nested {
			if strings.Trim(dir, "0123456789") == "" {
				return errEnough
			}
			return nil
		}
		if f, ok := parseFlat(info.Key); ok {
			fn(f)
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// flatHoldings are the timelines of a flat directory.
type flatHoldings map[segment.TimelineID]*flatTimeline

type flatTimeline struct {
	history bool
	any     bool   // a segment or a partial is there
	highest uint64 // number of the last one
	sealed  map[uint64]bool
}

var _ holdings = flatHoldings{}

func (h flatHoldings) add(f flatName, size segment.Size) {
	if t, err := segment.ParseHistoryName(f.base); err == nil {
		h.timeline(t).history = true
		return
	}
	n, err := segment.ParseName(f.base, size)
	if err != nil {
		return
	}
	t := h.timeline(n.Timeline)
	t.any, t.highest = true, max(t.highest, n.Number)
	if !f.partial {
		t.sealed[n.Number] = true
	}
}

func (h flatHoldings) timeline(t segment.TimelineID) *flatTimeline {
	if h[t] == nil {
		h[t] = &flatTimeline{sealed: map[uint64]bool{}}
	}
	return h[t]
}

func (h flatHoldings) Timelines() []segment.TimelineID { return slices.Sorted(maps.Keys(h)) }

func (h flatHoldings) HasHistory(t segment.TimelineID) bool { return h[t] != nil && h[t].history }

func (h flatHoldings) Has(n segment.Name) bool {
	t := h[n.Timeline]
	return t != nil && t.sealed[n.Number]
}

func (h flatHoldings) After(n segment.Name) bool {
	t := h[n.Timeline]
	return t != nil && t.any && t.highest > n.Number
}
