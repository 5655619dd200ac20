package prune_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"path"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/backup"
	"github.com/walrecv/walrecv/internal/prune"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/storagetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	system = 7411122233344455566
	size   = segment.Size(1 << 20)
	mib    = segment.LSN(size)
)

// now is when everything is pruned.
var now = time.Date(2026, 11, 22, 7, 30, 0, 0, time.UTC)

func ago(hours float64) time.Time { return now.Add(-time.Duration(hours * float64(time.Hour))) }

// world is an archive whose objects have names and ends, and no content.
type world struct {
	t     testing.TB
	store *storagetest.Mem
	clock time.Time // of the store
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, store: storagetest.NewMem(), clock: ago(1000)}
	w.store.Now = func() time.Time { return w.clock }
	w.open(w.store)
	// Something is added all the time.
	w.clock = now
	w.store.Set(key("tail", "fresh"), nil)
	w.clock = ago(1000)
	return w
}

// open opens the archive over a store, and makes it if it is not there.
func (w *world) open(store storage.Store) *archive.Archive {
	w.t.Helper()
	a, err := archive.Init(w.t.Context(), store, archive.Identity{SystemID: system, SegmentSize: size, Major: 15}, archive.Keys{})
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}

// clone is a copy that can be changed by itself.
func (w *world) clone() *world {
	w.t.Helper()
	c := &world{t: w.t, store: storagetest.NewMem()}
	c.store.Now = func() time.Time { return c.clock }
	err := w.store.List(w.t.Context(), "", func(info storage.Info) error {
		data, _ := w.store.Get(info.Key)
		c.clock = info.Modified
		c.store.Set(info.Key, data)
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

func key(parts ...string) string {
	return path.Join(append([]string{fmt.Sprint(uint64(system))}, parts...)...)
}

func name(t segment.TimelineID, n uint64) string {
	return segment.Name{Timeline: t, Number: n}.Format(size)
}

func segmentKey(t segment.TimelineID, n uint64) string {
	return key("wal", t.String(), name(t, n)+".zst")
}

// segment puts a segment with the times of its first and last commit; zero: none.
func (w *world) segment(t segment.TimelineID, n uint64, first, last time.Time) {
	start := size.Start(n)
	text := fmt.Sprintf(`{"first_lsn":%q,"last_lsn":%q`, start+0x28, start+0xFFF00)
	if !first.IsZero() {
		text += fmt.Sprintf(`,"first_commit":%q,"last_commit":%q`, first.Format(time.RFC3339Nano), last.Format(time.RFC3339Nano))
	}
	w.summarised(t, n, text+"}")
}

// summarised puts a segment with a summary.
func (w *world) summarised(t segment.TimelineID, n uint64, text string) {
	w.store.Set(segmentKey(t, n), trailer(map[string]any{
		"sha256": fmt.Sprintf("%064x", 1), "size": int64(size), "summary": json.RawMessage(text),
		"summary_crc32c": fmt.Sprintf("%08x", crc32.Checksum([]byte(text), crc32.MakeTable(crc32.Castagnoli))),
	}))
}

// segments puts segments of which nothing is known.
func (w *world) segments(t segment.TimelineID, first, last uint64) {
	for n := first; n <= last; n++ {
		w.store.Set(segmentKey(t, n), unknown)
	}
}

// unknown is what there is of a segment that nobody looked into.
var unknown = trailer(map[string]any{"sha256": fmt.Sprintf("%064x", 1), "size": int64(size)})

// damage makes a segment one that the server sent with a fault in it.
func (w *world) damage(t segment.TimelineID, n uint64) {
	start := size.Start(n)
	w.summarised(t, n, fmt.Sprintf(`{"first_lsn":%q,"last_lsn":%q,"faults":1,"first_fault":{"lsn":%q,"sound_until_lsn":%q,"reason":"wrong checksum"}}`,
		start+0x28, start+0x28, start+0x100, start+0x100))
}

// mark records damage that the server sent.
func (w *world) mark(t segment.TimelineID, n uint64) {
	mark := segment.Mark{Name: segment.Name{Timeline: t, Number: n}, LSN: size.Start(n) + 0x28, End: size.Start(n), Reason: "rot"}
	content, err := mark.Encode(size)
	if err != nil {
		w.t.Fatal(err)
	}
	w.store.Set(key("marks", mark.FileName(size)), content)
}

func trailer(members map[string]any) []byte {
	text, err := json.Marshal(members)
	if err != nil {
		panic(err)
	}
	length := binary.LittleEndian.AppendUint32(nil, uint32(len(text)+4))
	return bytes.Join([][]byte{{0x5E, 0x2A, 0x4D, 0x18}, length, text, length}, nil)
}

func (w *world) history(t segment.TimelineID, text string) {
	w.store.Set(key("wal", segment.HistoryName(t)), []byte(text))
}

func (w *world) partial(t segment.TimelineID, n uint64) {
	w.store.Set(key("wal", t.String(), name(t, n)+".00c0ffee.partial.zst"), []byte("1234"))
}

func (w *world) chunk(t segment.TimelineID, n uint64, to int64) {
	w.store.Set(key("tail", name(t, n), fmt.Sprintf("00000000-%08X.zst", to)), []byte("12"))
}

// others puts what only tells of a segment.
func (w *world) others(t segment.TimelineID, n uint64) {
	w.store.Set(key("wal", t.String(), name(t, n)+".00000028.backup"), []byte("1"))
	w.store.Set(key("index", t.String(), name(t, n)+"-"+name(t, n)+".00c0ffee.json.zst"), []byte("1"))
	w.mark(t, n)
}

// begin puts the beginning of a base backup.
func (w *world) begin(id string, t segment.TimelineID, start segment.LSN, started time.Time) backup.Start {
	w.clock = started
	s := backup.Start{
		ID: id, SystemID: system, Major: 15, Timeline: t, StartLSN: start, Label: "nightly", Started: started, From: backup.FromPrimary,
	}
	w.document(id, archive.BackupStart, struct {
		Format int `json:"format"`
		backup.Start
	}{1, s})
	w.store.Set(key("backup", id, "base.000001.tar.zst"), make([]byte, 1000))
	return s
}

// backup puts a good base backup, which took a minute.
func (w *world) backup(id string, t segment.TimelineID, start, end segment.LSN, finished time.Time) {
	s := w.begin(id, t, start, finished.Add(-time.Minute))
	b := backup.Backup{
		Start: s, EndLSN: end, EndTimeline: t, Finished: finished, ServerVersion: "15.20",
		Tablespaces: []backup.Tablespace{{Size: 1 << 20}},
		Objects:     []archive.Stored{{File: "base.000001.tar.zst", Size: 1000, PlainSize: 4000}, {File: "backup_manifest.zst", Size: 100, PlainSize: 400}},
		PlainSize:   4400, StoredSize: 1100,
	}
	w.clock = finished
	w.store.Set(key("backup", id, "backup_manifest.zst"), make([]byte, 100))
	w.document(id, archive.BackupEnd, struct {
		Format int `json:"format"`
		backup.Backup
	}{1, b})
}

func (w *world) document(id, file string, content any) {
	w.t.Helper()
	data, err := json.Marshal(content)
	if err != nil {
		w.t.Fatal(err)
	}
	w.store.Set(key("backup", id, file), data)
}

func (w *world) pruner(store storage.Store, r prune.Rule) *prune.Pruner {
	return prune.New(w.open(store), r, now)
}

func (w *world) plan(r prune.Rule) *prune.Plan {
	w.t.Helper()
	plan, err := w.pruner(w.store, r).Plan(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return plan
}

// prune plans and removes.
func (w *world) prune(r prune.Rule) *prune.Plan {
	w.t.Helper()
	p := w.pruner(w.store, r)
	plan, err := p.Plan(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	result, err := p.Remove(w.t.Context(), plan, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	if got, want := fmt.Sprint(result.Sums), fmt.Sprint(plan.Sums); got != want {
		w.t.Errorf("%s were removed, %s were planned", got, want)
	}
	return plan
}

// fate says of each base backup whether it stays.
func fate(p *prune.Plan) (text string) {
	for _, v := range p.Backups {
		text += fmt.Sprintf("%s:%v ", v.ID, v.Keep)
	}
	return text
}

func (w *world) look() archive.Look {
	w.t.Helper()
	look, err := backup.Look(w.t.Context(), w.open(w.store))
	if err != nil {
		w.t.Fatal(err)
	}
	return look
}

// ranges are the complete segments of a timeline.
func (w *world) ranges(t segment.TimelineID) string { return fmt.Sprint(w.look().Listing.Ranges(t)) }
