package local

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/storagetest"
)

func TestOS(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storage.Store {
		return New(vfs.OS(), t.TempDir(), GroupRead)
	})
}

func TestMemWithDeadline(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storage.Store {
		return storage.WithDeadline(newMemStore(t, vfs.NewMem()))
	})
}

func TestMem(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storage.Store { return newMemStore(t, vfs.NewMem()) })
}

const root = "/srv/archive"

// newMemStore makes the root in fsys, durably, and returns the store in it.
func newMemStore(t *testing.T, fsys *vfs.Mem) *Store {
	t.Helper()
	if err := vfs.MkdirAll(fsys, "/", root[1:], 0o755); err != nil {
		t.Fatal(err)
	}
	return New(fsys, root, Private)
}

func TestModes(t *testing.T) {
	for mode, want := range map[Mode][2]fs.FileMode{Private: {0o600, 0o700}, GroupRead: {0o640, 0o750}} {
		mem := vfs.NewMem()
		s := newMemStore(t, mem)
		s.mode = mode
		if err := objects()[0].putTo(t, s); err != nil {
			t.Fatal(err)
		}
		key := objects()[0].key
		for name := key; name != "."; name = path.Dir(name) {
			perm, err := mem.Perm(s.path(name))
			kind := 1
			if name == key {
				kind = 0
			}
			if err != nil || perm != want[kind] {
				t.Errorf("mode %d: %s has %v, %v; want %v", mode, name, perm, err, want[kind])
			}
		}
	}
}

// TestForeignFiles: what is no object is neither shown nor removed, and does
// not stop a listing.
func TestForeignFiles(t *testing.T) {
	mem := vfs.NewMem()
	s := newMemStore(t, mem)
	putAll(t, s)
	old := scratchName(time.Unix(0, 0))
	for _, dir := range []string{"", "a/b/"} {
		for _, name := range []string{"with space", "a~", ".~x.tmp", "$RECYCLE", old} {
			makeFile(t, mem, s.path(dir+name))
		}
	}
	for _, dir := range []string{"lost+found", "a dir"} {
		if err := mem.Mkdir(s.path(dir), 0); err != nil {
			t.Fatal(err)
		}
		makeFile(t, mem, s.path(dir+"/key"))
	}
	var keys []string
	err := s.List(t.Context(), "", func(info storage.Info) error {
		keys = append(keys, info.Key)
		return nil
	})
	if want := []string{"a/b/c", "a/b/d", "a/e/f", "top", "z/y"}; err != nil || !slices.Equal(keys, want) {
		t.Errorf("list: %v, %v; want %v", keys, err, want)
	}
	before := files(t, mem, root)
	if n, err := s.Sweep(t.Context(), time.Now()); n != 2 || err != nil {
		t.Errorf("sweep removes %d files, %v; want 2", n, err)
	}
	want := slices.DeleteFunc(before, func(name string) bool { return path.Base(name) == old })
	if after := files(t, mem, root); !slices.Equal(after, want) {
		t.Errorf("after the sweep there are %v, want %v", after, want)
	}
	// The file system's own directory is no place for objects.
	for name, call := range map[string]error{
		"put":    s.Put(t.Context(), "lost+found/key2", storage.BytesSource(nil)),
		"stat":   readAll(t, s, "lost+found/key"),
		"delete": s.Delete(t.Context(), "lost+found"),
	} {
		if notAnAnswer(t, call); call == nil {
			t.Errorf("%s in lost+found succeeds", name)
		}
	}
	if err := s.Put(t.Context(), "b/lost+found/key", storage.BytesSource(nil)); err != nil {
		t.Error(err)
	}
}

func makeFile(t *testing.T, fsys vfs.FS, name string) {
	t.Helper()
	f, err := fsys.Create(name, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

// TestSweep removes what is old, by the name, and nothing else, also from under
// a writer that still uses it.
func TestSweep(t *testing.T) {
	mem := vfs.NewMem()
	s := newMemStore(t, mem)
	now := time.Date(2024, 2, 29, 23, 59, 59, 0, time.FixedZone("", 3600))
	s.now = func() time.Time { return now }
	src := storage.BytesSource([]byte("content"))
	for _, test := range []struct {
		before time.Time
		swept  int
	}{
		{now, 0},
		{now.Add(-24 * time.Hour), 0},
		{now.Add(time.Second), 1},
	} {
		var swept int
		var sweepErr error
		err := s.Put(t.Context(), "a/key", hookedSource{src, func() {
			swept, sweepErr = s.Sweep(t.Context(), test.before)
		}})
		if swept != test.swept || sweepErr != nil {
			t.Errorf("sweep before %v removes %d, %v; want %d", test.before, swept, sweepErr, test.swept)
		}
		notAnAnswer(t, err)
		if (err != nil) != (test.swept > 0) {
			t.Errorf("sweep before %v: put returns %v", test.before, err)
		}
		if err := s.Delete(t.Context(), "a/key"); err != nil {
			t.Error(err)
		}
		if left := files(t, mem, root); len(left) > 0 {
			t.Errorf("sweep before %v leaves %v", test.before, left)
		}
	}
	u, err := s.Create(t.Context(), "a/key")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := s.Sweep(t.Context(), now.Add(time.Second)); n != 1 || err != nil {
		t.Errorf("a sweep under an upload removes %d, %v", n, err)
	}
	err = u.Commit()
	if notAnAnswer(t, err); err == nil {
		t.Error("an upload that was swept away succeeds")
	}
	// A scratch file that could not be removed is no reason for a Put to fail.
	stuck := New(vfs.NewFault(mem, func(op vfs.Op) error {
		if op.Kind == vfs.OpRemove {
			return syscall.EIO
		}
		return nil
	}), root, Private)
	if err := stuck.Put(t.Context(), "a/key", src); err != nil {
		t.Error(err)
	}
	if left := files(t, mem, root); len(left) != 2 {
		t.Errorf("there are %v, want the object and its scratch file", left)
	}
	if _, err := stuck.Sweep(t.Context(), time.Now().Add(time.Hour)); !errors.Is(err, syscall.EIO) {
		t.Errorf("sweep hides that it removed nothing: %v", err)
	}
	if n, err := s.Sweep(t.Context(), time.Now().Add(time.Hour)); n != 1 || err != nil {
		t.Errorf("sweep removes %d, %v", n, err)
	}
	if err := readAll(t, s, "a/key"); err != nil {
		t.Error(err)
	}
}

// TestHangingFile opens a FIFO, which blocks in the kernel until somebody
// writes, as a file of a dead server does for ever.
func TestHangingFile(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "key")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	opening := make(chan struct{}, 10)
	fsys := vfs.NewFault(vfs.OS(), func(op vfs.Op) error {
		if op.Kind == vfs.OpOpenRead {
			opening <- struct{}{}
		}
		return nil
	})
	s := storage.WithDeadline(New(fsys, dir, Private))
	for name, call := range map[string]func(context.Context) error{
		"open":   func(ctx context.Context) error { _, _, err := s.Open(ctx, "key"); return err },
		"stat":   func(ctx context.Context) error { _, err := s.Stat(ctx, "key"); return err },
		"put":    func(ctx context.Context) error { return s.Put(ctx, "key", storage.BytesSource(nil)) },
		"delete": func(ctx context.Context) error { return s.(storage.Deleter).Delete(ctx, "key") },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-opening
			cancel()
		}()
		err := call(ctx)
		if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "key") {
			t.Errorf("%s: %v", name, err)
		}
		notAnAnswer(t, err)
	}
	// Lets the calls go that were given up.
	w, err := os.OpenFile(fifo, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
}
