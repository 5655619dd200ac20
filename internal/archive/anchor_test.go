package archive

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/local"
	"github.com/walrecv/walrecv/storage/storagetest"
)

// unmounting is a store whose disk is unmounted before a Put gets to it.
type unmounting struct {
	storage.Store
	unmount func()
}

func (s *unmounting) Put(ctx context.Context, key string, src storage.Source) error {
	s.unmount()
	return s.Store.Put(ctx, key, src)
}

func (s *unmounting) Create(ctx context.Context, key string) (storage.Upload, error) {
	u, err := storage.Create(ctx, s.Store, key)
	s.unmount()
	return u, err
}

// Nothing is confirmed that went below a mount point, whenever the disk went.
func TestAnchored(t *testing.T) {
	ctx := t.Context()
	root := filepath.Join(t.TempDir(), "archive")
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	mounted := true
	unmount := func() {
		if !mounted {
			return
		}
		mounted = false
		if err := errors.Join(os.Rename(root, root+".away"), os.Mkdir(root, 0o700)); err != nil {
			t.Fatal(err)
		}
	}
	mount := func() {
		mounted = true
		if err := errors.Join(os.RemoveAll(root), os.Rename(root+".away", root)); err != nil {
			t.Fatal(err)
		}
	}
	id := Identity{SystemID: 7411122233344455566, SegmentSize: 1 << 20, Major: 15}
	disk := local.New(vfs.OS(), root, local.Private)
	s := Anchor(disk, id)
	if _, err := Init(ctx, s, id, Keys{}); err != nil {
		t.Fatal(err)
	}
	put := func(s storage.Store, key string) error { return s.Put(ctx, key, storage.BytesSource([]byte("x"))) }
	upload := func(s storage.Store, key string) error {
		u, err := storage.Create(ctx, s, key)
		if err != nil {
			return err
		}
		defer func() { _ = u.Abort() }()
		if _, err := u.Write([]byte("x")); err != nil {
			return err
		}
		return u.Commit()
	}
	if err := put(s, "a/1"); err != nil {
		t.Fatal(err)
	}
	if err := upload(s, "a/1"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("put again, as an upload: %v", err)
	}
	if err := put(s, "a/1"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("put again: %v", err)
	}

	unmount()
	noAnswer := func(what string, err error) {
		t.Helper()
		if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist) {
			t.Errorf("%s without the disk: %v", what, err)
		}
	}
	noAnswer("put", put(s, "a/2"))
	noAnswer("upload", upload(s, "a/2"))
	noAnswer("list", s.List(ctx, "", func(storage.Info) error { return nil }))
	noAnswer("list from a key", storage.ListFrom(ctx, s, "", "a", func(storage.Info) error { return nil }))
	noAnswer("list directories", storage.ListDirs(ctx, s, "", func(string) error { return nil }))
	if entries, err := os.ReadDir(root); err != nil || len(entries) > 0 {
		t.Errorf("below the mount point: %v, %v", entries, err)
	}

	mount()
	noAnswer("put on its way", put(Anchor(&unmounting{disk, unmount}, id), "a/2"))
	mount()
	noAnswer("upload on its way", upload(Anchor(&unmounting{disk, unmount}, id), "a/2"))
	mount()
	if err := upload(s, "a/2"); err != nil {
		t.Errorf("put after all: %v", err)
	}
	var dirs []string
	err := storage.ListDirs(ctx, s, "", func(name string) error { dirs = append(dirs, name); return nil })
	if err != nil || len(dirs) != 2 {
		t.Errorf("directories: %v, %v", dirs, err)
	}
}

// What a store can do besides, it can do with an anchor.
func TestAnchoredDeletes(t *testing.T) {
	id := Identity{SystemID: 7411122233344455566, SegmentSize: 1 << 20, Major: 15}
	mem := storagetest.NewMem()
	s := Anchor(mem, id)
	if _, err := Init(t.Context(), s, id, Keys{}); err != nil {
		t.Fatal(err)
	}
	if err := s.(storage.Deleter).Delete(t.Context(), id.key()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Stat(t.Context(), id.key()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after the delete: %v", err)
	}
	if _, ok := Anchor(struct{ storage.Store }{mem}, id).(storage.Deleter); ok {
		t.Error("an anchored store deletes what the store below cannot")
	}
}
