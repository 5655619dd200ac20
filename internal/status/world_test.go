package status_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"path"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/codec"
	"github.com/walrecv/walrecv/internal/status"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/storagetest"
)

const (
	worldSystem = 7411122233344455566
	worldSize   = segment.Size(1 << 20)
)

// world is an archive of which the objects are written by the letter of
// docs/format.md. Its segments have an end and no content: nobody may read more.
type world struct {
	t     testing.TB
	store *storagetest.Mem
	keys  archive.Keys // of who looks
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, store: storagetest.NewMem()}
	w.set("walrecv.json", []byte(worldIdentity))
	return w
}

const worldIdentity = `{"format":1,"system_identifier":"7411122233344455566","wal_segment_size":1048576,"postgresql_major":15}` + "\n"

// set puts an object below the cluster's directory.
func (w *world) set(key string, content []byte) { w.store.Set(worldKey(key), content) }

func (w *world) remove(key string) {
	w.t.Helper()
	if err := w.store.Delete(w.t.Context(), worldKey(key)); err != nil {
		w.t.Fatal(err)
	}
}

func worldKey(key string) string { return path.Join(fmt.Sprint(worldSystem), key) }

// segment puts a segment with the JSON of a summary; empty: none.
func (w *world) segment(timeline segment.TimelineID, number uint64, summary string) {
	w.set(segmentKey(timeline, number), segmentEnd(summary))
}

func (w *world) segments(timeline segment.TimelineID, first, last uint64) {
	for n := first; n <= last; n++ {
		w.segment(timeline, n, soundSummary(n))
	}
}

func segmentName(timeline segment.TimelineID, number uint64) string {
	return segment.Name{Timeline: timeline, Number: number}.Format(worldSize)
}

func segmentKey(timeline segment.TimelineID, number uint64) string {
	return path.Join("wal", timeline.String(), segmentName(timeline, number)+".zst")
}

// worldTime is when segment n is written from its first to its last byte.
func worldTime(n uint64) time.Time {
	return time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC).Add(time.Duration(n) * time.Minute)
}

// soundSummary is that of a segment with two commits.
func soundSummary(n uint64, members ...string) string {
	start := worldSize.Start(n)
	text := fmt.Sprintf(`{"first_lsn":%q,"last_lsn":%q,"first_commit":%q,"last_commit":%q`,
		start+0x28, start+0xFFF00, worldTime(n).Format(time.RFC3339Nano), worldTime(n).Add(59*time.Second).Format(time.RFC3339Nano))
	for _, m := range members {
		text += "," + m
	}
	return text + "}"
}

// trailer is the skippable frame that ends an object.
func trailer(members map[string]any) []byte {
	text, err := json.Marshal(members)
	if err != nil {
		panic(err)
	}
	length := binary.LittleEndian.AppendUint32(nil, uint32(len(text)+4))
	return bytes.Join([][]byte{{0x5E, 0x2A, 0x4D, 0x18}, length, text, length}, nil)
}

func segmentEnd(summary string) []byte {
	members := map[string]any{"sha256": fmt.Sprintf("%064x", 1), "size": int64(worldSize)}
	if summary != "" {
		crc := crc32.Checksum([]byte(summary), crc32.MakeTable(crc32.Castagnoli))
		members["summary"], members["summary_crc32c"] = json.RawMessage(summary), fmt.Sprintf("%08x", crc)
	}
	return trailer(members)
}

// indexObject is the key and the content of an index object about a run of sound
// segments of one block.
func indexObject(t testing.TB, timeline segment.TimelineID, first, last uint64) (key string, content []byte) {
	t.Helper()
	type entry struct {
		Name    string          `json:"name"`
		SHA256  string          `json:"sha256"`
		Summary json.RawMessage `json:"summary"`
	}
	file := struct {
		Format   int     `json:"format"`
		Segments []entry `json:"segments"`
	}{Format: 1}
	for n := first; n <= last; n++ {
		digest := sha256.Sum256(binary.LittleEndian.AppendUint64(nil, n))
		file.Segments = append(file.Segments, entry{segmentName(timeline, n), fmt.Sprintf("%x", digest), json.RawMessage(soundSummary(n))})
	}
	text, err := json.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	var object bytes.Buffer
	frame, err := codec.NewWriter(&object, codec.Zstd, 0, int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := frame.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := frame.Close(); err != nil {
		t.Fatal(err)
	}
	digest := fmt.Sprintf("%x", sha256.Sum256(text))
	object.Write(trailer(map[string]any{"sha256": digest, "size": len(text)}))
	base := fmt.Sprintf("%s-%s.%s.json.zst", segmentName(timeline, first), segmentName(timeline, last), digest[:8])
	return path.Join("index", timeline.String(), base), object.Bytes()
}

func (w *world) history(timeline segment.TimelineID, text string) {
	w.set("wal/"+segment.HistoryName(timeline), []byte(text))
}

func (w *world) gap(g segment.Gap) {
	w.t.Helper()
	content, err := g.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	w.set("gaps/"+g.FileName(), content)
}

func (w *world) mark(m segment.Mark) {
	w.t.Helper()
	content, err := m.Encode(worldSize)
	if err != nil {
		w.t.Fatal(err)
	}
	w.set("marks/"+m.FileName(worldSize), content)
}

func (w *world) report() *status.Report {
	w.t.Helper()
	return gather(w.t, w.store, w.keys)
}

// worldNow is when the archive is looked at.
var worldNow = worldTime(1000)

// noPause is between two looks at an archive that does not change.
func noPause(context.Context) error { return nil }

func gather(t testing.TB, store storage.Store, keys archive.Keys) *status.Report {
	t.Helper()
	a, err := archive.Open(t.Context(), store, worldSystem, keys)
	if err != nil {
		t.Fatal(err)
	}
	r, err := status.Gather(t.Context(), a, "/srv/wal", worldNow, noPause)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
