package push

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"log/slog"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/fakepg"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/storagetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testSystem = 7400000000000000001
	mib        = 1 << 20
	testSize   = segment.Size(mib)
)

// server is a server with a data directory on a disk in memory.
type server struct {
	t    *testing.T
	pg   *fakepg.Server
	fsys vfs.FS
	log  bytes.Buffer
	o    Options
}

// newServer makes a server that archives into store.
func newServer(t *testing.T, store storage.Store, c fakepg.Config) *server {
	t.Helper()
	c.SystemID = testSystem
	s := &server{t: t, pg: fakepg.New(c), fsys: vfs.NewMem()}
	for _, dir := range []string{"data/global", "data/pg_wal", "tmp"} {
		s.must(vfs.MkdirAll(s.fsys, "/", dir, 0o700))
	}
	s.write("/data/global/pg_control", binary.LittleEndian.AppendUint64(nil, testSystem))
	s.write("/data/PG_VERSION", []byte("15\n"))
	s.o = Options{
		FS: s.fsys, WorkDir: "/data", Location: "/archive", Scratch: "/tmp",
		Open:   func(context.Context) (storage.Store, error) { return storage.WithDeadline(store), nil },
		Logger: slog.New(slog.NewTextHandler(&s.log, nil)),
	}
	return s
}

func (s *server) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) write(name string, data []byte) {
	s.t.Helper()
	s.must(vfs.WriteFile(s.fsys, name, 0o600, data))
}

// wal is a segment of the server: short, with a switch behind a few pages.
func (s *server) wal(t segment.TimelineID, number uint64) []byte {
	data := make([]byte, mib)
	s.pg.ReadWAL(uint32(t), number*mib, data[:4*8192])
	switchAt(data, at(3, 100))
	return data
}

// whole is a segment of the server's first timeline that is full of records.
func (s *server) whole(number uint64) []byte {
	if wholes[number] == nil {
		data := make([]byte, mib)
		s.pg.ReadWAL(1, number*mib, data)
		wholes[number] = data
	}
	return slices.Clone(wholes[number])
}

// wholes are those that were made: it takes a while, with the race detector.
var wholes = map[uint64][]byte{}

// has writes a segment into pg_wal and returns its name.
func (s *server) has(t segment.TimelineID, number uint64) string {
	s.write("/data/pg_wal/"+base(t, number), s.wal(t, number))
	return base(t, number)
}

// hasWhole writes segment 5, one that is full of records.
func (s *server) hasWhole() string {
	s.write("/data/pg_wal/"+base(1, 5), s.whole(5))
	return base(1, 5)
}

// hasHistory writes a history file into pg_wal and returns its name.
func (s *server) hasHistory(t segment.TimelineID) string {
	s.t.Helper()
	name, content, ok := s.pg.HistoryFile(uint32(t))
	if !ok {
		s.t.Fatalf("no %s", name)
	}
	s.write("/data/pg_wal/"+name, []byte(content))
	return name
}

// push runs the command for a file of pg_wal.
func (s *server) push(file string) error {
	s.t.Helper()
	o := s.o
	o.Path = "pg_wal/" + file
	err := Run(s.t.Context(), o)
	if entries, dirErr := s.fsys.ReadDir("/tmp"); dirErr != nil || len(entries) > 0 {
		s.t.Errorf("left in the scratch directory: %v, %v", entries, dirErr)
	}
	return err
}

// pushes expects the command to succeed without a word.
func (s *server) pushes(files ...string) {
	s.t.Helper()
	for _, file := range files {
		if err := s.push(file); err != nil || s.log.Len() > 0 {
			s.t.Fatalf("push %s: %v\n%s", file, err, s.log.String())
		}
	}
}

// refused expects an error that wraps want, and nothing new in the archive.
func (s *server) refused(mem *storagetest.Mem, file string, want error) {
	s.t.Helper()
	before := mem.Keys()
	err := s.push(file)
	if !errors.Is(err, want) {
		s.t.Errorf("push %s: %v; want %v", file, err, want)
	}
	if after := mem.Keys(); !slices.Equal(before, after) {
		s.t.Errorf("push %s: the archive had %v and has %v", file, before, after)
	}
}

func base(t segment.TimelineID, number uint64) string {
	return segment.Name{Timeline: t, Number: number}.Format(testSize)
}

// open opens the archive that was made.
func open(t *testing.T, store storage.Store) *archive.Archive {
	t.Helper()
	a, err := archive.Open(t.Context(), store, testSystem, archive.Keys{})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// archived reads a complete segment of the archive; nil without one.
func archived(t *testing.T, store storage.Store, tl segment.TimelineID, number uint64) []byte {
	t.Helper()
	r, err := open(t, store).OpenSegment(t.Context(), segment.Name{Timeline: tl, Number: number})
	if err != nil {
		return nil
	}
	return readAll(t, r)
}

func readAll(t *testing.T, r io.ReadCloser) []byte {
	t.Helper()
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// partials reads the partials of a segment.
func partials(t *testing.T, store storage.Store, tl segment.TimelineID, number uint64) [][]byte {
	t.Helper()
	a := open(t, store)
	list, err := a.Partials(t.Context(), segment.Name{Timeline: tl, Number: number})
	if err != nil {
		t.Fatal(err)
	}
	var all [][]byte
	for _, p := range list {
		r, err := a.OpenPartial(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, readAll(t, r))
	}
	return all
}

// keysBelow are the keys of the cluster that begin with a prefix, without it.
func keysBelow(mem *storagetest.Mem, prefix string) []string {
	var keys []string
	for _, key := range mem.Keys() {
		if rest, ok := strings.CutPrefix(key, "7400000000000000001/"+prefix); ok {
			keys = append(keys, rest)
		}
	}
	return keys
}

// switchAt makes the log of a segment end with a switch instead of the record at an
// offset, which is one of fakepg's, 64 bytes long, on a page that it does not begin.
func switchAt(data []byte, offset int) {
	const header = 24
	clear(data[offset+header:])
	record := data[offset:][:header]
	binary.LittleEndian.PutUint32(record, header)
	record[16], record[17] = 0x40, 0
	binary.LittleEndian.PutUint32(record[20:], crc32.Checksum(record[:20], crc32.MakeTable(crc32.Castagnoli)))
}

// alter makes the record of fakepg at an offset another sound one.
func alter(data []byte, offset int) {
	record := data[offset:][:64]
	record[40]++
	table := crc32.MakeTable(crc32.Castagnoli)
	binary.LittleEndian.PutUint32(record[20:], crc32.Update(crc32.Checksum(record[24:], table), table, record[:20]))
}

// at is where in a segment a record of fakepg begins: on a page, the n-th.
func at(page, n int) int {
	if page == 0 {
		return 40 + 64*n
	}
	return page*8192 + 24 + 64*n
}

// files are the names of a directory.
func (s *server) files(dir string) []string {
	s.t.Helper()
	entries, err := s.fsys.ReadDir(dir)
	s.must(err)
	var names []string
	for _, e := range entries {
		names = append(names, path.Join(dir, e.Name))
	}
	return names
}

// from makes it a server on the disk of another one.
func (s *server) from(other *server) *server {
	s.fsys, s.o.FS = other.fsys, other.fsys
	return s
}

// pushFrom runs the command elsewhere, with an absolute path.
func (s *server) pushFrom(workDir, file string) error {
	o := s.o
	o.WorkDir, o.Path = workDir, filepath.Join("/data/pg_wal", file)
	return Run(s.t.Context(), o)
}
