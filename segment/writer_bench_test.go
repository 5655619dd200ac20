package segment_test

import (
	"fmt"
	"hash/crc32"
	"log/slog"
	"testing"

	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
)

// benchWriter writes segments of 16 MiB to a real disk.
func benchWriter(b *testing.B) *segment.Writer {
	b.Helper()
	s, err := segment.OpenSpool(vfs.OS(), b.TempDir(), slog.New(slog.DiscardHandler), segment.SpoolOptions{})
	if err != nil {
		b.Fatal(err)
	}
	const size = segment.Size(16 << 20)
	err = s.Identify(segment.Cluster{Identity: segment.Identity{SystemID: 1, Size: size}, Major: 15, FileMode: 0o600})
	if err != nil {
		b.Fatal(err)
	}
	w, err := s.NewWriter(segment.Position{Timeline: 1, LSN: size.Start(1)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { w.Close(); s.Close() })
	return w
}

// BenchmarkAppend writes what a server sends at once, and syncs each segment.
func BenchmarkAppend(b *testing.B) {
	for _, n := range []int{1 << 10, 128 << 10} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w, p := benchWriter(b), make([]byte, n)
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				at := w.Position().LSN
				if err := w.Append(at, p); err != nil {
					b.Fatal(err)
				}
				if (at+segment.LSN(n))%(16<<20) == 0 {
					if _, err := w.Sync(); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

// BenchmarkSync is what a commit waits for at the disk.
func BenchmarkSync(b *testing.B) {
	w, p := benchWriter(b), make([]byte, 8<<10)
	b.ReportAllocs()
	for b.Loop() {
		if err := w.Append(w.Position().LSN, p); err != nil {
			b.Fatal(err)
		}
		if _, err := w.Sync(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCRC is the checksum alone, of pages and of what a server sends at once.
func BenchmarkCRC(b *testing.B) {
	table := crc32.MakeTable(crc32.Castagnoli)
	for _, n := range []int{100, 8 << 10, 128 << 10} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			p := make([]byte, n)
			b.SetBytes(int64(n))
			for b.Loop() {
				crc32.Checksum(p, table)
			}
		})
	}
}
