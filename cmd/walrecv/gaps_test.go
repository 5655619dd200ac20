package main

import (
	"log/slog"
	"testing"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage/storagetest"
)

func TestOpenGaps(t *testing.T) {
	const size = segment.Size(16 << 20)
	gap := func(tli segment.TimelineID, first, last uint64) segment.Gap {
		return segment.Gap{Timeline: tli, From: size.Start(first), To: size.Start(last + 1)}
	}
	one, two, three := gap(1, 5, 6), gap(2, 8, 8), gap(2, 20, 1<<30)
	histories := map[segment.TimelineID]segment.History{1: {Timeline: 1}, 2: {Timeline: 2}}
	kept := func(segment.Gap) bool { return false }
	var o openGaps
	if n := o.count(nil); n != 0 {
		t.Errorf("%d before anything is known", n)
	}
	if n := o.count([]string{one.FileName()}); n != 1 {
		t.Errorf("%d with one in the spool", n)
	}
	held := segment.NewHeld()
	held.Gaps = []segment.Gap{one, two, three}
	for number := range uint64(6) {
		held.AddSealed(segment.Name{Timeline: 1, Number: number}) // half of the first gap
		held.AddSealed(segment.Name{Timeline: 1, Number: number + 8})
	}
	o.note(held, histories, size, kept)
	if n := o.count([]string{one.FileName(), two.FileName()}); n != 3 {
		t.Errorf("%d, want 3", n)
	}
	if n := o.count([]string{gap(3, 1, 1).FileName()}); n != 4 {
		t.Errorf("%d with another one in the spool", n)
	}
	held.AddSealed(segment.Name{Timeline: 1, Number: 6})
	held.AddSealed(segment.Name{Timeline: 2, Number: 8})
	o.note(held, histories, size, kept)
	if n := o.count([]string{one.FileName(), two.FileName()}); n != 1 {
		t.Errorf("%d when two are filled", n)
	}
	o.note(held, histories, size, func(g segment.Gap) bool { return g == three })
	if n := o.count([]string{three.FileName()}); n != 0 {
		t.Errorf("%d when one was pruned", n)
	}
}

// TestOpenGapsAcrossAFork fills a gap in which timeline 2 left timeline 1 with what
// each of them must have, without the history, with it in the archive, and with it
// in the spool.
func TestOpenGapsAcrossAFork(t *testing.T) {
	const size = segment.Size(1 << 20)
	const history = "1\t0/480000\tno recovery target specified\n"
	g := segment.Gap{Timeline: 2, From: size.Start(3), To: size.Start(6)}
	held := segment.NewHeld()
	held.Gaps = []segment.Gap{g}
	for _, name := range []segment.Name{{Timeline: 1, Number: 3}, {Timeline: 1, Number: 4}, {Timeline: 2, Number: 5}} {
		held.AddSealed(name)
	}
	whole := segment.NewHeld()
	whole.Gaps = held.Gaps
	for name := range held.Sealed {
		whole.AddSealed(name)
	}
	whole.AddSealed(segment.Name{Timeline: 2, Number: 4}) // the segment of the fork is the child's

	cluster := segment.Cluster{Identity: segment.Identity{SystemID: 7411122233344455566, Size: size}, Major: 15, FileMode: 0o600}
	spool, err := segment.OpenSpool(vfs.OS(), t.TempDir(), slog.New(slog.DiscardHandler), segment.SpoolOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer spool.Close()
	if err := spool.Identify(cluster); err != nil {
		t.Fatal(err)
	}
	a, err := archive.Init(t.Context(), storagetest.NewMem(), archive.Identity{SystemID: cluster.SystemID, SegmentSize: size, Major: 15}, archive.Keys{})
	if err != nil {
		t.Fatal(err)
	}
	k := &archiveKeeper{spoolKeeper: spoolKeeper{Spool: spool}}
	expect := func(held segment.Held, want int, when string) {
		t.Helper()
		var o openGaps
		o.note(held, (&gapKeeper{heldKeeper: k}).histories(t.Context(), held.Gaps), size, k.pruned)
		if n := o.count(nil); n != want {
			t.Errorf("%d gaps %s, want %d", n, when, want)
		}
	}
	expect(whole, 1, "without an archive and a history")
	k.archive.Store(a)
	expect(whole, 1, "without a history")
	if err := a.PutHistory(t.Context(), 2, []byte(history)); err != nil {
		t.Fatal(err)
	}
	expect(held, 1, "with the segment of the fork missing")
	expect(whole, 0, "with the history in the archive")
	k.archive.Store(nil)
	if err := spool.PutHistory(2, []byte(history)); err != nil {
		t.Fatal(err)
	}
	expect(whole, 0, "with the history in the spool")
}
