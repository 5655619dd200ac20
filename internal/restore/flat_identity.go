package restore

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"slices"

	"github.com/walrecv/walrecv/internal/codec"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
)

// spoolIdentity is the file in which a receiver keeps the identity of its spool.
const spoolIdentity = "walrecv.json"

// errNothing says that a directory has nothing that tells of a cluster.
var errNothing = errors.New("no identity")

// firstPages is how many segments are looked into for the cluster's identity. One
// is enough unless it is damaged or has just been begun.
const firstPages = 4

// flatIdentity finds out whose segments a flat directory has: a spool of walrecv
// says it in a file, else the newest segments do in their first page.
func flatIdentity(ctx context.Context, store storage.Store, where string) (segment.Identity, error) {
	s := &flat{store: store, where: where}
	data, err := s.read(ctx, spoolIdentity, codec.None)
	if err == nil {
		return parseSpoolIdentity(where, data)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return segment.Identity{}, err
	}
	newest, err := newestFlat(ctx, store)
	if err != nil {
		return segment.Identity{}, err
	}
	var failed error
	for _, f := range newest {
		id, err := s.pageIdentity(ctx, f)
		if err == nil {
			return id, nil
		}
		if !errors.Is(err, errNothing) {
			failed = cmp.Or(failed, err)
		}
	}
	return segment.Identity{}, cmp.Or(failed, errNothing)
}

func parseSpoolIdentity(where string, data []byte) (segment.Identity, error) {
	var file struct {
		Format   int    `json:"format"`
		SystemID uint64 `json:"system_identifier,string"`
		Size     int64  `json:"wal_segment_size"`
	}
	err := json.Unmarshal(data, &file)
	if err == nil && file.Format > 1 {
		return segment.Identity{}, problemf(misconfigured, "%s/%s has format %d, this version knows 1", where, spoolIdentity, file.Format)
	}
	id := segment.Identity{SystemID: file.SystemID, Size: segment.Size(file.Size)}
	if err == nil {
		err = id.Size.Valid()
	}
	if err == nil && (file.Format != 1 || id.SystemID == 0) {
		err = errors.New("a field is missing")
	}
	if err != nil {
		return segment.Identity{}, problemf(damaged, "%s/%s: %w", where, spoolIdentity, err)
	}
	return id, nil
}

// newestFlat lists the segments that are the best witnesses: complete ones first,
// and of them the last in the log. The digits after the timeline have the order
// of the log for every segment size.
func newestFlat(ctx context.Context, store storage.Store) ([]flatName, error) {
	var newest []flatName
	better := func(a, b flatName) int {
		if a.partial != b.partial {
			if a.partial {
				return 1
			}
			return -1
		}
		return cmp.Or(cmp.Compare(b.base[8:], a.base[8:]), cmp.Compare(b.base, a.base), cmp.Compare(a.key, b.key))
	}
	err := listFlat(ctx, store, func(f flatName) {
		if !segment.IsSegmentName(f.base) {
			return
		}
		newest = append(newest, f)
		slices.SortFunc(newest, better)
		newest = newest[:min(len(newest), firstPages)]
	})
	return newest, err
}

// pageIdentity reads the identity in the first page of a segment. A file with no
// first page yet is errNothing.
func (s *flat) pageIdentity(ctx context.Context, f flatName) (segment.Identity, error) {
	stored, _, err := s.store.Open(ctx, f.key)
	if err != nil {
		return segment.Identity{}, storage.Unknown("open "+s.path(f.key), err)
	}
	defer stored.Close()
	plain, err := codec.NewReader(stored, f.method, int64(segment.MaxSize))
	if err != nil {
		return segment.Identity{}, err
	}
	defer plain.Close()
	var page [pageHeader]byte
	n, err := io.ReadFull(plain, page[:])
	if n == 0 && (err == io.EOF || f.partial) || page == [pageHeader]byte{} && err == nil {
		return segment.Identity{}, errNothing
	}
	if err != nil {
		return segment.Identity{}, storage.Unknown("read "+s.path(f.key), err)
	}
	h, err := segment.ParsePageHeader(page[:])
	id := segment.Identity{SystemID: h.SystemID, Size: segment.Size(h.SegmentSize)}
	if err != nil || !h.Long || id.SystemID == 0 || id.Size.Valid() != nil {
		return segment.Identity{}, problemf(damaged, "%s does not begin with a WAL page", s.path(f.key))
	}
	name, err := segment.ParseName(f.base, id.Size)
	if err == nil {
		err = segment.CheckFirstPage(page[:], name, id)
	}
	if err != nil {
		return segment.Identity{}, problemf(damaged, "%s: %w", s.path(f.key), err)
	}
	return id, nil
}
