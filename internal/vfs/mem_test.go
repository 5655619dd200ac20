package vfs

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
)

func TestMemCapacity(t *testing.T) {
	mem := NewMem()
	mem.SetCapacity(4 * pageSize)
	a := must(mem.Create("a", 0o600))(t)
	check(t, a.Preallocate(2*pageSize))

	b := must(mem.Create("b", 0o600))(t)
	err := b.Preallocate(3 * pageSize)
	wantErr(t, err, syscall.ENOSPC)
	if pathErr := (*fs.PathError)(nil); !errors.As(err, &pathErr) || pathErr.Path != "b" {
		t.Errorf("the error does not name the file: %v", err)
	}
	if size := must(b.Size())(t); size != 0 {
		t.Errorf("a failed Preallocate has made %d bytes", size)
	}
	n, err := b.WriteAt(make([]byte, 3*pageSize), 100)
	wantErr(t, err, syscall.ENOSPC)
	if want := 2*pageSize - 100; n != want {
		t.Errorf("wrote %d bytes, not %d", n, want)
	}

	// Blocks that were reserved can be written on a full disk, also in a clone.
	check(t, a.Sync())
	check(t, mem.SyncDir("/"))
	for _, full := range []*Mem{mem, mem.KillClone()} {
		_, err := must(full.OpenWrite("a"))(t).WriteAt(make([]byte, 2*pageSize), 0)
		check(t, err)
		if used := full.Used(); used != 4*pageSize {
			t.Errorf("%d bytes are used", used)
		}
	}
	crashed := mem.CrashClone(nil)
	check(t, must(crashed.OpenWrite("b"))(t).Preallocate(2*pageSize))
	wantErr(t, must(crashed.OpenWrite("b"))(t).Preallocate(3*pageSize), syscall.ENOSPC)
}

// TestMemFreesBlocks follows a file to its last name and its last handle.
func TestMemFreesBlocks(t *testing.T) {
	mem := NewMem()
	f := must(mem.Create("a", 0o600))(t)
	check(t, f.Preallocate(1))
	check(t, mem.Link("a", "b"))
	put(t, mem, "c", "x")
	want := func(step string, blocks int64) {
		t.Helper()
		if used := mem.Used(); used != blocks*pageSize {
			t.Errorf("after %s %d bytes are used, not %d blocks", step, used, blocks)
		}
	}
	want("create", 2)
	check(t, mem.Remove("a"))
	want("remove", 2)
	check(t, mem.Rename("c", "b"))
	want("rename over the last name", 2)
	check(t, f.Close())
	want("close", 1)
	check(t, mem.Remove("b"))
	want("remove of the other file", 0)
}

func TestMemRefusesAnInsaneOffset(t *testing.T) {
	f := must(NewMem().Create("a", 0o600))(t)
	_, err := f.WriteAt([]byte("x"), memFileMax)
	wantErr(t, err, syscall.EFBIG)
	_, err = f.WriteAt([]byte("x"), 1<<63-1)
	wantErr(t, err, syscall.EFBIG)
	wantErr(t, f.Preallocate(memFileMax+1), syscall.EFBIG)
}

// TestMemConcurrently is for the race detector: everything at once, on a Mem
// and on its clones, which share blocks.
func TestMemConcurrently(t *testing.T) {
	mem := NewMem()
	shared := must(mem.Create("shared", 0o600))(t)
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(worker)))
			for i := range 50 {
				if err := useConcurrently(mem, shared, fmt.Sprintf("%d-%d", worker, i), rng); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if entries := must(mem.ReadDir("/"))(t); len(entries) != 1+4*50 {
		t.Errorf("%d names", len(entries))
	}
}

func useConcurrently(mem *Mem, shared File, name string, rng *rand.Rand) error {
	data := []byte(name + "content")
	_, writeErr := shared.WriteAt(data, rng.Int64N(3*pageSize))
	_, readErr := shared.ReadAt(make([]byte, 1), 0)
	err := errors.Join(writeErr, readErr, shared.Sync(), WriteNew(mem, name, 0o600, data))
	for _, clone := range []*Mem{mem.CrashClone(rng), mem.KillClone()} {
		f, openErr := clone.OpenWrite(name)
		if openErr != nil {
			return errors.Join(err, openErr)
		}
		_, writeErr := f.WriteAt([]byte("other"), 0)
		err = errors.Join(err, writeErr, f.Sync(), f.Close())
	}
	got, readErr := ReadFile(mem, name)
	if string(got) != string(data) {
		err = errors.Join(err, fmt.Errorf("%s reads %q", name, got))
	}
	return errors.Join(err, readErr)
}
