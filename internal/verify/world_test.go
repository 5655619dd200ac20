package verify_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/codec"
	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/internal/verify"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/storagetest"
)

const mib = segment.Size(1 << 20)

// recording is the WAL of a real server through several timelines.
type recording struct {
	id        archive.Identity
	segments  map[segment.Name][]byte
	partials  map[segment.Name][]byte // zeros behind the fork
	histories map[segment.TimelineID][]byte
	last      segment.History // of the newest timeline
}

var (
	recordingsMu sync.Mutex
	recordings   = map[int]*recording{}
)

// record has a server of a major version write WAL, once for all tests.
func record(t testing.TB, major int) *recording {
	t.Helper()
	recordingsMu.Lock()
	defer recordingsMu.Unlock()
	if recordings[major] == nil {
		recordings[major] = recordNow(t, major)
	}
	return recordings[major]
}

// message is a record of so many bytes.
func message(bytes int) string {
	return fmt.Sprintf("select pg_logical_emit_message(true, 'walrecv', repeat('0123456789abcdef', %d))", bytes/16)
}

// recordNow makes a server write all that matters: records over several segments,
// switches, a record whose end was lost, forks in the middle of a segment, two in
// one segment, and one on a border.
func recordNow(t testing.TB, major int) *recording {
	c := pgtest.New(t, pgtest.Options{Major: major, WALSegmentSize: int64(mib), Settings: map[string]string{
		"wal_keep_size": "10GB", "max_wal_size": "10GB", "checkpoint_timeout": "1h", "autovacuum": "off",
		"restore_command": "false",
	}})
	c.Start()
	work := func() {
		c.Exec("create table if not exists work(i int, t text)")
		c.Exec("insert into work select i, md5(i::text) from generate_series(1, 3000) i")
		c.Exec("create index on work(i)")
		c.Exec("delete from work where i % 3 = 0")
	}
	work()
	c.Exec(message(3_500_000))
	c.SwitchWAL()
	loseEndOfRecord(t, c)
	work()
	fork(t, c) // timeline 2, in the middle of a segment
	work()
	c.Exec(message(2_500_000))
	c.SwitchWAL()
	fork(t, c) // timeline 3, on the border
	work()
	fork(t, c) // timeline 4, in the middle
	fork(t, c) // timeline 5, in the same segment
	work()
	c.Exec("checkpoint")
	work()
	c.SwitchWAL()
	c.Stop(pgtest.Fast)
	return collect(t, c, 5)
}

// fork has the server recover to the end of its WAL, and go on with the next
// timeline there.
func fork(t testing.TB, c *pgtest.Cluster) {
	t.Helper()
	c.Stop(pgtest.Immediate)
	signal := filepath.Join(c.DataDir, "recovery.signal")
	if err := os.WriteFile(signal, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	pgtest.Give(t, signal)
	c.Start()
	c.WaitFor("select pg_is_in_recovery()", "f", startPatience)
}

// loseEndOfRecord stops the server while the end of a long record is not on disk
// yet, so that the server has to abandon the record when it starts again.
func loseEndOfRecord(t testing.TB, c *pgtest.Cluster) {
	t.Helper()
	c.Exec("create table kept()")
	c.SwitchWAL()
	name := c.Query("select pg_walfile_name(pg_logical_emit_message(true, 'walrecv', repeat('0123456789', 20000)))")
	c.Stop(pgtest.Immediate)
	file, err := os.OpenFile(c.WALFile(name), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	const from = 8 * 8192 // the record goes on there
	if _, err := file.WriteAt(make([]byte, int64(mib)-from), from); err != nil {
		t.Fatal(err)
	}
	c.Start()
}

// collect reads the WAL of a server that is down, as a receiver archives it.
func collect(t testing.TB, c *pgtest.Cluster, newest segment.TimelineID) *recording {
	t.Helper()
	read := func(name string) []byte {
		data, err := os.ReadFile(c.WALFile(name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	r := &recording{
		segments: map[segment.Name][]byte{}, partials: map[segment.Name][]byte{},
		histories: map[segment.TimelineID][]byte{},
	}
	for timeline := segment.TimelineID(2); timeline <= newest; timeline++ {
		r.histories[timeline] = read(segment.HistoryName(timeline))
	}
	var err error
	if r.last, err = segment.ParseHistory(newest, r.histories[newest]); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(c.WALFile("0000*"))
	if err != nil {
		t.Fatal(err)
	}
	var system uint64
	for _, path := range names {
		n, err := segment.ParseName(filepath.Base(path), mib)
		if err != nil {
			continue
		}
		data := read(filepath.Base(path))
		head, err := segment.ParsePageHeader(data)
		if err != nil || head.Addr != n.Start(mib) {
			continue // recycled for later
		}
		system = head.SystemID
		_, end, ok := r.last.Bounds(n.Timeline)
		switch fork := mib.Number(end); {
		case !ok || n.Number > fork || n.Timeline == newest && unused(data):
		case n.Number < fork:
			r.segments[n] = data
		case mib.Offset(end) > 0:
			clear(data[mib.Offset(end):])
			r.partials[n] = data
		}
	}
	// The server wrote a shutdown checkpoint into its last one.
	var last segment.Name
	for n := range r.segments {
		if n.Timeline == newest && n.Number > last.Number {
			last = n
		}
	}
	delete(r.segments, last)
	r.id = archive.Identity{SystemID: system, SegmentSize: mib, Major: c.Major}
	return r
}

func unused(data []byte) bool { return len(bytes.Trim(data[40:], "\x00")) == 0 }

// names are the complete segments, in the order of the log.
func (r *recording) names() []segment.Name {
	return slices.SortedFunc(maps.Keys(r.segments), segment.Name.Compare)
}

// on lists the complete segments of a timeline.
func (r *recording) on(timeline segment.TimelineID) []segment.Name {
	return slices.DeleteFunc(r.names(), func(n segment.Name) bool { return n.Timeline != timeline })
}

// world is an archive that is made by hand: what stands in it is not what this
// program would have put there, if the test wants so.
type world struct {
	t     testing.TB
	id    archive.Identity
	store *storagetest.Mem
}

func newWorld(t testing.TB, id archive.Identity) *world {
	t.Helper()
	w := &world{t: t, id: id, store: storagetest.NewMem()}
	if _, err := archive.Init(t.Context(), w.store, id, archive.Keys{}); err != nil {
		t.Fatal(err)
	}
	return w
}

// world archives a recording; keep says which segments, nil all.
func (r *recording) world(t testing.TB, keep func(segment.Name) bool) *world {
	t.Helper()
	w := newWorld(t, r.id)
	for n, data := range r.segments {
		if keep == nil || keep(n) {
			w.put(n, data)
		}
	}
	for n, data := range r.partials {
		if keep == nil || keep(n) {
			w.putPartial(n, data)
		}
	}
	for timeline, data := range r.histories {
		w.putHistory(timeline, data)
	}
	return w
}

// clone is a copy that can be changed by itself.
func (w *world) clone(t testing.TB) *world {
	c := &world{t: t, id: w.id, store: storagetest.NewMem()}
	for _, key := range w.store.Keys() {
		data, _ := w.store.Get(key)
		c.store.Set(key, data)
	}
	return c
}

func (w *world) get(key string) []byte {
	w.t.Helper()
	data, ok := w.store.Get(key)
	if !ok {
		w.t.Fatalf("no object %s", key)
	}
	return data
}

func (w *world) key(n segment.Name) string {
	return archive.Object{System: w.id.SystemID, Kind: archive.KindSegment, Timeline: n.Timeline, Segment: n.Format(w.id.SegmentSize)}.Key()
}

func (w *world) partialKey(n segment.Name, plain []byte) string {
	return archive.Object{
		System: w.id.SystemID, Kind: archive.KindPartial, Timeline: n.Timeline,
		Segment: n.Format(w.id.SegmentSize), Digest: fmt.Sprintf("%x", sha256.Sum256(plain))[:8],
	}.Key()
}

func (w *world) put(n segment.Name, plain []byte) { w.store.Set(w.key(n), pack(w.t, plain)) }

func (w *world) putPartial(n segment.Name, plain []byte) {
	w.store.Set(w.partialKey(n, plain), pack(w.t, plain))
}

func (w *world) putHistory(timeline segment.TimelineID, data []byte) {
	w.store.Set(w.historyKey(timeline), data)
}

func (w *world) historyKey(timeline segment.TimelineID) string {
	return archive.Object{System: w.id.SystemID, Kind: archive.KindHistory, Timeline: timeline}.Key()
}

func (w *world) remove(key string) {
	w.t.Helper()
	if err := w.store.Delete(w.t.Context(), key); err != nil {
		w.t.Fatal(err)
	}
}

// pack makes the object of plain bytes, as docs/format.md says, whatever they are.
func pack(t testing.TB, plain []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	frame, err := codec.NewWriter(&out, codec.Zstd, 0, int64(len(plain)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := frame.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := frame.Close(); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(`{"sha256":"%x","size":%d}`, sha256.Sum256(plain), len(plain))
	length := uint32(len(text) + 4)
	end := binary.LittleEndian.AppendUint32(nil, 0x184D2A5E)
	end = binary.LittleEndian.AppendUint32(end, length)
	end = binary.LittleEndian.AppendUint32(append(end, text...), length)
	return append(out.Bytes(), end...)
}

// unpack reads the object of a segment without looking at its trailer.
func unpack(object []byte) ([]byte, error) {
	r, err := codec.NewReader(bytes.NewReader(object), codec.Zstd, int64(mib))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// verify verifies the archive.
func (w *world) verify(o verify.Options) *verify.Report {
	w.t.Helper()
	return w.verifyOn(w.store, o)
}

func (w *world) verifyOn(store storage.Store, o verify.Options) *verify.Report {
	w.t.Helper()
	a, err := archive.Open(w.t.Context(), store, w.id.SystemID, archive.Keys{})
	if err != nil {
		w.t.Fatal(err)
	}
	if o.Pause == nil {
		o.Pause = noPause
	}
	v := verify.New(a, store, o)
	r, err := v.Run(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	if done, total := v.Progress(); done != total {
		w.t.Errorf("%d of %d bytes were read in the end", done, total)
	}
	return r
}

func noPause(context.Context) error { return nil }

// spelled writes findings in short, for comparison.
func spelled(list []verify.Finding) []string {
	var out []string
	for _, f := range list {
		out = append(out, fmt.Sprintf("%s %s %s tli %d: %s", f.Kind, f.Object, f.LSN, uint32(f.Timeline), f.Message))
	}
	return out
}

// wantSound fails the test if anything is wrong.
func wantSound(t testing.TB, r *verify.Report) {
	t.Helper()
	for _, f := range spelled(slices.Concat(r.Findings, r.Unread, r.Notices)) {
		t.Errorf("in a sound archive: %s", f)
	}
}

// wantFound fails the test if a finding of a kind about an object is missing.
func wantFound(t testing.TB, r *verify.Report, kind verify.Kind, object string) {
	t.Helper()
	if !slices.ContainsFunc(r.Findings, func(f verify.Finding) bool { return f.Kind == kind && f.Object == object }) {
		t.Errorf("no finding of kind %s about %s, but: %q", kind, object, spelled(r.Findings))
	}
}

func eachMajor(t *testing.T, test func(t *testing.T, r *recording)) {
	for _, major := range pgtest.Versions(t) {
		t.Run("pg"+strconv.Itoa(major), func(t *testing.T) { test(t, record(t, major)) })
	}
}

// fewMajors is eachMajor for what takes many verifications: in the short form of
// the tests with the newest version alone.
func fewMajors(t *testing.T, test func(t *testing.T, r *recording)) {
	if pgtest.Long() {
		eachMajor(t, test)
		return
	}
	majors := pgtest.Versions(t)
	test(t, record(t, majors[len(majors)-1]))
}
