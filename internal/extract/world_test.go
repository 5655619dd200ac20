package extract

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/backup"
)

const system = 7411122233344455566

// shelf is where the objects of a backup are, as plain bytes. It fails on demand.
type shelf struct {
	mu     sync.Mutex
	files  map[string][]byte
	fail   map[string][]failure // what the next calls for an object fail with
	opened map[string]int
	system uint64
}

// failure is an error after some bytes.
type failure struct {
	after int
	err   error
}

func (s *shelf) Identity() archive.Identity { return archive.Identity{SystemID: s.system} }

func (s *shelf) OpenStored(ctx context.Context, id string, o archive.Stored) (io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened[o.File]++
	data, ok := s.files[o.File]
	if !ok {
		return nil, fmt.Errorf("open backup/%s/%s: %w", id, o.File, fs.ErrNotExist)
	}
	r := io.Reader(bytes.NewReader(data))
	if fails := s.fail[o.File]; len(fails) > 0 {
		s.fail[o.File] = fails[1:]
		r = io.MultiReader(bytes.NewReader(data[:min(fails[0].after, len(data))]), failing{fails[0].err})
	}
	return io.NopCloser(withContext{ctx, r}), nil
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

type withContext struct {
	ctx context.Context
	r   io.Reader
}

func (w withContext) Read(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	return w.r.Read(p)
}

// entry is something in a tar.
type entry struct {
	name    string // with a slash at its end: a directory
	content string
	mode    int64 // 0: as a server has it
	typ     byte  // 0: as the name says
	link    string
	hidden  bool // not in the manifest
}

// cut ends a piece of a tar.
var cut = entry{name: "|"}

// world is a backup, and where it goes.
type world struct {
	t      testing.TB
	shelf  *shelf
	backup *backup.Backup
	tars   map[uint32][]entry
	outer  string // holds all directories of the test
	dir    string // the data directory
	sum    string // kind of checksums
}

// newWorld makes the backup of a small cluster with two tablespaces.
func newWorld(t testing.TB) *world {
	t.Helper()
	outer := t.TempDir()
	w := &world{t: t, outer: outer, dir: filepath.Join(outer, "data"), sum: "CRC32C"}
	control := string(binary.LittleEndian.AppendUint64(nil, system)) + strings.Repeat("c", 8184)
	spaceA, spaceB := filepath.Join(outer, "space a"), filepath.Join(outer, "späce=b")
	w.tars = map[uint32][]entry{
		0: {
			{name: "backup_label", content: "START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\n"},
			{name: "tablespace_map", content: fmt.Sprintf("16384 %s\n16385 %s\n", spaceA, spaceB)},
			{name: "pg_wal/"},
			{name: "./pg_wal/archive_status/"},
			{name: "global/"},
			{name: "base/"},
			{name: "base/1/"},
			{name: "base/1/112", content: strings.Repeat("page", 20000)},
			{name: "base/1/a name", content: "x"},
			{name: "base/1/ümlaut", content: "y"},
			cut,
			{name: "base/1/113", content: strings.Repeat("other", 100)},
			{name: "base/1/114"},
			cut,
			{name: "PG_VERSION", content: "15\n"},
			{name: "pg_tblspc/"},
			{name: "global/pg_control", content: control},
		},
		16384: {
			{name: "PG_15_202209061/"},
			{name: "PG_15_202209061/5/"},
			{name: "PG_15_202209061/5/16386", content: "in a"},
		},
		16385: {
			{name: "PG_15_202209061/"},
			{name: "PG_15_202209061/5/"},
			{name: "PG_15_202209061/5/16387", content: "in b"},
		},
	}
	w.backup = &backup.Backup{
		Start:       backup.Start{ID: "20261122T073000Z", SystemID: system, Major: 15, Timeline: 1, StartLSN: 0x2000028, Started: time.Unix(1795333800, 0)},
		EndLSN:      0x2000100,
		EndTimeline: 1,
		Tablespaces: []backup.Tablespace{{OID: 16384, Location: spaceA}, {OID: 16385, Location: spaceB}, {}},
	}
	return w
}

// pack makes the objects of the backup from its entries.
func (w *world) pack() {
	w.t.Helper()
	w.shelf = &shelf{files: map[string][]byte{}, fail: map[string][]failure{}, opened: map[string]int{}, system: system}
	w.backup.Objects = nil
	lines := map[string]string{}
	for _, space := range w.backup.Tablespaces {
		var buf bytes.Buffer
		piece := 1
		put := func() {
			file := archive.TarFile(space.Tar(), piece) + ".zst"
			w.shelf.files[file] = bytes.Clone(buf.Bytes())
			w.backup.Objects = append(w.backup.Objects, archive.Stored{File: file, Size: 1, PlainSize: int64(buf.Len())})
			buf.Reset()
			piece++
		}
		for _, e := range w.tars[space.OID] {
			if e == cut {
				put()
				continue
			}
			w.append(&buf, e)
			if path := e.path(space.OID); path != "" {
				lines[path] = w.line(path, e.content)
			}
		}
		buf.Write(make([]byte, 1024))
		put()
	}
	w.shelf.files["backup_manifest.zst"] = w.manifest(lines)
	w.backup.Objects = append(w.backup.Objects, archive.Stored{File: "backup_manifest.zst", Size: 1})
}

// path is where an entry stands in the manifest; empty if it does not.
func (e entry) path(oid uint32) string {
	switch {
	case e.hidden || e.typ != 0 || strings.HasSuffix(e.name, "/"):
		return ""
	case oid != 0:
		return fmt.Sprintf("pg_tblspc/%d/%s", oid, e.name)
	}
	return e.name
}

func (w *world) append(to *bytes.Buffer, e entry) {
	w.t.Helper()
	h := &tar.Header{Format: tar.FormatUSTAR, Name: e.name, Typeflag: tar.TypeReg, Mode: 0o600, Size: int64(len(e.content)), Linkname: e.link}
	if strings.HasSuffix(e.name, "/") {
		h.Typeflag, h.Mode = tar.TypeDir, 0o700
	}
	if e.typ != 0 {
		h.Typeflag, h.Size = e.typ, 0
	}
	if e.mode != 0 {
		h.Mode = e.mode
	}
	out := tar.NewWriter(to)
	if err := out.WriteHeader(h); err != nil { // a name that is not of a ustar
		h.Format = tar.FormatUnknown
		if err := out.WriteHeader(h); err != nil {
			w.t.Fatal(err)
		}
	}
	if h.Size > 0 {
		if _, err := out.Write([]byte(e.content)); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := out.Flush(); err != nil {
		w.t.Fatal(err)
	}
}

// line is that of a file in the manifest, as a server writes it.
func (w *world) line(path, content string) string {
	if w.sum == "" {
		return fmt.Sprintf(`{ "Path": "%s", "Size": %d, "Last-Modified": "2026-11-22 07:30:00 GMT" }`, path, len(content))
	}
	crc := binary.LittleEndian.AppendUint32(nil, crc32.Checksum([]byte(content), crc32.MakeTable(crc32.Castagnoli)))
	return fmt.Sprintf(`{ "Path": "%s", "Size": %d, "Last-Modified": "2026-11-22 07:30:00 GMT", "Checksum-Algorithm": "CRC32C", "Checksum": "%x" }`,
		path, len(content), crc)
}

func (w *world) manifest(lines map[string]string) []byte {
	var all []string
	for _, line := range lines {
		all = append(all, line)
	}
	sort.Strings(all)
	text := fmt.Sprintf("{ \"PostgreSQL-Backup-Manifest-Version\": 2,\n\"System-Identifier\": %d,\n\"Files\": [\n%s\n],\n\"WAL-Ranges\": [\n{ \"Timeline\": 1, \"Start-LSN\": \"%s\", \"End-LSN\": \"%s\" }\n],\n",
		uint64(system), strings.Join(all, ",\n"), w.backup.StartLSN, w.backup.EndLSN)
	return fmt.Appendf(nil, "%s\"Manifest-Checksum\": \"%x\"}\n", text, sha256.Sum256([]byte(text)))
}

// run restores the backup without much patience.
func (w *world) run(o Options) (Result, error) {
	w.t.Helper()
	if w.shelf == nil {
		w.pack()
	}
	if o.Dir == "" {
		o.Dir = w.dir
	}
	return w.extraction(o).run(w.t.Context())
}

func (w *world) extraction(o Options) *extraction {
	return &extraction{archive: w.shelf, backup: w.backup, options: o, tries: tries{most: 3, first: time.Microsecond, last: time.Millisecond}}
}

// tree lists what is in a directory: paths, with permissions, and what stands there.
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		what := info.Mode().String()
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			to, err := os.Readlink(name)
			if err != nil {
				return err
			}
			what = "-> " + to
		case info.Mode().IsRegular():
			content, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			what += " " + string(content)
		}
		all[rel] = what
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return all
}

// expect compares a directory with what must be in it.
func (w *world) expect(dir string, want map[string]string) {
	w.t.Helper()
	got := tree(w.t, dir)
	for name, what := range want {
		if got[name] != what {
			w.t.Errorf("%s: %s is %.200q, want %.200q", dir, name, got[name], what)
		}
	}
	for name, what := range got {
		if _, ok := want[name]; !ok {
			w.t.Errorf("%s: there is %s, %.100q", dir, name, what)
		}
	}
}

// wanted is what the data directory has to have after a restore; mode adds bits.
func (w *world) wanted(group bool) map[string]string {
	dir, file := "drwx------", "-rw------- "
	if group {
		dir, file = "drwxr-x---", "-rw-r----- "
	}
	want := map[string]string{".": dir}
	for _, e := range w.tars[0] {
		switch {
		case e == cut:
		case strings.HasSuffix(e.name, "/"):
			want[filepath.Clean(e.name)] = dir
		default:
			want[e.name] = file + e.content
		}
	}
	want["backup_manifest"] = file + string(w.shelf.files["backup_manifest.zst"])
	for _, s := range w.backup.Tablespaces {
		if s.OID != 0 && filepath.IsAbs(s.Location) {
			want[fmt.Sprintf("pg_tblspc/%d", s.OID)] = "-> " + s.Location
		}
	}
	return want
}
