package local

import (
	"testing"

	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/storagetest"
)

func TestOS(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storage.Store {
		return New(vfs.OS(), t.TempDir(), GroupRead)
	})
}

func TestOSWithDeadline(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storage.Store {
		return storage.WithDeadline(New(vfs.OS(), t.TempDir(), Private))
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
