package vfs

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// lockDirVariable names the directory that the test binary locks, instead of
// running tests, until it is killed.
const lockDirVariable = "VFS_TEST_LOCK_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(lockDirVariable); dir != "" {
		holdLock(dir)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// holdLock says "locked" and keeps the lock until its standard input ends,
// which it does at the latest with the process that started this one.
func holdLock(dir string) {
	lock, err := OS().Lock(dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer lock.Close()
	fmt.Println("locked")
	_, _ = io.Copy(io.Discard, os.Stdin) // it ends with the process that started this one
}

func TestLockEndsWithItsProcess(t *testing.T) {
	dir := t.TempDir()
	holder := exec.Command(os.Args[0])
	holder.Env = append(os.Environ(), lockDirVariable+"="+dir)
	stdin := must(holder.StdinPipe())(t)
	defer stdin.Close()
	out := must(holder.StdoutPipe())(t)
	check(t, holder.Start())
	defer func() { _ = holder.Process.Kill() }() // it may have ended
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "locked\n" {
		t.Fatalf("the other process says %q, %v", line, err)
	}
	_, err := OS().Lock(dir)
	wantErr(t, err, ErrLocked)

	check(t, holder.Process.Signal(syscall.SIGKILL))
	if err := holder.Wait(); err == nil {
		t.Fatal("the other process ended by itself")
	}
	check(t, must(OS().Lock(dir))(t).Close())
}

func TestPermissionsWhateverTheUmask(t *testing.T) {
	dir, mem := t.TempDir(), NewMem()
	old := syscall.Umask(0o777)
	defer syscall.Umask(old)
	for _, system := range []struct {
		fsys FS
		dir  string
		perm func(string) (fs.FileMode, error)
	}{
		{OS(), dir, osPerm},
		{mem, "/", mem.Perm},
	} {
		file, sub := filepath.Join(system.dir, "file"), filepath.Join(system.dir, "sub")
		check(t, must(system.fsys.Create(file, 0o640))(t).Close())
		check(t, system.fsys.Mkdir(sub, 0o750))
		for name, want := range map[string]fs.FileMode{file: 0o640, sub: 0o750} {
			if got := must(system.perm(name))(t); got != want {
				t.Errorf("%s: permissions %v, not %v", name, got, want)
			}
		}
	}
}

func osPerm(name string) (fs.FileMode, error) {
	info, err := os.Stat(name)
	if err != nil {
		return 0, err
	}
	return info.Mode().Perm(), nil
}

// A directory that was moved to another disk is one all the same.
func TestReadDirFollowsLinks(t *testing.T) {
	dir := t.TempDir()
	for link, target := range map[string]string{"dir": t.TempDir(), "file": filepath.Join(dir, "real"), "nowhere": filepath.Join(dir, "absent")} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "real"), []byte("12345"), 0o600); err != nil {
		t.Fatal(err)
	}
	entries, err := OS().ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Dir != (e.Name == "dir") || e.Name == "file" && e.Size != 5 {
			t.Errorf("%+v", e)
		}
	}
	if len(entries) != 4 {
		t.Errorf("%d entries", len(entries))
	}
}

// TestReadDirOf: who wants few of many names does not pay for looking at the others.
func TestReadDirOf(t *testing.T) {
	dir, mem := t.TempDir(), NewMem()
	check(t, mem.Mkdir("d", 0o700))
	const files = 200
	for i := range files {
		for fsys, dir := range map[FS]string{OS(): dir, mem: "d"} {
			f, err := fsys.Create(filepath.Join(dir, fmt.Sprint(i)), 0o600)
			check(t, err)
			check(t, f.Close())
		}
	}
	few := func(name string) bool { return strings.HasPrefix(name, "17") }
	for fsys, dir := range map[FS]string{OS(): dir, mem: "d"} {
		entries, err := ReadDirOf(fsys, dir, few)
		var names []string
		for _, e := range entries {
			names = append(names, e.Name)
		}
		if got := strings.Join(names, " "); err != nil || got != "17 170 171 172 173 174 175 176 177 178 179" {
			t.Errorf("%s, %v", got, err)
		}
		if _, err := ReadDirOf(fsys, filepath.Join(dir, "absent"), few); !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	}
	all := testing.AllocsPerRun(3, func() { _, _ = OS().ReadDir(dir) })
	some := testing.AllocsPerRun(3, func() { _, _ = ReadDirOf(OS(), dir, few) })
	if some > all-files/2 {
		t.Errorf("%.0f allocations for a few names, %.0f for all", some, all)
	}
}

// TestReadDirWhileNamesGo lists a directory while another goroutine makes and
// removes files: one that vanishes during the listing is no error.
func TestReadDirWhileNamesGo(t *testing.T) {
	dir := t.TempDir()
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- churn(dir, stop) }()
	for range 300 {
		if _, err := OS().ReadDir(dir); err != nil {
			t.Error(err)
			break
		}
	}
	close(stop)
	check(t, <-done)
}

func churn(dir string, stop <-chan struct{}) error {
	for i := 0; ; i++ {
		select {
		case <-stop:
			return nil
		default:
		}
		name := filepath.Join(dir, fmt.Sprint(i%20))
		f, err := OS().Create(name, 0o600)
		if err == nil {
			err = errors.Join(f.Close(), OS().Remove(name))
		}
		if err != nil {
			return err
		}
	}
}

// sizedWriter records the greatest write.
type sizedWriter struct {
	File
	greatest int
}

func (w *sizedWriter) WriteAt(p []byte, off int64) (int, error) {
	w.greatest = max(w.greatest, len(p))
	return w.File.WriteAt(p, off)
}

// TestFillZeros is about file systems that cannot reserve blocks.
func TestFillZeros(t *testing.T) {
	const from, to = 5001, 3<<20 + 17
	want := bytes.Repeat([]byte{7}, from)
	w := &sizedWriter{File: must(NewMem().Create("a", 0o600))(t)}
	_, err := w.File.WriteAt(want, 0)
	check(t, err)
	check(t, fillZeros(w, from, to))
	if w.greatest != zeroPiece {
		t.Errorf("wrote %d bytes at once", w.greatest)
	}
	got := make([]byte, to+1)
	n, err := w.ReadAt(got, 0)
	if n != to || err != io.EOF {
		t.Fatalf("read %d bytes, %v", n, err)
	}
	if !bytes.Equal(got[:to], append(want, make([]byte, to-from)...)) {
		t.Error("not the old bytes and zeros")
	}
}

func TestFillZerosOnAFullDisk(t *testing.T) {
	mem := NewMem()
	mem.SetCapacity(2 << 20)
	f := must(mem.Create("a", 0o600))(t)
	wantErr(t, fillZeros(f, 0, 3<<20), syscall.ENOSPC)
	if size := must(f.Size())(t); size != 2<<20 {
		t.Errorf("%d bytes found room", size)
	}
	// What is missing can be filled later.
	mem.SetCapacity(0)
	check(t, fillZeros(f, 2<<20, 3<<20))
}
