package segment_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
)

// TestZerosBehindCommits: where commits wait, each finds blocks that were written
// before; behind much WAL, and over what an earlier run left, nothing is written.
func TestZerosBehindCommits(t *testing.T) {
	const piece, much = 128 << 10, 65 << 10
	type written struct{ off, n int64 }
	var got []written
	var refuse error
	old := newDisk(t)
	disk := vfs.NewFault(old, func(op vfs.Op) error {
		if op.Kind != vfs.OpWriteAt {
			return nil
		}
		got = append(got, written{op.Offset, op.Len})
		if op.Len == piece {
			return refuse
		}
		return nil
	})
	var wal testWAL
	left := make([]byte, testSize)
	copy(left, wal.bytes(1, testSize.Start(1), 300_000))
	writeFile(t, old, "000000010000000000000001.partial", left)

	spool, err := openSpoolWith(disk, segment.SpoolOptions{Synchronous: true})
	must(t, err)
	w, err := spool.NewWriter(pos(1, testSize.Start(1)))
	must(t, err)
	for _, c := range []struct {
		n      int
		refuse error
		want   []written
	}{
		{n: 1000, want: []written{{0, 1000}, {300_000, piece}}},
		{n: 300_000 + piece - 1000 - 10, want: []written{{1000, 300_000 + piece - 1000 - 10}}},
		{n: 10, want: []written{{300_000 + piece - 10, 10}}},
		{n: 1, want: []written{{300_000 + piece, 1}, {300_000 + piece + 1, piece}}},
		{n: piece, want: []written{{300_000 + piece + 1, piece}}},
		{n: much, want: []written{{300_000 + 2*piece + 1, much}}},
		{n: 5, refuse: errors.New("no space left on device"), want: []written{{300_000 + 2*piece + much + 1, 5}, {300_000 + 2*piece + much + 6, piece}}},
		{n: 5, want: []written{{300_000 + 2*piece + much + 6, 5}}},
	} {
		got, refuse = nil, c.refuse
		at := w.Position().LSN
		must(t, w.Append(at, wal.bytes(1, at, c.n)))
		if _, err := w.Sync(); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%d bytes at %s: wrote %v, want %v", c.n, at, got, c.want)
		}
	}
	for at := w.Position().LSN; at < testSize.Start(2); at = w.Position().LSN {
		must(t, w.Append(at, wal.bytes(1, at, min(60_000, int(testSize.Start(2)-at)))))
	}
	_, err = w.Sync()
	must(t, err)
	if data := readFile(t, disk, "000000010000000000000001"); !slices.Equal(data, wal.bytes(1, testSize.Start(1), int(testSize))) {
		t.Error("the segment is not what was sent")
	}
}
