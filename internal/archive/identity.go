package archive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"

	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
)

// formatNumber is the format of the archive that this version reads and writes.
const formatNumber = 1

// maxSmall bounds what is read of objects that are small, in bytes.
const maxSmall = 1 << 20

// Identity says which cluster an archive is of.
type Identity struct {
	SystemID    uint64
	SegmentSize segment.Size
	Major       int // PostgreSQL's major version
}

// String is for messages.
func (id Identity) String() string {
	return fmt.Sprintf("%d (segments of %s, PostgreSQL %d)", id.SystemID, id.SegmentSize, id.Major)
}

// Segment is what the pages of the cluster's segments say of it.
func (id Identity) Segment() segment.Identity {
	return segment.Identity{SystemID: id.SystemID, Size: id.SegmentSize}
}

// valid says what is missing in an identity.
func (id Identity) valid() error {
	switch {
	case id.SystemID == 0:
		return errors.New("no system identifier")
	case id.Major <= 0:
		return errors.New("no PostgreSQL version")
	}
	return id.SegmentSize.Valid()
}

func (id Identity) key() string { return Object{System: id.SystemID, Kind: KindIdentity}.Key() }

// identityFile is the content of walrecv.json. The system identifier is text
// because JSON readers lose digits of so great a number.
type identityFile struct {
	Format      int    `json:"format"`
	SystemID    string `json:"system_identifier"`
	SegmentSize int64  `json:"wal_segment_size"`
	Major       int    `json:"postgresql_major"`
}

// encode gives the same bytes for the same identity, always.
func (id Identity) encode() ([]byte, error) {
	data, err := json.Marshal(identityFile{
		Format:      formatNumber,
		SystemID:    strconv.FormatUint(id.SystemID, 10),
		SegmentSize: int64(id.SegmentSize),
		Major:       id.Major,
	})
	return append(data, '\n'), err
}

// decodeIdentity reads walrecv.json. Fields that it does not know are ignored.
// One that was put there for another cluster is segment.ErrWrongCluster.
func decodeIdentity(key string, data []byte) (Identity, error) {
	damaged := func(reason string) (Identity, error) {
		return Identity{}, &DamagedError{Key: key, Reason: reason}
	}
	// The format comes first: another one may have other types everywhere.
	var head struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return damaged(err.Error())
	}
	if head.Format <= 0 {
		return damaged("it has no format number")
	}
	if head.Format != formatNumber {
		return Identity{}, &FormatError{Key: key, Format: head.Format}
	}
	var file identityFile
	if err := json.Unmarshal(data, &file); err != nil {
		return damaged(err.Error())
	}
	system, ok := parseSystem(file.SystemID)
	if !ok {
		return damaged(fmt.Sprintf("%q is no system identifier", file.SystemID))
	}
	id := Identity{SystemID: system, SegmentSize: segment.Size(file.SegmentSize), Major: file.Major}
	if err := id.valid(); err != nil {
		return damaged(err.Error())
	}
	if id.key() != key {
		return Identity{}, fmt.Errorf("%s names the system identifier %d: %w", key, system, segment.ErrWrongCluster)
	}
	return id, nil
}

// readIdentity reads the identity of one cluster; fs.ErrNotExist without one.
func readIdentity(ctx context.Context, store storage.Store, system uint64) (Identity, error) {
	key := Identity{SystemID: system}.key()
	data, err := readSmall(ctx, store, key)
	if err != nil {
		return Identity{}, err
	}
	return decodeIdentity(key, data)
}

// Identify lists the clusters that a store has an archive of, in order of their
// directories. One request per cluster, and one listing that does not look into
// the directories if the store can do that.
func Identify(ctx context.Context, store storage.Store) ([]Identity, error) {
	var systems []uint64
	err := storage.ListDirs(ctx, store, "", func(name string) error {
		if system, ok := parseSystem(name); ok {
			systems = append(systems, system)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the clusters of the archive: %w", err)
	}
	var ids []Identity
	for _, system := range systems {
		id, err := readIdentity(ctx, store, system)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// readSmall reads a whole object that is known to be small.
func readSmall(ctx context.Context, store storage.Store, key string) ([]byte, error) {
	return readLimited(ctx, store, key, maxSmall)
}

// readLimited reads a whole object that can have so many bytes.
func readLimited(ctx context.Context, store storage.Store, key string, limit int64) ([]byte, error) {
	body, info, err := store.Open(ctx, key)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	if info.Size > limit {
		return nil, &DamagedError{Key: key, Reason: fmt.Sprintf("%d bytes are more than such an object can have", info.Size)}
	}
	data, err := io.ReadAll(io.LimitReader(body, info.Size+1))
	if err == nil && int64(len(data)) != info.Size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, storage.Unknown("read "+key, err)
	}
	return data, nil
}
