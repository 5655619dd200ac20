package integration

import (
	"bytes"
	"context"
	"log/slog"
	"path"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/internal/vfs"
	wr "github.com/walrecv/walrecv/receiver"
	"github.com/walrecv/walrecv/segment"
)

// memoryKeeper keeps WAL in a spool on a disk in memory.
type memoryKeeper struct{ *segment.Spool }

func (k memoryKeeper) Identify(_ context.Context, c segment.Cluster) error {
	if err := k.Spool.Identify(c); err != nil {
		return err
	}
	return k.Prepare()
}

func (k memoryKeeper) Held(context.Context) (segment.Held, error) { return k.Spool.Held() }

func (k memoryKeeper) Open(at segment.Position) (wr.Sink, error) { return k.NewWriter(at) }

// textLog is a log that a test reads meanwhile.
type textLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *textLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *textLog) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), text)
}

// fullMemory is a full disk for a receiver in this process: it needs no mount.
func fullMemory(t *testing.T, c *pgtest.Cluster) {
	disk := vfs.NewMem()
	if err := disk.Mkdir("/spool", 0o700); err != nil {
		t.Fatal(err)
	}
	disk.SetCapacity(3*fileSize + fileSize/2)
	var log textLog
	logger := slog.New(slog.NewTextHandler(&log, nil))
	spool, err := segment.OpenSpool(disk, "/spool", logger, segment.SpoolOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer spool.Close()
	o := wr.Options{Conn: connInfo(t, c.ReplConn(), nil), Slot: "walrecv", EnsureSlot: true, FlushInterval: 50 * time.Millisecond}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- wr.New(o, memoryKeeper{spool}, logger).Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run = %v", err)
		}
		dropSlot(c, "walrecv")
	}()
	pgtest.Eventually(t, patience, func() bool { return log.has("streaming") }, "it does not stream")
	begin := c.Query("select restart_lsn from pg_replication_slots")
	emit(c, 5500)
	pgtest.Eventually(t, patience, func() bool { return log.has(syscall.ENOSPC.Error()) }, "the disk does not get full")
	const room = 3 * fileSize
	if c.Query("select pg_wal_lsn_diff(restart_lsn, '"+begin+"') > "+strconv.Itoa(room)+" from pg_replication_slots") == "t" {
		t.Errorf("more is acknowledged than the disk has room for")
	}
	disk.SetCapacity(0)
	(&receiver{t: t, cluster: c}).flushed()
	l, err := spool.Scan()
	if err != nil || len(l.Sealed) < 5 {
		t.Fatalf("sealed: %v, %v", l.Sealed, err)
	}
	for _, f := range l.Sealed {
		ours, err := vfs.ReadFile(disk, path.Join("/spool", f.Base))
		if err != nil || !bytes.Equal(ours, readFile(t, c.WALFile(f.Base))) {
			t.Errorf("%s differs from the server's, %v", f.Base, err)
		}
	}
}
