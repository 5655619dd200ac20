package integration

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage/local"
)

// wal is an archive that a test fills by hand from the servers' own pg_wal, so
// that it holds exactly what the test is about.
type wal struct {
	t    testing.TB
	c    *pgtest.Cluster
	dir  string // of the archive
	work string // scratch space
	bin  string
	a    *archive.Archive
}

// newWAL makes an empty archive of a running cluster.
func newWAL(t testing.TB, c *pgtest.Cluster) *wal {
	t.Helper()
	w := &wal{t: t, c: c, dir: newArchive(t), work: pgtest.TempDir(t), bin: pgtest.Build(t)}
	id, err := strconv.ParseUint(c.SystemID(), 10, 64)
	w.must(err)
	w.a, err = archive.Init(t.Context(), local.New(vfs.OS(), w.dir, local.Private),
		archive.Identity{SystemID: id, SegmentSize: segment.Size(c.SegmentSize), Major: c.Major}, archive.Keys{})
	w.must(err)
	pgtest.Give(t, w.dir)
	return w
}

func (w *wal) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// put archives segments from a server's pg_wal.
func (w *wal) put(from *pgtest.Cluster, names ...string) {
	w.t.Helper()
	for _, name := range names {
		w.must(w.a.PutSegment(w.t.Context(), archive.NewScratch(vfs.OS(), w.work), w.name(name), fileOpener(from.WALFile(name))))
	}
	pgtest.Give(w.t, w.dir)
}

// putPartial archives the segment that a server has begun.
func (w *wal) putPartial(from *pgtest.Cluster, name string) {
	w.t.Helper()
	w.must(w.a.PutPartial(w.t.Context(), archive.NewScratch(vfs.OS(), w.work), w.name(name), fileOpener(from.WALFile(name))))
	pgtest.Give(w.t, w.dir)
}

// putHistory archives a history file from a server's pg_wal.
func (w *wal) putHistory(from *pgtest.Cluster, timeline segment.TimelineID) {
	w.t.Helper()
	data, err := os.ReadFile(from.WALFile(segment.HistoryName(timeline)))
	w.must(err)
	w.must(w.a.PutHistory(w.t.Context(), timeline, data))
	pgtest.Give(w.t, w.dir)
}

func fileOpener(path string) archive.Opener {
	return func() (io.ReadCloser, error) { return os.Open(path) }
}

func (w *wal) name(text string) segment.Name {
	w.t.Helper()
	n, err := segment.ParseName(text, segment.Size(w.c.SegmentSize))
	w.must(err)
	return n
}

// segments are the names from one segment up to another one, of one timeline.
func (w *wal) segments(from, to string) []string {
	w.t.Helper()
	var names []string
	for n := w.name(from); ; n = n.Next() {
		name := n.Format(segment.Size(w.c.SegmentSize))
		if name > to {
			return names
		}
		names = append(names, name)
	}
}

// object is the path of an archived segment.
func (w *wal) object(name string) string { return object(w.c, w.dir, name) }

// settings make a server restore from the archive.
func (w *wal) settings(args ...string) map[string]string {
	return map[string]string{
		"restore_command":             restoreCommand(w.bin, "--archive "+w.dir+" "+strings.Join(args, " ")),
		"wal_retrieve_retry_interval": "200ms",
	}
}

// with adds settings.
func with(settings map[string]string, more ...string) map[string]string {
	for i := 0; i < len(more); i += 2 {
		settings[more[i]] = more[i+1]
	}
	return settings
}

// hang makes every read of a file hang, and returns what ends that: a FIFO that
// nobody writes to is what a file on a dead server looks like.
func (w *wal) hang(path string) (release func()) {
	w.t.Helper()
	w.must(os.Rename(path, path+".away"))
	w.must(syscall.Mkfifo(path, 0o600))
	pgtest.Give(w.t, path)
	return func() {
		w.t.Helper()
		w.must(os.Rename(path+".away", path))
	}
}

// identity is the file without which nothing can be told about the archive.
func (w *wal) identity() string { return filepath.Join(w.dir, w.c.SystemID(), "walrecv.json") }

// newPrimary starts a cluster with small segments that keeps its WAL, and a table
// of marks.
func newPrimary(t testing.TB, major int) *pgtest.Cluster {
	t.Helper()
	c := pgtest.New(t, pgtest.Options{
		Major: major, WALSegmentSize: 1 << 20,
		Settings: map[string]string{"wal_keep_size": "1GB", "max_wal_size": "2GB", "autovacuum": "off"},
	})
	c.Start()
	c.Exec("create table mark(name text primary key)")
	return c
}

// mark commits a row.
func mark(c *pgtest.Cluster, name string) {
	c.Exec(fmt.Sprintf("insert into mark values ('%s')", name))
}

// marks are the rows that are there, in order.
func marks(c *pgtest.Cluster) string {
	return c.Query("select coalesce(string_agg(name, ' ' order by name), '') from mark")
}

func wantMarks(t testing.TB, c *pgtest.Cluster, want string) {
	t.Helper()
	if got := marks(c); got != want {
		t.Errorf("rows %q, want %q", got, want)
	}
}

// eachMajor runs a test against each server version.
func eachMajor(t *testing.T, test func(t *testing.T, major int)) {
	for _, major := range pgtest.Versions(t) {
		t.Run(fmt.Sprintf("pg%d", major), func(t *testing.T) { test(t, major) })
	}
}

// quick lets a standby look again soon for WAL that it did not get.
var quick = map[string]string{"wal_retrieve_retry_interval": "200ms"}
