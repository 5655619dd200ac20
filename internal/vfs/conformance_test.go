package vfs

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

// TestConformance holds every implementation to the contract of FS and File.
func TestConformance(t *testing.T) {
	systems := map[string]func(t *testing.T) (FS, string){
		"OS":    func(t *testing.T) (FS, string) { return OS(), t.TempDir() },
		"Mem":   func(*testing.T) (FS, string) { return NewMem(), "/" },
		"Fault": func(*testing.T) (FS, string) { return NewFault(NewMem(), nil), "." },
	}
	cases := map[string]func(t *testing.T, fsys FS, root string){
		"create":      testCreate,
		"open":        testOpen,
		"read write":  testReadWrite,
		"closed":      testClosed,
		"preallocate": testPreallocate,
		"rename":      testRename,
		"link":        testLink,
		"remove":      testRemove,
		"directories": testDirectories,
		"lock":        testLock,
	}
	for system, open := range systems {
		for name, test := range cases {
			t.Run(system+"/"+name, func(t *testing.T) {
				fsys, root := open(t)
				test(t, fsys, root)
			})
		}
	}
}

func testCreate(t *testing.T, fsys FS, root string) {
	name := filepath.Join(root, "a")
	put(t, fsys, name, "content")
	_, err := fsys.Create(name, 0o600)
	wantErr(t, err, fs.ErrExist)
	wantContent(t, fsys, name, "content")

	_, err = fsys.Create(filepath.Join(root, "none", "a"), 0o600)
	wantErr(t, err, fs.ErrNotExist)
	_, err = fsys.Create(filepath.Join(name, "b"), 0o600)
	wantErr(t, err, syscall.ENOTDIR)
}

func testOpen(t *testing.T, fsys FS, root string) {
	name := filepath.Join(root, "a")
	for _, open := range []func(string) (File, error){fsys.OpenRead, fsys.OpenWrite} {
		_, err := open(name)
		wantErr(t, err, fs.ErrNotExist)
		_, err = open("")
		wantErr(t, err, fs.ErrNotExist)
		_, err = open(root)
		wantErr(t, err, syscall.EISDIR)
	}

	put(t, fsys, name, "content")
	r := must(fsys.OpenRead(name))(t)
	defer r.Close()
	_, err := r.WriteAt([]byte("x"), 0)
	wantErr(t, err, syscall.EBADF)
	wantErr(t, r.Preallocate(100), syscall.EBADF)
	check(t, r.Sync())
	wantContent(t, fsys, name, "content")

	w := must(fsys.OpenWrite(name))(t)
	_, err = w.WriteAt([]byte("C"), 0)
	check(t, err)
	check(t, w.Close())
	wantContent(t, fsys, name, "Content")
}

func testReadWrite(t *testing.T, fsys FS, root string) {
	name := filepath.Join(root, "a")
	f := must(fsys.Create(name, 0o600))(t)
	defer f.Close()
	want := make([]byte, 10000)
	for _, w := range []struct{ off, length int }{{5000, 5000}, {0, 10}, {4090, 12}, {8191, 1}, {0, 0}} {
		p := bytes.Repeat([]byte{byte(w.off + 1)}, w.length)
		copy(want[w.off:], p)
		n, err := f.WriteAt(p, int64(w.off))
		check(t, err)
		if n != len(p) {
			t.Fatalf("wrote %d bytes of %d", n, len(p))
		}
	}
	if size := must(f.Size())(t); size != 10000 {
		t.Fatalf("size %d", size)
	}
	got := make([]byte, 10000)
	if _, err := f.ReadAt(got, 0); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatal("read other bytes than were written")
	}
	for _, off := range []int64{9990, 10000, 10001, 1 << 40} {
		n, err := f.ReadAt(make([]byte, 20), off)
		if n != int(max(0, 10000-off)) || err != io.EOF {
			t.Fatalf("read at %d: %d bytes, %v", off, n, err)
		}
	}
	if _, err := f.ReadAt(make([]byte, 1), -1); err == nil {
		t.Fatal("read at a negative offset")
	}
	if _, err := f.WriteAt(make([]byte, 1), -1); err == nil {
		t.Fatal("write at a negative offset")
	}
	for _, off := range []int64{0, 5000, 20000} {
		_ = f.Writeback(off, 4096) // changes nothing that can be seen; not every system can
	}
	check(t, f.Sync())
	if after := must(ReadFile(fsys, name))(t); !bytes.Equal(after, want) {
		t.Fatal("synced other bytes than were written")
	}
}

func testClosed(t *testing.T, fsys FS, root string) {
	f := must(fsys.Create(filepath.Join(root, "a"), 0o600))(t)
	check(t, f.Close())
	_, readErr := f.ReadAt(make([]byte, 1), 0)
	_, writeErr := f.WriteAt(make([]byte, 1), 0)
	_, sizeErr := f.Size()
	for _, err := range []error{readErr, writeErr, sizeErr, f.Preallocate(10), f.Writeback(0, 1), f.Sync(), f.Close()} {
		wantErr(t, err, fs.ErrClosed)
	}
}

func testPreallocate(t *testing.T, fsys FS, root string) {
	name := filepath.Join(root, "a")
	f := must(fsys.Create(name, 0o600))(t)
	defer f.Close()
	want := bytes.Repeat([]byte{7}, 5000)
	_, err := f.WriteAt(want, 0)
	check(t, err)
	const size = 3<<20 + 17
	// A smaller size than the file has, and the same one again, do nothing.
	for _, s := range []int64{size, 100, 0, -1, size} {
		check(t, f.Preallocate(s))
	}
	want = append(want, make([]byte, size-len(want))...)
	if got := must(ReadFile(fsys, name))(t); !bytes.Equal(got, want) {
		t.Fatalf("%d bytes, not the old ones and zeros", len(got))
	}
}

// fileID is the ID of a file as its directory has it.
func fileID(t *testing.T, fsys FS, name string) FileID {
	t.Helper()
	for _, e := range must(fsys.ReadDir(filepath.Dir(name)))(t) {
		if e.Name == filepath.Base(name) {
			return e.ID
		}
	}
	t.Fatalf("%s is not listed", name)
	return FileID{}
}

func testRename(t *testing.T, fsys FS, root string) {
	a, b := filepath.Join(root, "a"), filepath.Join(root, "b")
	dir := filepath.Join(root, "dir")
	wantErr(t, fsys.Rename(a, b), fs.ErrNotExist)
	put(t, fsys, a, "new")
	put(t, fsys, b, "old")
	check(t, fsys.Mkdir(dir, 0o700))
	wantErr(t, fsys.Rename(a, dir), fs.ErrExist)
	wantErr(t, fsys.Rename(a, filepath.Join(root, "none", "a")), fs.ErrNotExist)

	old := must(fsys.OpenRead(b))(t)
	defer old.Close()
	fresh, stale := fileID(t, fsys, a), fileID(t, fsys, b)
	check(t, fsys.Rename(a, b))
	if id := fileID(t, fsys, b); id != fresh || id.Inode == stale.Inode {
		t.Fatalf("ID %v after a rename of %v to %v", id, fresh, stale)
	}
	wantNames(t, fsys, root, "b", "dir")
	wantContent(t, fsys, b, "new")
	got := make([]byte, 3)
	if _, err := old.ReadAt(got, 0); err != nil || string(got) != "old" {
		t.Fatalf("replaced file reads %q, %v", got, err)
	}
	check(t, fsys.Rename(b, filepath.Join(dir, "c")))
	wantNames(t, fsys, root, "dir")
	wantContent(t, fsys, filepath.Join(dir, "c"), "new")
}

func testLink(t *testing.T, fsys FS, root string) {
	a, b := filepath.Join(root, "a"), filepath.Join(root, "b")
	wantErr(t, fsys.Link(a, b), fs.ErrNotExist)
	put(t, fsys, a, "one")
	check(t, fsys.Link(a, b))
	wantErr(t, fsys.Link(a, b), fs.ErrExist)
	wantErr(t, fsys.Link(a, root), fs.ErrExist)
	check(t, fsys.Mkdir(filepath.Join(root, "dir"), 0o700))
	wantErr(t, fsys.Link(filepath.Join(root, "dir"), filepath.Join(root, "c")), fs.ErrPermission)

	w := must(fsys.OpenWrite(a))(t)
	_, err := w.WriteAt([]byte("two"), 0)
	check(t, err)
	check(t, w.Close())
	wantContent(t, fsys, b, "two")

	// rename(2) of two names of one file does nothing at all.
	check(t, fsys.Rename(a, b))
	wantNames(t, fsys, root, "a", "b", "dir")
	check(t, fsys.Remove(a))
	wantContent(t, fsys, b, "two")
}

func testRemove(t *testing.T, fsys FS, root string) {
	a := filepath.Join(root, "a")
	wantErr(t, fsys.Remove(a), fs.ErrNotExist)
	put(t, fsys, a, "gone")
	f := must(fsys.OpenWrite(a))(t)
	defer f.Close()
	check(t, fsys.Remove(a))
	wantErr(t, fsys.Remove(a), fs.ErrNotExist)
	_, err := f.WriteAt([]byte("G"), 0)
	check(t, err)
	check(t, f.Sync())
	put(t, fsys, a, "other")
	got := make([]byte, 4)
	if _, err := f.ReadAt(got, 0); err != nil || string(got) != "Gone" {
		t.Fatalf("removed file reads %q, %v", got, err)
	}
	wantContent(t, fsys, a, "other")
}

func testDirectories(t *testing.T, fsys FS, root string) {
	dir := filepath.Join(root, "dir")
	check(t, fsys.Mkdir(dir, 0o700))
	wantErr(t, fsys.Mkdir(dir, 0o700), fs.ErrExist)
	wantErr(t, fsys.Mkdir(filepath.Join(root, "none", "dir"), 0o700), fs.ErrNotExist)
	put(t, fsys, filepath.Join(dir, "b"), "12345")
	put(t, fsys, filepath.Join(dir, "a"), "1")
	check(t, fsys.Mkdir(filepath.Join(dir, "c"), 0o700))
	want := []DirEntry{{Name: "a", Size: 1}, {Name: "b", Size: 5}, {Name: "c", Dir: true}}
	got := must(fsys.ReadDir(dir))(t)
	ids := []FileID{got[0].ID, got[1].ID, got[2].ID}
	for i := range got {
		got[i].ID = FileID{}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("got %v", got)
	}
	if ids[0] == ids[1] || ids[0].Inode == 0 || ids[2] != (FileID{}) {
		t.Fatalf("IDs %v", ids)
	}
	wantErr(t, fsys.Remove(dir), syscall.ENOTEMPTY)
	check(t, fsys.Remove(filepath.Join(dir, "c")))
	wantNames(t, fsys, dir, "a", "b")
	check(t, fsys.SyncDir(dir))

	file, none := filepath.Join(dir, "a"), filepath.Join(dir, "none")
	if names := must(Names(fsys, dir))(t); !slices.Equal(names, []string{"a", "b"}) {
		t.Errorf("names %q", names)
	}
	_, noNames := Names(fsys, none)
	wantErr(t, noNames, fs.ErrNotExist)
	_, notDir := fsys.ReadDir(file)
	_, missing := fsys.ReadDir(none)
	wantErr(t, notDir, syscall.ENOTDIR)
	wantErr(t, fsys.SyncDir(file), syscall.ENOTDIR)
	wantErr(t, missing, fs.ErrNotExist)
	wantErr(t, fsys.SyncDir(none), fs.ErrNotExist)
}

func testLock(t *testing.T, fsys FS, root string) {
	lock := must(fsys.Lock(root))(t)
	_, err := fsys.Lock(root)
	wantErr(t, err, ErrLocked)
	put(t, fsys, filepath.Join(root, "a"), "")
	wantNames(t, fsys, root, "a")

	check(t, lock.Close())
	again := must(fsys.Lock(root))(t)
	if err := lock.Close(); err == nil {
		t.Fatal("a lock that was given back can be closed")
	}
	_, err = fsys.Lock(root)
	wantErr(t, err, ErrLocked)
	check(t, again.Close())

	_, err = fsys.Lock(filepath.Join(root, "none"))
	wantErr(t, err, fs.ErrNotExist)
	_, err = fsys.Lock(filepath.Join(root, "a"))
	wantErr(t, err, syscall.ENOTDIR)
}

// put makes a file, without any sync.
func put(t *testing.T, fsys FS, name, content string) {
	t.Helper()
	f := must(fsys.Create(name, 0o600))(t)
	_, err := f.WriteAt([]byte(content), 0)
	check(t, err)
	check(t, f.Close())
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// must takes what a call returned and ends the test if that is an error.
func must[T any](value T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		check(t, err)
		return value
	}
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, not %v", err, want)
	}
}

func wantContent(t *testing.T, fsys FS, name, want string) {
	t.Helper()
	if got := must(ReadFile(fsys, name))(t); string(got) != want {
		t.Fatalf("%s reads %q, not %q", name, got, want)
	}
}

func wantNames(t *testing.T, fsys FS, dir string, want ...string) {
	t.Helper()
	var got []string
	for _, e := range must(fsys.ReadDir(dir))(t) {
		got = append(got, e.Name)
	}
	if !slices.Equal(got, want) {
		t.Fatalf("%s holds %q, not %q", dir, got, want)
	}
}
