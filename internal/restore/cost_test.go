package restore

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/local"
)

// onDisk is a data directory and an archive of format 1 with one segment of the
// given size, whose WAL ends at upto, in real directories.
func onDisk(t testing.TB, size segment.Size, upto int64) Options {
	t.Helper()
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(dir, "data/pg_wal"), 0o700))
	must(os.MkdirAll(filepath.Join(dir, "archive"), 0o700))
	must(os.MkdirAll(filepath.Join(dir, "scratch"), 0o700))
	must(os.WriteFile(filepath.Join(dir, "data", recoverySignal), nil, 0o600))
	store := local.New(vfs.OS(), filepath.Join(dir, "archive"), local.Private)
	ctx := context.Background()
	a, err := archive.Init(ctx, store, archive.Identity{SystemID: testSystem, SegmentSize: size, Major: 15}, archive.Keys{})
	must(err)
	n := segment.Name{Timeline: 1, Number: 2}
	data := make([]byte, size)
	for at := int64(0); at < upto; at += testPage {
		page := header(testSystem, n.Start(size)+segment.LSN(at), 1, at == 0)
		if at == 0 {
			page[32], page[33], page[34], page[35] = byte(size), byte(size>>8), byte(size>>16), byte(size>>24)
		}
		copy(data[at:], page)
	}
	must(a.PutSegment(ctx, archive.NewScratch(vfs.OS(), filepath.Join(dir, "scratch")), n, opener(data)))
	return Options{
		FS:      vfs.OS(),
		Archive: Place{Location: dir, Missing: storage.ErrNoRoot, Open: func(context.Context) (storage.Store, error) { return store, nil }},
		File:    n.Format(size),
		Path:    "pg_wal/RECOVERYXLOG",
		WorkDir: filepath.Join(dir, "data"),
	}
}

// TestMemory: what a call allocates does not grow with the segment.
func TestMemory(t *testing.T) {
	const size = 128 << 20
	o := onDisk(t, size, size)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	if a := Run(t.Context(), o); a.Code != CodeDelivered {
		t.Fatalf("answer %v", a)
	}
	runtime.ReadMemStats(&after)
	allocated := after.TotalAlloc - before.TotalAlloc
	t.Logf("%d KiB allocated", allocated>>10)
	if allocated > 24<<20 {
		t.Errorf("%d MiB allocated", allocated>>20)
	}
}

func BenchmarkRestore(b *testing.B) {
	for _, upto := range []int64{100_000, 16 << 20} {
		b.Run(fmt.Sprint(upto), func(b *testing.B) {
			o := onDisk(b, 16<<20, upto)
			target := o.target()
			for b.Loop() {
				if a := Run(b.Context(), o); a.Code != CodeDelivered {
					b.Fatal(a)
				}
				b.StopTimer()
				if err := os.Remove(target); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}
