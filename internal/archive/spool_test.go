package archive

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/storagetest"
)

// records is a log that a test can look at.
type records struct {
	mu   sync.Mutex
	text []string
}

func (r *records) Enabled(context.Context, slog.Level) bool { return true }
func (r *records) WithAttrs([]slog.Attr) slog.Handler       { return r }
func (r *records) WithGroup(string) slog.Handler            { return r }

func (r *records) Handle(_ context.Context, rec slog.Record) error {
	line := rec.Level.String() + " " + rec.Message
	rec.Attrs(func(a slog.Attr) bool { line += " " + a.String(); return true })
	r.mu.Lock()
	defer r.mu.Unlock()
	r.text = append(r.text, line)
	return nil
}

// lines returns what was logged at Info and above.
func (r *records) lines() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(r.text), func(s string) bool { return strings.HasPrefix(s, "DEBUG") })
}

// keys returns a store's keys of WAL, without what is the same for all.
func keys(mem *storagetest.Mem) []string {
	var short []string
	for _, key := range mem.Keys() {
		if rest, ok := strings.CutPrefix(key, "7411122233344455566/wal/"); ok {
			short = append(short, path.Base(rest))
		}
	}
	return short
}

// rig is a spool on a disk in memory and an archive for it.
type rig struct {
	t       *testing.T
	disk    *vfs.Mem
	mem     *storagetest.Mem
	archive *Archive
	log     *records
	files   map[string][]byte // what was put into the spool
}

const spoolDir = "/spool"

var (
	testGap  = segment.Gap{Timeline: 1, From: 0x300000, To: 0x500000, Reason: "removed"}
	testMark = segment.Mark{Name: name(2, 4), LSN: 0x400028, End: 0x400000, Reason: "bad checksum"}
)

func newRig(t *testing.T) *rig {
	t.Helper()
	mem := storagetest.NewMem()
	a, err := Init(t.Context(), mem, testIdentity, Keys{})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, disk: vfs.NewMem(), mem: mem, archive: a, log: &records{}, files: map[string][]byte{}}
	if err := r.disk.Mkdir(spoolDir, 0o700); err != nil {
		t.Fatal(err)
	}
	r.spool(r.disk) // leaves the identity there
	return r
}

// spool opens the spool through fsys.
func (r *rig) spool(fsys vfs.FS) *segment.Spool {
	r.t.Helper()
	s, err := segment.OpenSpool(fsys, spoolDir, slog.New(r.log), segment.SpoolOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	if err := s.Identify(segment.Cluster{Identity: testIdentity.Segment(), Major: testIdentity.Major, FileMode: 0o600}); err != nil {
		r.t.Fatal(err)
	}
	if err := s.Close(); err != nil { // the lock does not matter here
		r.t.Fatal(err)
	}
	return s
}

// uploader makes an Uploader from fsys to store.
func (r *rig) uploader(fsys vfs.FS, store storage.Store, workers int) *Uploader {
	r.t.Helper()
	a := &Archive{store: store, id: testIdentity}
	return NewUploader(a, r.spool(fsys), UploaderOptions{Workers: workers}, slog.New(r.log))
}

// file puts a file into the spool.
func (r *rig) file(base string, data []byte) {
	r.t.Helper()
	f, err := r.disk.Create(path.Join(spoolDir, base), 0o600)
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := f.WriteAt(data, 0); err != nil {
		r.t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		r.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		r.t.Fatal(err)
	}
	if err := r.disk.SyncDir(spoolDir); err != nil {
		r.t.Fatal(err)
	}
	r.files[base] = data
}

// sealed puts complete segments into the spool.
func (r *rig) sealed(names ...segment.Name) {
	r.t.Helper()
	for _, n := range names {
		r.file(n.Format(testSize), wal(n, 2, 0))
	}
}

func (r *rig) partial(n segment.Name) {
	r.t.Helper()
	r.file(n.Format(testSize)+".partial", wal(n, 1, 0))
}

// findings puts a gap and a mark into the spool.
func (r *rig) findings() {
	r.t.Helper()
	gap, err := testGap.Encode()
	if err != nil {
		r.t.Fatal(err)
	}
	mark, err := testMark.Encode(testSize)
	if err != nil {
		r.t.Fatal(err)
	}
	r.file(testGap.FileName(), gap)
	r.file(testMark.FileName(testSize), mark)
}

// left lists the files in the spool but its identity.
func (r *rig) left(fsys vfs.FS) []string {
	r.t.Helper()
	entries, err := fsys.ReadDir(spoolDir)
	if err != nil {
		r.t.Fatal(err)
	}
	var bases []string
	for _, e := range entries {
		if e.Name != "walrecv.json" {
			bases = append(bases, e.Name)
		}
	}
	return bases
}

func (r *rig) expectLeft(want ...string) {
	r.t.Helper()
	if got := r.left(r.disk); !slices.Equal(got, want) {
		r.t.Errorf("left in the spool: %v, want %v", got, want)
	}
}

// isWhole tells whether the archive has a segment with exactly these bytes.
func isWhole(store storage.Store, n segment.Name, data []byte) error {
	a := &Archive{store: store, id: testIdentity}
	got, err := readSegment(context.Background(), a, n)
	if err == nil && !bytes.Equal(got, data) {
		err = fmt.Errorf("%d other bytes", len(got))
	}
	return err
}

// expectSafe checks that every complete segment that was in the spool is there
// still, or is whole in the archive.
func (r *rig) expectSafe(fsys vfs.FS, store storage.Store, when string) {
	r.t.Helper()
	for base, data := range r.files {
		n, err := segment.ParseName(base, testSize)
		if err != nil {
			continue
		}
		if got, err := vfs.ReadFile(fsys, path.Join(spoolDir, base)); err == nil && bytes.Equal(got, data) {
			continue
		}
		if err := isWhole(store, n, data); err != nil {
			r.t.Fatalf("%s: %s is neither in the spool nor whole in the archive: %v", when, base, err)
		}
	}
}

// expectArchived checks that everything that should be is in the archive.
func (r *rig) expectArchived(when string) {
	r.t.Helper()
	for base, data := range r.files {
		if n, err := segment.ParseName(base, testSize); err == nil {
			if err := isWhole(r.mem, n, data); err != nil {
				r.t.Errorf("%s: %s in the archive: %v", when, base, err)
			}
		}
		if segment.IsGapName(base) {
			if got, err := r.archive.Gaps(r.t.Context()); err != nil || !slices.Equal(got, []segment.Gap{testGap}) {
				r.t.Errorf("%s: gaps in the archive: %+v, %v", when, got, err)
			}
		}
		if segment.IsMarkName(base) {
			if got, err := r.archive.Marks(r.t.Context()); err != nil || !slices.Equal(got, []segment.Mark{testMark}) {
				r.t.Errorf("%s: marks in the archive: %+v, %v", when, got, err)
			}
		}
		if t, err := segment.ParseHistoryName(base); err == nil {
			if got, err := r.archive.History(r.t.Context(), t); err != nil || !bytes.Equal(got, data) {
				r.t.Errorf("%s: %s in the archive: %q, %v", when, base, got, err)
			}
		}
	}
}

// expectPartial checks that the archive has one partial of a segment, and what
// is in it.
func (r *rig) expectPartial(n segment.Name, want []byte) {
	r.t.Helper()
	partials, err := r.archive.Partials(r.t.Context(), n)
	if err != nil || len(partials) != 1 {
		r.t.Fatalf("partials of %v: %v, %v", n, partials, err)
	}
	p, err := r.archive.OpenPartial(r.t.Context(), partials[0])
	if err != nil {
		r.t.Fatal(err)
	}
	defer p.Close()
	if got, err := io.ReadAll(p); err != nil || !bytes.Equal(got, want) {
		r.t.Errorf("partial of %v: %d bytes, %v", n, len(got), err)
	}
}

// putOrder is a store that remembers in which order its objects were put.
type putOrder struct {
	*storagetest.Mem
	mu   sync.Mutex
	keys []string
}

func (p *putOrder) Put(ctx context.Context, key string, src storage.Source) error {
	err := p.Mem.Put(ctx, key, src)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = append(p.keys, path.Base(key))
	return err
}
