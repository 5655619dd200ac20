package archive

import (
	"bytes"
	"errors"
	"testing"

	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage/storagetest"
)

func TestRubbishIsNotArchived(t *testing.T) {
	store := storagetest.NewMem()
	a, scratch, disk := newArchive(t, store)
	keys := len(store.Keys())
	n := name(1, 7)
	foreign := wal(n, 3, 0)
	foreign[24]++ // the system identifier
	for what, data := range map[string][]byte{
		"of another segment": wal(name(1, 8), 3, 0),
		"of another cluster": foreign,
		"zeros":              make([]byte, testSize),
		"empty":              {},
	} {
		for _, put := range []func() error{
			func() error { return a.PutSegment(t.Context(), scratch, n, opener(data)) },
			func() error { return a.PutPartial(t.Context(), scratch, n, opener(data)) },
		} {
			var corrupt *segment.CorruptError
			if err := put(); !errors.As(err, &corrupt) {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	for what, data := range map[string][]byte{
		"too short": wal(n, 3, 0)[:testSize-1],
		"too long":  append(wal(n, 3, 0), 0),
	} {
		var local *LocalError
		if err := a.PutSegment(t.Context(), scratch, n, opener(data)); !errors.As(err, &local) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if len(store.Keys()) != keys {
		t.Errorf("archived %v", store.Keys())
	}
	expectEmptyDir(t, disk)
}

func TestLocalDiskErrorsAreNotTheStores(t *testing.T) {
	n := name(1, 7)
	for k := 1; k < 100; k++ {
		mem := storagetest.NewMem()
		a, _, disk := newArchive(t, mem)
		ops := 0
		fired := false
		disk2 := vfs.NewFault(disk, func(op vfs.Op) error {
			if ops++; ops != k || op.Kind == vfs.OpClose || op.Kind == vfs.OpRemove {
				return nil
			}
			fired = true
			return errDisk
		})
		err := a.PutSegment(t.Context(), NewScratch(disk2, "/"), n, opener(wal(n, 128, 0)))
		var local *LocalError
		if fired && (!errors.As(err, &local) || !errors.Is(err, errDisk)) {
			t.Fatalf("disk operation %d failed: %v", k, err)
		}
		if !fired && err != nil {
			t.Fatalf("disk operation %d: %v", k, err)
		}
		if ops < k {
			t.Logf("%d disk operations", k-1)
			return
		}
	}
	t.Error("the sweep does not end")
}

var errDisk = errors.New("input/output error")

// A full disk is where the archive must go on: only it can make room.
func TestNoRoomForScratch(t *testing.T) {
	n := name(1, 7)
	data := wal(n, 128, 0)
	for _, capacity := range []int64{1, 4096, 64 << 10, 400 << 10} {
		store := storagetest.NewMem()
		a, scratch, disk := newArchive(t, store)
		disk.SetCapacity(capacity)
		mustPut(t, a, scratch, n, data)
		mustPut(t, a, scratch, n, data) // the memory is free again
		if got, err := readSegment(t.Context(), a, n); err != nil || !bytes.Equal(got, data) {
			t.Errorf("room for %d: %d bytes, %v", capacity, len(got), err)
		}
		expectEmptyDir(t, disk)
	}
}

func TestStaleScratchFileIsNoTrouble(t *testing.T) {
	store := storagetest.NewMem()
	a, scratch, disk := newArchive(t, store)
	n := name(1, 7)
	old, err := disk.Create(n.Format(testSize)+scratchSuffix, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := old.WriteAt(bytes.Repeat([]byte("stale"), 1<<18), 0); err != nil {
		t.Fatal(err)
	}
	data := wal(n, 3, 0)
	mustPut(t, a, scratch, n, data)
	if got, err := readSegment(t.Context(), a, n); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	expectEmptyDir(t, disk)
}

// A private scratch file has no name for anybody else, and none that could stay.
func TestPrivateScratch(t *testing.T) {
	dir := t.TempDir()
	for _, disk := range []struct {
		fsys vfs.FS
		dir  string
	}{{vfs.NewMem(), "/"}, {vfs.OS(), dir}} {
		a, _, _ := newArchive(t, storagetest.NewMem())
		scratch := NewPrivateScratch(disk.fsys, disk.dir)
		n := name(1, 5)
		data := wal(n, 128, 1)
		p, err := a.PrepareSegment(t.Context(), scratch, n, opener(data))
		if err != nil {
			t.Fatal(err)
		}
		if entries, err := disk.fsys.ReadDir(disk.dir); err != nil || len(entries) > 0 {
			t.Errorf("in the directory: %v, %v", entries, err)
		}
		for range 2 {
			if err := p.Put(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		p.Remove()
		if got, err := readSegment(t.Context(), a, n); err != nil || !bytes.Equal(got, data) {
			t.Errorf("another content, %v", err)
		}
	}
}

func TestPutBackup(t *testing.T) {
	mem := storagetest.NewMem()
	a, _, _ := newArchive(t, mem)
	const file = "000000010000000000000005.00000028.backup"
	for range 2 {
		if err := a.PutBackup(t.Context(), file, []byte("START")); err != nil {
			t.Fatal(err)
		}
	}
	var conflict *ConflictError
	if err := a.PutBackup(t.Context(), file, []byte("STOP")); !errors.As(err, &conflict) {
		t.Errorf("another content: %v", err)
	}
	o, err := ParseKey(conflict.Key)
	if err != nil || o.Kind != KindBackup || o.Timeline != 1 || o.Offset != "00000028" {
		t.Errorf("%+v, %v", o, err)
	}
	for _, wrong := range []string{"000000010000000000000005", "000000000000000000000005.00000028.backup", "x"} {
		if err := a.PutBackup(t.Context(), wrong, nil); err == nil {
			t.Errorf("%q was archived", wrong)
		}
	}
}
