package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/codec"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage/local"
)

const benchSize = segment.Size(16 << 20)

// benchWAL is a segment as pgbench fills it after a checkpoint: images of the pages of
// its large table, and what an update needs between them.
func benchWAL(n segment.Name) []byte {
	data := make([]byte, benchSize)
	rng := rand.New(rand.NewPCG(n.Number, 0))
	stream := make([]byte, 0, len(data)+2*pageSize)
	for len(stream) < len(data) {
		for range 3 {
			stream = appendNoise(stream, rng, 60) // of an update
			stream = append(stream, make([]byte, 40)...)
		}
		stream = appendNoise(stream, rng, 70)
		for row, first := uint32(0), rng.Uint32(); row < 61; row++ {
			stream = binary.LittleEndian.AppendUint64(stream, 1234) // who made it
			stream = binary.LittleEndian.AppendUint64(stream, uint64(first/61)<<16|uint64(row))
			stream = binary.LittleEndian.AppendUint64(stream, 0x180902_0004)
			stream = binary.LittleEndian.AppendUint32(stream, first+row)
			stream = binary.LittleEndian.AppendUint32(stream, first/100_000)
			stream = binary.LittleEndian.AppendUint32(stream, uint32(rng.IntN(5000)))
			stream = append(stream, 0xAB)
			stream = append(stream, bytes.Repeat([]byte(" "), 84)...)
		}
	}
	for at := 0; at < len(data); at += pageSize {
		page := data[at:][:pageSize]
		binary.LittleEndian.PutUint16(page, 0xD110)
		binary.LittleEndian.PutUint32(page[4:], uint32(n.Timeline))
		binary.LittleEndian.PutUint64(page[8:], uint64(n.Start(benchSize))+uint64(at))
		head := 24
		if at == 0 {
			binary.LittleEndian.PutUint16(page[2:], 2)
			binary.LittleEndian.PutUint64(page[24:], testSystem)
			binary.LittleEndian.PutUint32(page[32:], uint32(benchSize))
			binary.LittleEndian.PutUint32(page[36:], pageSize)
			head = 40
		}
		stream = stream[copy(page[head:], stream):]
	}
	return data
}

func appendNoise(p []byte, rng *rand.Rand, n int) []byte {
	for range n / 8 {
		p = binary.LittleEndian.AppendUint64(p, rng.Uint64())
	}
	return p
}

// perSegment measures what one segment takes, also of the processor: of that, who else
// uses the machine takes less away.
func perSegment(b *testing.B, do func()) {
	b.Helper()
	b.SetBytes(int64(benchSize))
	b.ReportAllocs()
	began := processor(b)
	for b.Loop() {
		do()
	}
	b.ReportMetric(float64((processor(b)-began).Microseconds())/1000/float64(b.N), "cpu-ms/op")
}

// processor is what this process has taken of it.
func processor(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// known stands for a receiver, which has read what it streamed.
type known struct{}

func (known) Summary(_ context.Context, n segment.Name) (segment.Summary, bool) {
	return segment.Summary{Start: n.Start(benchSize), End: n.End(benchSize)}, true
}

// BenchmarkStages are the stages of a segment on its way into an archive in a
// directory, and back.
func BenchmarkStages(b *testing.B) {
	data := benchWAL(name(1, 1))
	must := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	b.Run("hash", func(b *testing.B) { perSegment(b, func() { sha256.Sum256(data) }) })
	b.Run("compress", func(b *testing.B) {
		perSegment(b, func() {
			w, err := codec.NewWriter(io.Discard, codec.Zstd, 0, int64(len(data)))
			must(err)
			_, err = w.Write(data)
			must(err)
			must(w.Close())
		})
	})
	dir := b.TempDir()
	must(os.Mkdir(filepath.Join(dir, "archive"), 0o700))
	must(os.Mkdir(filepath.Join(dir, "spool"), 0o700))
	a, err := Init(b.Context(), local.New(vfs.OS(), filepath.Join(dir, "archive"), local.Private),
		Identity{SystemID: testSystem, SegmentSize: benchSize, Major: 15}, Keys{})
	must(err)
	scratch := NewScratch(vfs.OS(), dir)
	n := name(1, 1)
	open := a.segmentContent(n, opener(data), &segment.Summary{Start: n.Start(benchSize), End: n.End(benchSize)})
	b.Run("make", func(b *testing.B) {
		perSegment(b, func() {
			p, err := a.prepare(b.Context(), scratch, "segment", open)
			must(err)
			p.remove()
		})
	})
	b.Run("put", func(b *testing.B) {
		p, err := a.prepare(b.Context(), scratch, "segment", open)
		must(err)
		defer p.remove()
		b.ReportMetric(float64(len(data))/float64(p.length), "times-smaller")
		at := name(1, 1)
		perSegment(b, func() {
			at = at.Next()
			_, err := a.put(b.Context(), a.walObject(KindSegment, at), p)
			must(err)
		})
	})
	must(a.PutSegment(b.Context(), scratch, n, opener(data)))
	b.Run("read", func(b *testing.B) {
		buf := make([]byte, 256<<10)
		perSegment(b, func() {
			r, err := a.OpenSegment(b.Context(), n)
			must(err)
			_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{r}, buf)
			must(err)
			must(r.Close())
		})
	})
	b.Run("upload", func(b *testing.B) { benchUpload(b, filepath.Join(dir, "spool"), a) })
}

// benchUpload archives and removes eight segments of a spool at a time.
func benchUpload(b *testing.B, dir string, a *Archive) {
	const segments = 8
	spool, err := segment.OpenSpool(vfs.OS(), dir, slog.New(slog.DiscardHandler), segment.SpoolOptions{})
	if err != nil {
		b.Fatal(err)
	}
	defer spool.Close() // nothing was written through it
	if err := spool.Identify(segment.Cluster{Identity: a.id.Segment(), Major: 15, FileMode: 0o600}); err != nil {
		b.Fatal(err)
	}
	at := name(2, 0) // a timeline of its own
	b.SetBytes(segments * int64(benchSize))
	b.ReportAllocs()
	var used time.Duration
	for b.Loop() {
		b.StopTimer()
		for range segments {
			at = at.Next()
			if err := os.WriteFile(filepath.Join(dir, at.Format(benchSize)), benchWAL(at), 0o600); err != nil {
				b.Fatal(err)
			}
		}
		syscall.Sync() // as a receiver has done it
		u := NewUploader(a, spool, UploaderOptions{Summaries: known{}}, slog.New(slog.DiscardHandler))
		began := processor(b)
		b.StartTimer()
		if err := u.Drain(b.Context()); err != nil {
			b.Fatal(err)
		}
		used += processor(b) - began
	}
	b.ReportMetric(float64(used.Microseconds())/1000/float64(b.N)/segments, "cpu-ms/segment")
}
