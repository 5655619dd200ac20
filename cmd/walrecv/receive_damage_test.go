package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/fakepg"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/receiver"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/local"
)

// The beginning of a record comes damaged, and is archived and acknowledged before the
// rest of it comes, which shows that. What comes again takes its place.
func TestDamageInTheTail(t *testing.T) {
	const (
		size   = 1 << 20
		system = 7411122233344455566
		record = size + 40 + 10*64
	)
	c := fakepg.Config{SystemID: system, SegmentSize: size, End: record + 40, Slots: map[string]fakepg.Slot{"archive": {RestartLSN: size}}}
	sound := fakepg.New(c)
	defer sound.Close()
	var damaged atomic.Bool
	damaged.Store(true)
	c.WAL = func(timeline uint32, at uint64, p []byte) {
		sound.ReadWAL(timeline, at, p)
		if wrong := uint64(record + 30); damaged.Load() && at <= wrong && wrong < at+uint64(len(p)) {
			p[wrong-at] ^= 4
		}
	}
	server := fakepg.New(c)
	defer server.Close()
	addr, err := server.Listen()
	if err != nil {
		t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := receiver.ParseConnInfo(receiver.ConnOptions{
		Conninfo: fmt.Sprintf("host=%s port=%s user=replicator sslmode=disable", host, port),
		Getenv:   func(string) string { return "" },
	})
	if err != nil {
		t.Fatal(err)
	}

	log := slog.New(slog.DiscardHandler)
	spool, err := segment.OpenSpool(vfs.OS(), t.TempDir(), log, segment.SpoolOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer spool.Close()
	store := storage.WithDeadline(local.New(vfs.OS(), t.TempDir(), local.Private))
	identified := make(chan struct{})
	k := &archiveKeeper{
		spoolKeeper: spoolKeeper{Spool: spool, log: log, identified: func() { close(identified) }}, store: store, turn: make(chan struct{}, 1),
	}
	tail := archive.NewTail(spool, archive.TailOptions{Acknowledge: true}, log)
	r := receiver.New(receiver.Options{Conn: conn, Slot: "archive", Synchronous: true, Acknowledger: tail}, k, log)
	bg := &archiving{keeper: k, identified: identified, tail: tail, log: log, options: archive.UploaderOptions{Summaries: r, Tail: tail}}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- receive(ctx, r, bg, false, log) }()
	flushed := func(to uint64) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if err := server.WaitFlush(ctx, 1, to); err != nil {
			t.Errorf("flushed up to %s: %v", segment.LSN(to), err)
		}
	}
	flushed(record + 40)
	if n := r.Progress().VerifyFailures; n != 0 {
		t.Errorf("%d failures before the record was complete", n)
	}
	damaged.Store(false)
	const end = record + 3000
	server.SetEnd(end)
	flushed(end)
	a, err := archive.Open(t.Context(), store, system, archive.Keys{})
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, end-size)
	sound.ReadWAL(1, size, want)
	until := time.Now().Add(20 * time.Second)
	for err = tailIs(t.Context(), a, want); err != nil && time.Now().Before(until); err = tailIs(t.Context(), a, want) {
		time.Sleep(10 * time.Millisecond) // until what came damaged is deleted
	}
	if err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if n := r.Progress().VerifyFailures; n != 1 {
		t.Errorf("%d failures", n)
	}
}

// tailIs compares an archive's tail of segment 1 with what it should be.
func tailIs(ctx context.Context, a *archive.Archive, want []byte) error {
	chunks, err := a.Chunks(ctx, segment.Name{Timeline: 1, Number: 1})
	if err != nil {
		return err
	}
	if _, to := archive.Cover(chunks, 0); to != int64(len(want)) {
		return fmt.Errorf("the archive has %d of %d bytes", to, len(want))
	}
	for _, c := range chunks {
		plain, err := a.OpenChunk(ctx, c)
		if err != nil {
			return err
		}
		got, err := io.ReadAll(plain)
		plain.Close() // it was only read
		if err == nil && !bytes.Equal(got, want[c.From:c.To]) {
			err = fmt.Errorf("%s differ", c)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
