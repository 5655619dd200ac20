package restore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/codec"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/local"
	"github.com/walrecv/walrecv/storage/storagetest"
)

const (
	testSystem  = 7_710_755_342_863_415_827
	otherSystem = 7_710_755_342_863_415_828
	testSize    = segment.MinSize
	testPage    = 8 << 10
	full        = int64(testSize)
)

// Files of a data directory.
const (
	controlFile    = "global/pg_control"
	standbySignal  = "standby.signal"
	recoverySignal = "recovery.signal"
	promoteSignal  = "promote"
	pidFile        = "postmaster.pid"
)

// modes are the signal files of the two ways to recover.
var modes = []string{recoverySignal, standbySignal}

// world is a data directory, a spool and an archive, all in memory.
type world struct {
	t     *testing.T
	fs    *vfs.Mem
	store *storagetest.Mem
	arch  *archive.Archive
	o     Options
	log   *bytes.Buffer

	// Hooks before the operations of the archive and of the spool.
	archiveHook func(storagetest.Request) storagetest.Fault
	spoolHook   func(vfs.Op) error
	localHook   func(vfs.Op) error

	asked func(file string, code int) // after every call
}

// newWorld has a data directory in the given mode and an empty archive of its
// cluster. It has to be made in the bubble that it is used in.
func newWorld(t *testing.T, signal string) *world {
	w := &world{t: t, fs: vfs.NewMem(), store: storagetest.NewMem(), log: &bytes.Buffer{}}
	for _, dir := range []string{"/data", "/data/pg_wal", "/data/global", "/spool", "/scratch"} {
		w.must(w.fs.Mkdir(dir, 0o700))
	}
	w.write("/data/"+controlFile, binary.LittleEndian.AppendUint64(nil, testSystem))
	w.write("/data/"+signal, nil)
	w.write("/data/"+pidFile, []byte("4711\n/data\n1790000000\n5432\n"))
	w.arch = w.archiveOf(testSystem)
	w.o = Options{
		FS:      vfs.NewFault(w.fs, w.onLocal),
		Archive: Place{Location: "/arch", Open: w.openArchive, Missing: storage.ErrNoRoot},
		Path:    "pg_wal/RECOVERYXLOG",
		WorkDir: "/data",
		Logger:  slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	return w
}

func (w *world) onLocal(op vfs.Op) error {
	if w.localHook != nil {
		return w.localHook(op)
	}
	return nil
}

func (w *world) openArchive(context.Context) (storage.Store, error) {
	return storagetest.NewFaulty(w.store, func(r storagetest.Request) storagetest.Fault {
		if w.archiveHook != nil {
			return w.archiveHook(r)
		}
		return storagetest.Fault{}
	}), nil
}

// flat gives the directory as an archive that is a pg_receivewal directory.
func (w *world) flat(dir string) Place {
	return Place{Location: dir, Missing: storage.ErrNoRoot, Open: func(context.Context) (storage.Store, error) {
		hooked := vfs.NewFault(w.fs, func(op vfs.Op) error {
			if w.spoolHook != nil {
				return w.spoolHook(op)
			}
			return nil
		})
		return local.New(hooked, dir, local.Private), nil
	}}
}

// withSpool adds the spool of a receiver of the same cluster.
func (w *world) withSpool() *world {
	w.write("/spool/walrecv.json", fmt.Appendf(nil,
		`{"format":1,"system_identifier":"%d","wal_segment_size":%d,"postgresql_major":15}`, uint64(testSystem), int64(testSize)))
	w.o.Spool = w.flat("/spool")
	return w
}

func (w *world) archiveOf(system uint64) *archive.Archive {
	a, err := archive.Init(context.Background(), w.store, archive.Identity{SystemID: system, SegmentSize: testSize, Major: 15}, archive.Keys{})
	w.must(err)
	return a
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// write makes or replaces a file.
func (w *world) write(name string, data []byte) {
	w.t.Helper()
	if err := w.fs.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.t.Fatal(err)
	}
	f, err := w.fs.Create(name, 0o600)
	w.must(err)
	defer f.Close()
	_, err = f.WriteAt(data, 0)
	w.must(err)
}

func (w *world) remove(name string) {
	w.t.Helper()
	w.must(w.fs.Remove(name))
}

func (w *world) exists(name string) bool {
	w.t.Helper()
	there, err := vfs.Exists(w.fs, name)
	w.must(err)
	return there
}

func (w *world) read(name string) []byte {
	w.t.Helper()
	data, err := vfs.ReadFile(w.fs, name)
	w.must(err)
	return data
}

// put archives a sealed segment; putPartial an unfinished one, putHistory a
// history file.
func (w *world) put(n segment.Name, data []byte) {
	w.t.Helper()
	w.must(w.arch.PutSegment(context.Background(), archive.NewScratch(w.fs, "/scratch"), n, opener(data)))
}

func (w *world) putPartial(n segment.Name, data []byte) {
	w.t.Helper()
	w.must(w.arch.PutPartial(context.Background(), archive.NewScratch(w.fs, "/scratch"), n, opener(data)))
}

func (w *world) putHistory(t segment.TimelineID, text string) {
	w.t.Helper()
	w.must(w.arch.PutHistory(context.Background(), t, []byte(text)))
}

func opener(data []byte) archive.Opener {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
}

// key is the key of a sealed segment in the archive.
func (w *world) key(n segment.Name) string {
	return archive.Object{System: testSystem, Kind: archive.KindSegment, Timeline: n.Timeline, Segment: name(n)}.Key()
}

// historyKey is the key of timeline 2's history file.
var historyKey = archive.Object{System: testSystem, Kind: archive.KindHistory, Timeline: 2}.Key()

// ask runs one call for a file.
func (w *world) ask(file string) Answer {
	w.t.Helper()
	o := w.o
	o.File = file
	if strings.HasSuffix(file, ".history") {
		o.Path = strings.Replace(o.Path, "RECOVERYXLOG", "RECOVERYHISTORY", 1)
	}
	target := o.target()
	if err := w.fs.Remove(target); err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.t.Fatal(err)
	}
	a := Run(w.t.Context(), o)
	w.checkAnswer(a, target)
	if w.asked != nil {
		w.asked(file, a.Code)
	}
	return a
}

// checkAnswer checks what holds for every answer.
func (w *world) checkAnswer(a Answer, target string) {
	w.t.Helper()
	if there := w.exists(target); there != (a.Code == CodeDelivered) {
		w.t.Errorf("code %d, but the target's existence is %v", a.Code, there)
	}
	if quiet := a.Code == CodeDelivered || a.Code == CodeAbsent; quiet != (a.Message == "") {
		w.t.Errorf("code %d with message %q", a.Code, a.Message)
	}
	if strings.ContainsAny(a.Message, "\r\n") {
		w.t.Errorf("message of more than one line: %q", a.Message)
	}
	entries, err := w.fs.ReadDir(path.Dir(target))
	w.must(err)
	for _, e := range entries {
		if strings.HasSuffix(e.Name, ".tmp") {
			w.t.Errorf("%s was left behind", e.Name)
		}
	}
}

// want asks for a file and checks the answer's code.
func (w *world) want(file string, code int) Answer {
	w.t.Helper()
	a := w.ask(file)
	if a.Code != code {
		w.t.Fatalf("%s: answer %d %q, want %d\nlog: %s", file, a.Code, a.Message, code, w.log)
	}
	return a
}

// wantBytes asks for a segment and checks what was delivered.
func (w *world) wantBytes(n segment.Name, data []byte) {
	w.t.Helper()
	w.want(name(n), CodeDelivered)
	got := w.read("/data/pg_wal/RECOVERYXLOG")
	if at := firstDifference(got, data); at != int64(len(data)) || len(got) != len(data) {
		w.t.Fatalf("%s: delivered bytes differ at %d; %d bytes, want %d", name(n), at, len(got), len(data))
	}
}

func seg(t segment.TimelineID, number uint64) segment.Name {
	return segment.Name{Timeline: t, Number: number}
}

func name(n segment.Name) string { return n.Format(testSize) }

// wal makes a segment with sound pages and random bytes in them, up to an offset.
// The same arguments give the same bytes, and a higher offset more of them.
func wal(n segment.Name, upto int64) []byte { return walOf(testSystem, n, n.Timeline, upto) }

// walOf has pages of another cluster or of an ancestor's timeline.
func walOf(system uint64, n segment.Name, pages segment.TimelineID, upto int64) []byte {
	type key struct {
		system uint64
		number uint64
		pages  segment.TimelineID
	}
	k := key{system, n.Number, pages}
	made, ok := segments.Load(k)
	if !ok {
		made, _ = segments.LoadOrStore(k, fullSegment(system, n, pages))
	}
	data := slices.Clone(made.([]byte))
	clear(data[upto:])
	return data
}

// segments are those that were made already: they take longer than the tests.
var segments sync.Map

func fullSegment(system uint64, n segment.Name, pages segment.TimelineID) []byte {
	random := rand.NewChaCha8([32]byte{byte(system), byte(n.Number), byte(pages)})
	data := make([]byte, testSize)
	_, _ = random.Read(data) // never fails
	for i := range data {
		data[i] |= 1 // the end of the WAL is where the zeros begin
	}
	for at := int64(0); at < full; at += testPage {
		copy(data[at:], header(system, n.Start(testSize)+segment.LSN(at), pages, at == 0))
	}
	return data
}

// header is a page header without a continued record.
func header(system uint64, at segment.LSN, t segment.TimelineID, long bool) []byte {
	le := binary.LittleEndian
	info := uint16(0)
	if long {
		info = 2
	}
	h := le.AppendUint16(nil, 0xD110)
	h = le.AppendUint16(h, info)
	h = le.AppendUint32(h, uint32(t))
	h = le.AppendUint64(h, uint64(at))
	h = le.AppendUint64(h, 0)
	if long {
		h = le.AppendUint64(h, system)
		h = le.AppendUint32(h, uint32(testSize))
		h = le.AppendUint32(h, testPage)
	}
	return h
}

// forked is the history of a timeline whose parents end in the given segments,
// at an offset: pairs of timeline and position.
func history(entries ...any) string {
	text := ""
	for i := 0; i < len(entries); i += 2 {
		if i > 0 {
			text += "\n"
		}
		text += fmt.Sprintf("%d\t%s\tno recovery target specified\n", entries[i], entries[i+1])
	}
	return text
}

// at is a position in segment number.
func at(number uint64, offset int64) segment.LSN {
	return testSize.Start(number) + segment.LSN(offset)
}

// packed compresses data.
func packed(t *testing.T, m codec.Method, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	c, err := codec.NewWriter(&out, m, 0, int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// bubble runs a test whose waiting takes no time.
func bubble(t *testing.T, name string, test func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
}

// bothModes runs a test in a recovery and on a standby.
func bothModes(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	for _, signal := range modes {
		bubble(t, signal, func(t *testing.T) { test(t, newWorld(t, signal)) })
	}
}

// inMode runs one test in a bubble.
func inMode(t *testing.T, signal string, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newWorld(t, signal)) })
}

func (w *world) standby() bool { return w.exists("/data/" + standbySignal) }

// pick is the code that a mode gives.
func (w *world) pick(recovery, standby int) int {
	if w.standby() {
		return standby
	}
	return recovery
}

// elapsed is how long test takes by the bubble's clock.
func elapsed(test func()) time.Duration {
	begin := time.Now()
	test()
	return time.Since(begin)
}

var errDead = errors.New("connection refused")

// dead makes every request of the archive fail at once.
func dead(storagetest.Request) storagetest.Fault { return storagetest.Fault{Before: errDead} }

// hanging makes every request of the archive hang.
func hanging(storagetest.Request) storagetest.Fault { return storagetest.Fault{Hang: true} }
