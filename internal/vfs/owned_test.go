package vfs

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestOwnedAs(t *testing.T) {
	dir := t.TempDir()
	want := os.Geteuid()
	if want == 0 {
		want = 12345
		check(t, os.Chown(dir, want, want+1))
	}
	fsys := must(OwnedAs(dir))(t)
	file, sub := filepath.Join(dir, "file"), filepath.Join(dir, "sub")
	check(t, must(fsys.Create(file, 0o600))(t).Close())
	check(t, fsys.Mkdir(sub, 0o700))
	for _, name := range []string{file, sub} {
		st := must(os.Stat(name))(t).Sys().(*syscall.Stat_t)
		if int(st.Uid) != want || want == 12345 && int(st.Gid) != want+1 {
			t.Errorf("%s belongs to %d:%d", name, st.Uid, st.Gid)
		}
	}
}
