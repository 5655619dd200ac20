package recovery_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/backup"
	"github.com/walrecv/walrecv/internal/codec"
	"github.com/walrecv/walrecv/internal/recovery"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage/storagetest"
)

// world is an archive in memory.
type world struct {
	t       testing.TB
	store   *storagetest.Mem
	archive *archive.Archive
	scratch *archive.Scratch
	backups []backup.Entry
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, store: storagetest.NewMem(), scratch: archive.NewScratch(vfs.NewMem(), "/")}
	var err error
	id := archive.Identity{SystemID: testSystem, SegmentSize: mib, Major: 15}
	if w.archive, err = archive.Init(t.Context(), w.store, id, archive.Keys{}); err != nil {
		t.Fatal(err)
	}
	return w
}

func opener(b []byte) archive.Opener {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
}

// segments archives complete segments, first to last, both included.
func (w *world) segments(log *wal, first, last uint64) {
	w.t.Helper()
	for n := first; n <= last; n++ {
		if err := w.archive.PutSegment(w.t.Context(), w.scratch, segment.Name{Timeline: log.timeline, Number: n}, opener(log.segment(n))); err != nil {
			w.t.Fatal(err)
		}
	}
}

// partial archives the last segment of a timeline, with zeros behind it.
func (w *world) partial(log *wal) {
	w.t.Helper()
	n := segment.Name{Timeline: log.timeline, Number: mib.Number(log.pos())}
	if err := w.archive.PutPartial(w.t.Context(), w.scratch, n, opener(log.segment(n.Number))); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) history(log *wal) {
	w.t.Helper()
	if err := w.archive.PutHistory(w.t.Context(), log.timeline, []byte(log.history)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) key(parts ...string) string {
	return path.Join(append([]string{fmt.Sprint(testSystem)}, parts...)...)
}

func segmentKey(n segment.Name) string {
	return path.Join("wal", n.Timeline.String(), n.Format(mib)+".zst")
}

// lose removes a segment.
func (w *world) lose(n segment.Name) {
	w.t.Helper()
	if err := w.store.Delete(w.t.Context(), w.key(segmentKey(n))); err != nil {
		w.t.Fatal(err)
	}
}

// forget takes the summary out of a segment's object, as if it had been archived by
// somebody who did not look into it.
func (w *world) forget(log *wal, number uint64) {
	n := segment.Name{Timeline: log.timeline, Number: number}
	w.store.Set(w.key(segmentKey(n)), object(w.t, log.segment(number)))
}

// chunk archives the bytes of a log from one position to another, of one segment.
func (w *world) chunk(log *wal, from, to segment.LSN) {
	w.t.Helper()
	n := segment.Name{Timeline: log.timeline, Number: mib.Number(from)}
	base := fmt.Sprintf("%08X-%08X.zst", mib.Offset(from), int64(to-n.Start(mib)))
	w.store.Set(w.key("tail", n.Format(mib), base), object(w.t, log.data[from-log.start:to-log.start]))
}

// tail archives the WAL from the beginning of a segment to a position in pieces.
func (w *world) tail(log *wal, to segment.LSN) {
	w.t.Helper()
	for from := mib.Floor(to - 1); from < to; from += 300_000 {
		w.chunk(log, max(from, mib.Floor(to-1)+64)-64, min(from+300_000, to))
	}
}

// object is an object without a summary.
func object(t testing.TB, plain []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	frame, err := codec.NewWriter(&b, codec.Zstd, 0, int64(len(plain)))
	if err == nil {
		_, err = frame.Write(plain)
	}
	if err == nil {
		err = frame.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]any{"sha256": fmt.Sprintf("%x", sha256.Sum256(plain)), "size": len(plain)})
	if err != nil {
		t.Fatal(err)
	}
	length := binary.LittleEndian.AppendUint32(nil, uint32(len(text)+4))
	b.Write(bytes.Join([][]byte{{0x5E, 0x2A, 0x4D, 0x18}, length, text, length}, nil))
	return b.Bytes()
}

// backup adds a good base backup from one position to another of a log. It is not in
// the store, where nobody here looks for it.
func (w *world) backup(id string, log *wal, start, end segment.LSN, finished time.Time) {
	b := &backup.Backup{
		Start:  backup.Start{ID: id, Timeline: log.timeline, StartLSN: start, Started: finished},
		EndLSN: end, EndTimeline: log.timeline, Finished: finished,
	}
	w.backups = append(w.backups, backup.Entry{Start: b.Start, Backup: b, State: backup.Good})
}

func noPause(context.Context) error { return nil }

func (w *world) survey() *recovery.Survey {
	w.t.Helper()
	s, err := recovery.Look(w.t.Context(), w.archive, noPause)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// clock is the time of a test that is some seconds after its beginning.
func clock(seconds float64) time.Time {
	return time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC).Add(time.Duration(seconds * float64(time.Second)))
}
