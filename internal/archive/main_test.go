package archive

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/storagetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testSystem = 7411122233344455566
	testSize   = segment.Size(1 << 20)
	pageSize   = 8192
)

var testIdentity = Identity{SystemID: testSystem, SegmentSize: testSize, Major: 15}

func name(t segment.TimelineID, number uint64) segment.Name {
	return segment.Name{Timeline: t, Number: number}
}

// wal makes a segment with correct page headers. used is how many of its pages
// are in use; the content of their records depends on the name and on salt.
func wal(n segment.Name, used int, salt uint64) []byte {
	data := make([]byte, testSize)
	rng := rand.New(rand.NewPCG(n.Number<<8|uint64(n.Timeline), salt))
	for i := range used {
		page := data[i*pageSize : (i+1)*pageSize]
		binary.LittleEndian.PutUint16(page, 0xD110)
		binary.LittleEndian.PutUint32(page[4:], uint32(n.Timeline))
		binary.LittleEndian.PutUint64(page[8:], uint64(n.Start(testSize))+uint64(i*pageSize))
		body := page[24:]
		if i == 0 {
			binary.LittleEndian.PutUint16(page[2:], 2)
			binary.LittleEndian.PutUint64(page[24:], testSystem)
			binary.LittleEndian.PutUint32(page[32:], uint32(testSize))
			binary.LittleEndian.PutUint32(page[36:], pageSize)
			body = page[40:]
		}
		// Half of it noise, so that an object is much smaller than its segment,
		// and no two are alike.
		for j := 0; j+16 <= len(body); j += 16 {
			binary.LittleEndian.PutUint64(body[j:], rng.Uint64())
		}
	}
	return data
}

// small is a segment whose object has a few hundred bytes.
func small(n segment.Name) []byte {
	data := wal(n, 1, 0)
	clear(data[200:])
	return data
}

func opener(data []byte) Opener {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
}

// partialKey is the key of a partial.
func (a *Archive) partialKey(p Partial) string {
	o := a.walObject(KindPartial, p.Name)
	o.Digest, o.Encrypted = p.Digest, p.Encrypted
	return o.Key()
}

// encoded is an object with these bytes, which is not encrypted.
func encoded(t *testing.T, data []byte) ([]byte, trailer) {
	t.Helper()
	var out memory
	o, err := encode(&out, nil, content{ReadCloser: io.NopCloser(bytes.NewReader(data))}, int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	return out.bytes, o.trailer
}

// newArchive makes an archive on store, and a scratch directory on a disk in
// memory.
func newArchive(t *testing.T, store storage.Store) (*Archive, *Scratch, *vfs.Mem) {
	t.Helper()
	a, err := Init(t.Context(), store, testIdentity, Keys{})
	if err != nil {
		t.Fatal(err)
	}
	disk := vfs.NewMem()
	return a, NewScratch(disk, "/"), disk
}

// readSegment reads a whole segment from the archive.
func readSegment(ctx context.Context, a *Archive, n segment.Name) ([]byte, error) {
	r, err := a.OpenSegment(ctx, n)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func mustPut(t *testing.T, a *Archive, s *Scratch, n segment.Name, data []byte) {
	t.Helper()
	if err := a.PutSegment(t.Context(), s, n, opener(data)); err != nil {
		t.Fatal(err)
	}
}

func expectEmptyDir(t *testing.T, disk *vfs.Mem) {
	t.Helper()
	entries, err := disk.ReadDir("/")
	if err != nil || len(entries) > 0 {
		t.Errorf("left in the scratch directory: %v, %v", entries, err)
	}
}

// faulty is a store in memory whose first request of a kind goes wrong.
func faulty(mem *storagetest.Mem, op storagetest.Op, fault storagetest.Fault) *storagetest.Faulty {
	var done atomic.Bool
	return storagetest.NewFaulty(mem, func(r storagetest.Request) storagetest.Fault {
		if r.Op != op || done.Swap(true) {
			return storagetest.Fault{}
		}
		return fault
	})
}
