package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/local"
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
	id := archive.Identity{SystemID: 7411122233344455566, SegmentSize: 1 << 20, Major: 15}
	disk := local.New(vfs.OS(), root, local.Private)
	s := anchor(disk, id)
	if _, err := archive.Init(ctx, s, id); err != nil {
		t.Fatal(err)
	}
	put := func(s storage.Store, key string) error { return s.Put(ctx, key, storage.BytesSource([]byte("x"))) }
	if err := put(s, "a/1"); err != nil {
		t.Fatal(err)
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
	noAnswer("list", s.List(ctx, "", func(storage.Info) error { return nil }))
	if entries, err := os.ReadDir(root); err != nil || len(entries) > 0 {
		t.Errorf("below the mount point: %v, %v", entries, err)
	}

	mount()
	noAnswer("put on its way", put(anchor(&unmounting{disk, unmount}, id), "a/2"))
	mount()
	if err := put(s, "a/2"); err != nil {
		t.Errorf("put after all: %v", err)
	}
}
