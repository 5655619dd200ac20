package archive

import (
	"slices"
	"testing"
	"time"

	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage/storagetest"
)

// BenchmarkInfos is what an archive of 100,000 segments of an ordinary load costs
// whoever wants to know about each of them.
func BenchmarkInfos(b *testing.B) {
	const segments = 100_000
	store := storagetest.NewMem()
	a, err := Init(b.Context(), store, testIdentity, Keys{})
	if err != nil {
		b.Fatal(err)
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 678_901_000, time.UTC)
	var infos []SegmentInfo
	for number := range uint64(segments) {
		n := name(1, number)
		start := n.Start(testSize)
		end := n.End(testSize)
		info := SegmentInfo{Name: n, Known: true, Summary: segment.Summary{
			Start: start, End: end, First: start + 0x28, Last: end - 0x58, Open: end - 0x58,
			FirstCommit: at, LastCommit: at.Add(30 * time.Second),
		}}
		info.Digest[0] = byte(number)
		at = at.Add(30*time.Second + time.Microsecond)
		infos = append(infos, info)
	}
	for block := range slices.Chunk(infos, indexBlock) {
		if err := a.putIndex(b.Context(), block); err != nil {
			b.Fatal(err)
		}
	}
	for _, info := range infos {
		fakeSegment(b, store, a, info)
	}
	l, err := a.Listing(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		index, err := a.Index(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		seen := 0
		err = a.Infos(b.Context(), l, index, func(info SegmentInfo, err error) error {
			if err == nil && info.Known {
				seen++
			}
			return err
		})
		if err != nil || seen != segments {
			b.Fatal(seen, err)
		}
	}
}
