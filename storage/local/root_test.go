package local

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/storage"
)

// allCalls has every call of a store, with keys near and far.
func allCalls(ctx context.Context, t *testing.T) map[string]func(*Store) error {
	calls := map[string]func(*Store) error{
		"list":       func(s *Store) error { return listAll(t, s, "") },
		"list start": func(s *Store) error { return listAll(t, s, "t") },
		"list below": func(s *Store) error { return listAll(t, s, "a/b/") },
		"sweep":      func(s *Store) error { _, err := s.Sweep(ctx, time.Now()); return err },
	}
	for _, key := range []string{"top", "a/b/c"} {
		calls["put "+key] = func(s *Store) error { return s.Put(ctx, key, storage.BytesSource([]byte("x"))) }
		calls["open "+key] = func(s *Store) error { return readAll(t, s, key) }
		calls["stat "+key] = func(s *Store) error { _, err := s.Stat(ctx, key); return err }
		calls["delete "+key] = func(s *Store) error { return s.Delete(ctx, key) }
	}
	return calls
}

// expectNoRoot checks that every call says that the root is missing, and none
// makes it.
func expectNoRoot(t *testing.T, s *Store, root string) {
	t.Helper()
	before, _ := os.Lstat(root)
	for name, call := range allCalls(t.Context(), t) {
		err := call(s)
		if !errors.Is(err, storage.ErrNoRoot) {
			t.Errorf("%s: %v, want storage.ErrNoRoot", name, err)
		}
		notAnAnswer(t, err)
	}
	if after, _ := os.Lstat(root); (before == nil) != (after == nil) {
		t.Error("the root was made")
	}
}

func TestNoRoot(t *testing.T) {
	dir := t.TempDir()
	missing, file, link := filepath.Join(dir, "missing"), filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(missing, link); err != nil {
		t.Fatal(err)
	}
	for _, root := range []string{missing, missing + "/deeper", file, file + "/below", link} {
		t.Run(filepath.Base(root), func(t *testing.T) {
			expectNoRoot(t, New(vfs.OS(), root, Private), root)
		})
	}
}

// TestRootGoes takes the root away from a store that has used it, and then puts
// an empty directory there, as an unmounted disk leaves it.
func TestRootGoes(t *testing.T) {
	root := filepath.Join(t.TempDir(), "archive")
	s := New(vfs.OS(), root, Private)
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	o := object{key: "a/b/c", data: []byte("x")}
	if err := o.putTo(t, s); err != nil || !o.there(t, s) {
		t.Fatalf("put: %v", err)
	}
	if err := os.Rename(root, root+".gone"); err != nil {
		t.Fatal(err)
	}
	expectNoRoot(t, s, root)
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	if o.there(t, s) {
		t.Error("the object is in the empty directory")
	}
	if err := listAll(t, s, ""); err != nil {
		t.Error(err)
	}
	if err := o.putTo(t, s); err != nil || !o.there(t, s) {
		t.Errorf("put into the empty directory: %v", err)
	}
}

// TestRootGoesUnderWay takes the root away before each operation of each call.
// No call then says that what was there is absent, or that there is no more of
// it; no call makes the root.
func TestRootGoesUnderWay(t *testing.T) {
	runs := 0
	for name, call := range allCalls(t.Context(), t) {
		for k := 0; ; k++ {
			root := filepath.Join(t.TempDir(), "archive")
			if err := os.Mkdir(root, 0o700); err != nil {
				t.Fatal(err)
			}
			putAll(t, New(vfs.OS(), root, Private))
			gone := false
			s := New(vfs.NewFault(vfs.OS(), func(op vfs.Op) error {
				if op.Index == k {
					gone = true
					return os.Rename(root, root+".gone")
				}
				return nil
			}), root, Private)
			err := call(s)
			if !gone {
				break
			}
			runs++
			if errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s, root gone at %d: %v", name, k, err)
			}
			if wholeTree := strings.HasPrefix(name, "list") || name == "sweep"; wholeTree && !errors.Is(err, storage.ErrNoRoot) {
				t.Errorf("%s, root gone at %d: %v, want storage.ErrNoRoot", name, k, err)
			}
			if _, err := os.Lstat(root); err == nil {
				t.Errorf("%s, root gone at %d: it was made again", name, k)
			}
			verb, key, _ := strings.Cut(name, " ")
			if _, statErr := os.Lstat(filepath.Join(root+".gone", key)); verb == "delete" && err == nil && statErr == nil {
				t.Errorf("%s, root gone at %d: it was not deleted", name, k)
			}
		}
	}
	if runs < 40 {
		t.Errorf("%d runs only", runs)
	}
	t.Logf("%d runs", runs)
}

func putAll(t *testing.T, s *Store) {
	t.Helper()
	for _, key := range []string{"top", "a/b/c", "a/b/d", "a/e/f", "z/y"} {
		if err := s.Put(t.Context(), key, storage.BytesSource([]byte("x"))); err != nil {
			t.Fatal(err)
		}
	}
}

// TestListIsNotCutShort takes the root away in the middle of a listing.
func TestListIsNotCutShort(t *testing.T) {
	root := filepath.Join(t.TempDir(), "archive")
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	s := New(vfs.OS(), root, Private)
	putAll(t, s)
	n := 0
	err := s.List(t.Context(), "", func(storage.Info) error {
		if n++; n == 2 {
			return os.Rename(root, root+".gone")
		}
		return nil
	})
	if !errors.Is(err, storage.ErrNoRoot) {
		t.Errorf("list shows %d objects and returns %v, want storage.ErrNoRoot", n, err)
	}
}

// TestUnknown has what stands in the way of an answer.
func TestUnknown(t *testing.T) {
	dir := t.TempDir()
	s := New(vfs.OS(), dir, Private)
	putAll(t, s)
	for _, link := range [][2]string{
		{filepath.Join(dir, "elsewhere"), filepath.Join(dir, "a", "dangling")},
		{filepath.Join(dir, "a", "b"), filepath.Join(dir, "a", "linked")},
	} {
		if err := os.Symlink(link[0], link[1]); err != nil {
			t.Fatal(err)
		}
	}
	for key, want := range map[string]error{
		"top/below":      syscall.ENOTDIR,
		"a/b/c/below":    syscall.ENOTDIR,
		"a/dangling/c":   syscall.ENOENT, // what the link leads to may not be mounted
		"a/dangling/b/c": syscall.ENOENT,
	} {
		_, err := s.Stat(t.Context(), key)
		notAnAnswer(t, err)
		if err == nil || errors.Is(err, storage.ErrNoRoot) || !strings.Contains(err.Error(), want.Error()) {
			t.Errorf("stat %s: %v, want it to be unknown because of %v", key, err, want)
		}
	}
	if err := listAll(t, s, "a/dangling/"); err == nil {
		t.Error("a link that leads nowhere is an empty directory")
	}
	// A link that leads somewhere is as good as a directory.
	if err := readAll(t, s, "a/linked/c"); err != nil {
		t.Error(err)
	}
	for _, key := range []string{"a/linked/none", "a/linked/none/none"} {
		if _, err := s.Stat(t.Context(), key); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("stat %s: %v, want fs.ErrNotExist", key, err)
		}
	}
}

// TestRootDenied: a root that cannot be looked at is not a missing one.
func TestRootDenied(t *testing.T) {
	for _, reason := range []error{syscall.EACCES, syscall.EIO, syscall.ESTALE} {
		s := New(vfs.NewFault(vfs.NewMem(), func(vfs.Op) error { return reason }), root, Private)
		for name, call := range allCalls(t.Context(), t) {
			err := call(s)
			if !errors.Is(err, reason) || errors.Is(err, storage.ErrNoRoot) {
				t.Errorf("%s: %v, want %v", name, err, reason)
			}
			notAnAnswer(t, err)
		}
	}
}

// TestTruncatedObject: a body never ends early as if that were all.
func TestTruncatedObject(t *testing.T) {
	dir := t.TempDir()
	s := New(vfs.OS(), dir, Private)
	o := object{key: "key", data: make([]byte, 100_000)}
	if err := o.putTo(t, s); err != nil {
		t.Fatal(err)
	}
	body, info, err := s.Open(t.Context(), o.key)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	file := filepath.Join(dir, o.key)
	if err := os.Truncate(file, 60_000); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, body); n != 60_000 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("read %d bytes, %v", n, err)
	}
	at := body.(io.ReaderAt)
	for _, off := range []int64{59_999, 60_000, 99_990} {
		if _, err := at.ReadAt(make([]byte, 100), off); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("ReadAt from %d: %v", off, err)
		}
	}
	if n, err := at.ReadAt(make([]byte, 100), 100_000); n != 0 || err != io.EOF {
		t.Errorf("ReadAt at the end: %d, %v", n, err)
	}
	// Nor does it give more than was said.
	if err := os.Truncate(file, 200_000); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, body); n != info.Size-60_000 || err != nil {
		t.Errorf("read %d more bytes, %v", n, err)
	}
}
