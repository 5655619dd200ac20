package local_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/local"
)

// What lies before the beginning costs nothing, through every decorator.
func TestListFromReadsNothingBefore(t *testing.T) {
	disk := vfs.NewMem()
	if err := disk.Mkdir("/root", 0o700); err != nil {
		t.Fatal(err)
	}
	var read []string
	s := local.New(vfs.NewFault(disk, func(op vfs.Op) error {
		if op.Kind == vfs.OpReadDir {
			read = append(read, op.Name)
		}
		return nil
	}), "/root", local.Private)
	for i := range 20 {
		if err := s.Put(t.Context(), fmt.Sprintf("t/%02d/a", i), storage.BytesSource(nil)); err != nil {
			t.Fatal(err)
		}
	}
	metered := storage.WithMeter(storage.WithDeadline(s), func(op storage.Op, err error) {
		if op != storage.OpList || err != nil {
			t.Errorf("told of %s, %v", op, err)
		}
	})
	read = nil
	var keys []string
	err := storage.ListFrom(t.Context(), metered, "t/", "t/18/", func(info storage.Info) error {
		keys = append(keys, info.Key)
		return nil
	})
	if want := []string{"t/18/a", "t/19/a"}; err != nil || !slices.Equal(keys, want) {
		t.Errorf("%v, %v; want %v", keys, err, want)
	}
	if want := []string{"/root/t", "/root/t/18", "/root/t/19"}; !slices.Equal(read, want) {
		t.Errorf("read %v; want %v", read, want)
	}
}
