package prefetch

import (
	"slices"
	"testing"

	"github.com/walrecv/walrecv/internal/vfs"
)

// What has a segment's name is whole also after a crash: it was synced before.
func TestStagedIsSynced(t *testing.T) {
	var ops []vfs.OpKind
	fsys := vfs.NewFault(vfs.OS(), func(op vfs.Op) error {
		ops = append(ops, op.Kind)
		return nil
	})
	d := For(fsys, t.TempDir(), 1, "/data", "archive", "")
	if err := d.Make(); err != nil {
		t.Fatal(err)
	}
	s, err := d.Begin("000000010000000000000001")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Stage(); err != nil {
		t.Fatal(err)
	}
	slices.Reverse(ops)
	if sync, rename := slices.Index(ops, vfs.OpSync), slices.Index(ops, vfs.OpRename); sync < rename || rename < 0 {
		t.Errorf("the last operations are %v", ops)
	}
}
