package backup

import (
	"fmt"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/storagetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testSystem = 7411122233344455566
	testSize   = segment.Size(1 << 20)
)

var (
	testIdentity = archive.Identity{SystemID: testSystem, SegmentSize: testSize, Major: 15}
	day          = time.Date(2026, 11, 22, 7, 30, 0, 123456000, time.UTC)
)

func newArchive(t *testing.T, store storage.Store) *archive.Archive {
	t.Helper()
	a, err := archive.Init(t.Context(), store, testIdentity, archive.Keys{})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func key(id, file string) string { return fmt.Sprintf("%d/backup/%s/%s", uint64(testSystem), id, file) }

// sampleStart is the start of a backup that began some time after day.
func sampleStart(id string, after time.Duration) Start {
	return Start{
		ID: id, SystemID: testSystem, Major: 15, Timeline: 2, StartLSN: 0x5000028,
		Label: "nightly", Started: day.Add(after), From: FromStandby,
	}
}

func sampleBackup(id string, after time.Duration) *Backup {
	b := &Backup{
		Start:  sampleStart(id, after),
		EndLSN: 0x5000140, EndTimeline: 2, Finished: day.Add(after + time.Minute), ServerVersion: "15.20",
		Tablespaces: []Tablespace{{OID: 16384, Location: "/srv/a b", Size: 4 << 20}, {Size: 30 << 20}},
	}
	for i, file := range []string{"16384.000001.tar.zst", "base.000001.tar.zst", "base.000002.tar.zst", "backup_manifest.zst"} {
		o := archive.Stored{File: file, Size: int64(10 + i), SHA256: archive.Digest{byte(i)}, PlainSize: int64(100 + i)}
		b.Objects = append(b.Objects, o)
		b.StoredSize += o.Size
		b.PlainSize += o.PlainSize
	}
	return b
}

// set puts a document into the store, as it is.
func set(mem *storagetest.Mem, id, file string, content []byte) { mem.Set(key(id, file), content) }

func must[T any](t *testing.T) func(T, error) T {
	return func(value T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}
