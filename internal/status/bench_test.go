package status_test

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/storage/local"
)

// BenchmarkStatus100k is about an archive of 100,000 segments, in this process
// and as the whole program.
func BenchmarkStatus100k(b *testing.B) {
	const segments = 100_000
	root := b.TempDir()
	fill(b, root, segments)
	b.Run("gather", func(b *testing.B) {
		for b.Loop() {
			r := gather(b, local.New(vfs.OS(), root, local.Private), archive.Keys{})
			if err := r.Text(io.Discard); err != nil {
				b.Fatal(err)
			}
			if r.Segments.Verified != segments || len(r.Problems) != 0 {
				b.Fatalf("%+v, %v", r.Segments, r.Problems)
			}
		}
	})
	b.Run("process", func(b *testing.B) {
		walrecv := pgtest.Build(b)
		for b.Loop() {
			if out, err := exec.Command(walrecv, "status", "--archive", root).CombinedOutput(); err != nil {
				b.Fatalf("%v: %s", err, out)
			}
		}
	})
}

// fill makes an archive in a directory: segments in order from number 1, and an
// index object for each block of 256 that is complete.
func fill(t testing.TB, root string, segments uint64) {
	t.Helper()
	write := func(key string, content []byte) {
		file := filepath.Join(root, worldKey(key))
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"wal/00000001", "index/00000001"} {
		if err := os.MkdirAll(filepath.Join(root, worldKey(dir)), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write("walrecv.json", []byte(worldIdentity))
	const block = 256
	for n := uint64(1); n <= segments; n++ {
		write(segmentKey(1, n), segmentEnd(soundSummary(n)))
		if (n+1)%block == 0 {
			key, content := indexObject(t, 1, max(n+1-block, 1), n)
			write(key, content)
		}
	}
}
