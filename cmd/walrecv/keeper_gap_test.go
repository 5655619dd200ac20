package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/local"
)

// One small damaged object does not make the archive unreachable.
func TestDamagedGapObject(t *testing.T) {
	root, dir := t.TempDir(), t.TempDir()
	spool, err := segment.OpenSpool(vfs.OS(), dir, slog.New(slog.DiscardHandler), segment.SpoolOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer spool.Close()
	log := slog.New(slog.DiscardHandler)
	k := &archiveKeeper{
		spoolKeeper: spoolKeeper{Spool: spool, log: log, identified: func() {}},
		store:       storage.WithDeadline(local.New(vfs.OS(), root, local.Private)), turn: make(chan struct{}, 1),
	}
	c := segment.Cluster{Identity: segment.Identity{SystemID: 7411122233344455566, Size: 16 << 20}, Major: 15, FileMode: 0o600}
	if err := k.Identify(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Held(t.Context()); err != nil {
		t.Fatal(err)
	}
	g := segment.Gap{Timeline: 1, From: 16 << 20, To: 32 << 20}
	gaps := filepath.Join(root, "7411122233344455566", "gaps")
	if err := os.MkdirAll(gaps, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(gaps, g.FileName()), []byte("rot"), 0o600); err != nil {
		t.Fatal(err)
	}
	held, err := k.Held(t.Context())
	if err != nil || held.Unsure {
		t.Errorf("unsure: %v, %v", held.Unsure, err)
	}
}
