package vfs

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestPreallocateReservesBlocks(t *testing.T) {
	const size = 3<<20 + 17
	name := filepath.Join(t.TempDir(), "a")
	f := must(OS().Create(name, 0o600))(t)
	defer f.Close()
	check(t, f.Preallocate(size))
	stat := must(os.Stat(name))(t).Sys().(*syscall.Stat_t)
	if stat.Size != size || stat.Blocks*512 < size {
		t.Fatalf("%d bytes with %d of them in blocks", stat.Size, stat.Blocks*512)
	}
}
