package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/local"
)

// The spool of a receiver that was away for long ends where the archive was pruned
// since. What lies between is not missing: it goes on where the archive ends.
func TestHeldBehindWhatWasPruned(t *testing.T) {
	const size = 1 << 20
	root, dir := t.TempDir(), t.TempDir()
	log := slog.New(slog.DiscardHandler)
	spool, err := segment.OpenSpool(vfs.OS(), dir, log, segment.SpoolOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer spool.Close()
	k := &archiveKeeper{
		spoolKeeper: spoolKeeper{Spool: spool, log: log, identified: func() {}},
		store:       storage.WithDeadline(local.New(vfs.OS(), root, local.Private)), turn: make(chan struct{}, 1),
	}
	c := segment.Cluster{Identity: segment.Identity{SystemID: 7411122233344455566, Size: size}, Major: 15, FileMode: 0o600}
	if err := k.Identify(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	name := func(number uint64) string { return segment.Name{Timeline: 1, Number: number}.Format(size) }
	for file, length := range map[string]int{name(2): size, name(3) + ".partial": size} {
		if err := os.WriteFile(filepath.Join(dir, file), make([]byte, length), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	wal := filepath.Join(root, "7411122233344455566", "wal", "00000001")
	if err := os.MkdirAll(wal, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, number := range []uint64{5, 7, 8} { // 6 is gone already, 5 not yet
		if err := os.WriteFile(filepath.Join(wal, name(number)+".zst"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	resume := func() segment.Position {
		held, err := k.Held(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		start, _ := segment.Resume(segment.History{Timeline: 1}, size, held)
		return start
	}
	if start := resume(); start.LSN != 3*size {
		t.Errorf("without word of a removal the hole counts, but it goes on at %s", start)
	}
	p := archive.Pruned{Timeline: 1, Before: 7 * size}
	if err := k.archive.Load().PutPruned(t.Context(), p, time.Now()); err != nil {
		t.Fatal(err)
	}
	if start := resume(); start.LSN != 9*size {
		t.Errorf("goes on at %s", start)
	}
	for to, want := range map[segment.LSN]bool{7 * size: true, 8 * size: false} {
		if got := k.pruned(segment.Gap{Timeline: 1, From: size, To: to}); got != want {
			t.Errorf("a gap up to %s counts as pruned: %v", to, got)
		}
	}
}
