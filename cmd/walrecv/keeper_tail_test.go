package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/fakepg"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/local"
)

// The archive's tail counts for what is held: a receiver without its spool goes on
// where the tail is, and a segment of which the tail has all is made complete.
func TestHeldTail(t *testing.T) {
	const size = 1 << 20
	root := t.TempDir()
	log := slog.New(slog.DiscardHandler)
	store := storage.WithDeadline(local.New(vfs.OS(), root, local.Private))
	open := func() *archiveKeeper {
		spool, err := segment.OpenSpool(vfs.OS(), t.TempDir(), log, segment.SpoolOptions{})
		if err != nil {
			t.Fatal(err)
		}
		k := &archiveKeeper{
			spoolKeeper: spoolKeeper{Spool: spool, log: log, identified: func() {}}, store: store, turn: make(chan struct{}, 1),
		}
		c := segment.Cluster{Identity: segment.Identity{SystemID: 7411122233344455566, Size: size}, Major: 15, FileMode: 0o600}
		if err := k.Identify(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		return k
	}
	k := open()
	// Two segments and a half, acknowledged by the tail, and then the spool is lost.
	tail := archive.NewTail(k.Spool, archive.TailOptions{Acknowledge: true}, log)
	hide := &segmentless{Store: store}
	a, err := archive.Open(t.Context(), hide, 7411122233344455566, archive.Keys{})
	if err != nil {
		t.Fatal(err)
	}
	u := archive.NewUploader(a, k.Spool, archive.UploaderOptions{Tail: tail}, log)
	w, err := k.NewWriter(segment.Position{Timeline: 1, LSN: size})
	if err != nil {
		t.Fatal(err)
	}
	server := fakepg.New(fakepg.Config{SystemID: 7411122233344455566, SegmentSize: size})
	defer server.Close()
	acked := make(chan segment.LSN, 100)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var both sync.WaitGroup
	both.Go(func() { _ = u.Run(ctx) })          // it ends with ctx
	both.Go(func() { _ = tail.Run(ctx, a, u) }) // so does it
	tail.Begin(segment.Position{Timeline: 1, LSN: size}, func(to segment.LSN) { acked <- to })
	for at := segment.LSN(size); at < 3*size+size/2; at += size / 2 {
		p := make([]byte, size/2)
		server.ReadWAL(1, uint64(at), p)
		if err := w.Append(at, p); err != nil {
			t.Fatal(err)
		}
		synced, err := w.Sync()
		if err != nil {
			t.Fatal(err)
		}
		tail.Synced(synced, true)
		for <-acked < synced {
			continue
		}
	}
	cancel()
	both.Wait()

	k = open()
	held, err := k.Held(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	start, ok := segment.Resume(segment.History{Timeline: 1}, size, held)
	if want := (segment.Position{Timeline: 1, LSN: 3 * size}); !ok || start != want {
		t.Errorf("goes on at %s", start)
	}
	if end := held.EndOn(1, size); end != 3*size+size/2 {
		t.Errorf("held up to %s", end)
	}
	if got, err := filepath.Glob(filepath.Join(root, "*", "wal", "00000001", "*.zst")); err != nil || len(got) != 2 {
		t.Errorf("complete in the archive: %v, %v", got, err)
	}
}

// Other WAL in the archive's tail is not waited out.
func TestSealFailure(t *testing.T) {
	for err, again := range map[error]bool{
		fmt.Errorf("two tails: %w", segment.ErrBranch): false,
		&archive.ConflictError{}:                       false,
		&archive.LocalError{Err: errors.New("disk")}:   false,
		errors.New("no answer"):                        true,
	} {
		var later *unreachable
		if got := errors.As(sealFailure(err), &later); got != again {
			t.Errorf("%T: another try %v, want %v", err, got, again)
		}
	}
}

// segmentless is a store that complete segments do not get to.
type segmentless struct{ storage.Store }

func (s *segmentless) Put(ctx context.Context, key string, src storage.Source) error {
	if strings.Contains(key, "/wal/") {
		<-ctx.Done()
		return ctx.Err()
	}
	return s.Store.Put(ctx, key, src)
}
