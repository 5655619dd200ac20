package extract

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/vfs"
)

// spaceTree is what a tablespace has to have after a restore.
func spaceTree(file, content string) map[string]string {
	return map[string]string{
		".": "drwx------", "PG_15_202209061": "drwx------", "PG_15_202209061/5": "drwx------", "PG_15_202209061/5/" + file: "-rw------- " + content,
	}
}

func TestRun(t *testing.T) {
	for _, umask := range []int{0, 0o777} {
		w := newWorld(t)
		var last atomic.Int64
		old := syscall.Umask(umask)
		result, err := w.run(Options{Reread: true, Progress: func(done, total int64) {
			if done > total {
				t.Errorf("%d of %d bytes are done", done, total)
			}
			if done == total {
				last.Store(done)
			}
		}})
		syscall.Umask(old)
		if err != nil {
			t.Fatal(err)
		}
		w.expect(w.dir, w.wanted(false))
		w.expect(w.backup.Tablespaces[0].Location, spaceTree("16386", "in a"))
		w.expect(w.backup.Tablespaces[1].Location, spaceTree("16387", "in b"))
		if result.Files != 11 || last.Load() != 2*result.Bytes || result.Tablespaces[16384] != w.backup.Tablespaces[0].Location {
			t.Errorf("%+v, progress to %d", result, last.Load())
		}
	}
}

// TestPermissions: the group may read what it could read in the cluster, others never.
func TestPermissions(t *testing.T) {
	w := newWorld(t)
	for i := range w.tars[0] {
		e := &w.tars[0][i]
		if *e == cut {
			continue
		}
		e.mode = 0o666
		if strings.HasSuffix(e.name, "/") {
			e.mode = 0o777
		}
	}
	if _, err := w.run(Options{}); err != nil {
		t.Fatal(err)
	}
	w.expect(w.dir, w.wanted(true))
}

func TestOwner(t *testing.T) {
	w := newWorld(t)
	owner := &Owner{UID: os.Getuid(), GID: os.Getgid()}
	if os.Getuid() == 0 {
		owner = &Owner{UID: 65534, GID: 65533}
	}
	w.dir = filepath.Join(w.outer, "above", "data")
	prepare := func(dir string) error {
		return errors.Join(os.WriteFile(filepath.Join(dir, "recovery.signal"), nil, 0o600),
			os.WriteFile(filepath.Join(dir, "pg_wal", "000000010000000000000002"), nil, 0o600))
	}
	if _, err := w.run(Options{Owner: owner, Prepare: prepare}); err != nil {
		t.Fatal(err)
	}
	n := 0
	for name := range tree(t, w.outer) {
		info, err := os.Lstat(filepath.Join(w.outer, name))
		if err != nil {
			t.Fatal(err)
		}
		uid, gid, _ := ownerOf(info)
		if name != "." && (uid != owner.UID || gid != owner.GID) {
			t.Errorf("%s belongs to %d:%d", name, uid, gid)
		}
		n++
	}
	if n < 25 {
		t.Errorf("only %d files", n)
	}
}

// TestOrder: when the caller adds its own, all is there but pg_control.
func TestOrder(t *testing.T) {
	w := newWorld(t)
	called := false
	_, err := w.run(Options{Prepare: func(dir string) error {
		called = true
		want := w.wanted(false)
		delete(want, "global/pg_control")
		w.expect(dir, want)
		return nil
	}})
	if err != nil || !called {
		t.Error(called, err)
	}
}

// TestUndo: whatever fails, what was there is as it was.
func TestUndo(t *testing.T) {
	broken := errors.New("broken")
	tests := []struct {
		name string
		set  func(*world) Options
		want string
	}{
		{"an object is missing", func(w *world) Options {
			delete(w.shelf.files, "base.000002.tar.zst")
			return Options{}
		}, "is damaged: its object base.000002.tar.zst is missing"},
		{"the manifest is missing", func(w *world) Options {
			delete(w.shelf.files, "backup_manifest.zst")
			return Options{}
		}, "is missing"},
		{"an object is damaged", func(w *world) Options {
			w.shelf.fail["base.000003.tar.zst"] = []failure{{600, &archive.DamagedError{Key: "base.000003", Reason: "altered"}}}
			return Options{}
		}, "altered"},
		{"an object ends early", func(w *world) Options {
			w.shelf.files["base.000002.tar.zst"] = w.shelf.files["base.000002.tar.zst"][:1024]
			return Options{}
		}, `it lacks 1 of the files in its manifest, "base/1/114"`},
		{"an object ends in a file", func(w *world) Options {
			w.shelf.files["base.000001.tar.zst"] = w.shelf.files["base.000001.tar.zst"][:9000]
			return Options{}
		}, "unexpected EOF"},
		{"the store fails for good", func(w *world) Options {
			w.shelf.fail["16384.000001.tar.zst"] = []failure{{512, broken}, {512, broken}, {512, broken}, {512, broken}, {512, broken}}
			return Options{}
		}, "16384.000001.tar.zst of base backup 20261122T073000Z: broken"},
		{"the caller fails", func(*world) Options {
			return Options{Prepare: func(dir string) error {
				return errors.Join(os.WriteFile(filepath.Join(dir, "standby.signal"), nil, 0o600), broken)
			}}
		}, "broken"},
		{"no identity", func(w *world) Options {
			w.shelf.fail["base.000001.tar.zst"] = []failure{{0, archive.ErrEncrypted}}
			return Options{}
		}, "base backup 20261122T073000Z: the object is encrypted"},
		{"it is another cluster's", func(w *world) Options {
			w.shelf.system++
			return Options{}
		}, "its manifest is of the cluster"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.pack()
			o := tt.set(w)
			w.dir = filepath.Join(w.outer, "a", "b", "data")
			if _, err := w.run(o); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
			w.expect(w.outer, map[string]string{".": mode(t, w.outer)})

			w = newWorld(t)
			w.pack()
			o = tt.set(w)
			if err := os.Mkdir(w.dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if _, err := w.run(o); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("into a directory that is there: %v, want %q", err, tt.want)
			}
			w.expect(w.outer, map[string]string{".": mode(t, w.outer), "data": "drwxr-xr-x"})
		})
	}
}

func mode(t *testing.T, dir string) string {
	t.Helper()
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode().String()
}

// TestUndoLeavesStrangers: what somebody else puts there meanwhile stays.
func TestUndoLeavesStrangers(t *testing.T) {
	w := newWorld(t)
	_, err := w.run(Options{Prepare: func(string) error {
		place := filepath.Join(w.backup.Tablespaces[0].Location, "precious")
		return errors.Join(os.WriteFile(place, []byte("x"), 0o600), errors.New("broken"))
	}})
	if err == nil || !strings.Contains(err.Error(), "could not be removed") {
		t.Error(err)
	}
	w.expect(w.backup.Tablespaces[0].Location, map[string]string{".": "drwx------", "precious": "-rw------- x"})
}

// TestCancel ends a run after each piece of work that it tells of.
func TestCancel(t *testing.T) {
	for n := int64(1); ; n += 4 {
		w := newWorld(t)
		w.pack()
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("enough")
		var calls atomic.Int64
		_, err := w.extraction(Options{Dir: w.dir, Reread: true, Progress: func(int64, int64) {
			if calls.Add(1) == n {
				cancel(why)
			}
		}}).run(ctx)
		cancel(nil)
		if err == nil {
			if n < 15 {
				t.Errorf("it ended before its step %d", n)
			}
			return
		}
		if !errors.Is(err, why) {
			t.Errorf("%d: %v", n, err)
		}
		w.expect(w.outer, map[string]string{".": mode(t, w.outer)})
	}
}

// TestStoreFails: what the store fails with for a while does not matter, wherever it
// happens.
func TestStoreFails(t *testing.T) {
	broken := errors.New("connection reset")
	w := newWorld(t)
	w.pack()
	w.shelf.fail["backup_manifest.zst"] = []failure{{100, broken}, {0, broken}}
	w.shelf.fail["16384.000001.tar.zst"] = []failure{{0, broken}, {512, broken}}
	// More tries than there is patience for, but each of them gets further.
	for _, after := range []int{512, 1500, 2048, 5000, 5000, 90000, 1 << 20} {
		w.shelf.fail["base.000001.tar.zst"] = append(w.shelf.fail["base.000001.tar.zst"], failure{after, broken})
	}
	w.shelf.fail["base.000003.tar.zst"] = []failure{{1 << 20, broken}} // only the proof at its end
	var last atomic.Int64
	result, err := w.run(Options{Progress: func(done, _ int64) { last.Store(done) }})
	if err != nil {
		t.Fatal(err)
	}
	w.expect(w.dir, w.wanted(false))
	if last.Load() > result.Bytes {
		t.Errorf("%d of %d bytes", last.Load(), result.Bytes)
	}
}

func TestNotEmpty(t *testing.T) {
	w := newWorld(t)
	for _, dir := range []string{w.dir, w.backup.Tablespaces[1].Location} {
		w := *w
		if err := os.MkdirAll(filepath.Join(dir, "lost+found"), 0o755); err != nil {
			t.Fatal(err)
		}
		before := tree(t, w.outer)
		_, err := w.run(Options{})
		for _, err := range []error{err, Check(w.backup, Options{Dir: w.dir})} {
			var notEmpty *NotEmptyError
			if !errors.As(err, &notEmpty) || notEmpty.Dir != dir || !strings.Contains(err.Error(), "use a directory in it") {
				t.Error(err)
			}
		}
		w.expect(w.outer, before)
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLocked: two restores into one directory do not mix.
func TestLocked(t *testing.T) {
	w := newWorld(t)
	if err := os.Mkdir(w.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	lock, err := vfs.OS().Lock(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if _, err := w.run(Options{}); !errors.Is(err, vfs.ErrLocked) {
		t.Error(err)
	}
}

func TestReread(t *testing.T) {
	for name, change := range map[string]func(dir string) error{
		"a byte":   func(dir string) error { return os.WriteFile(filepath.Join(dir, "PG_VERSION"), []byte("18\n"), 0o600) },
		"shorter":  func(dir string) error { return os.Truncate(filepath.Join(dir, "base/1/112"), 100) },
		"gone":     func(dir string) error { return os.Remove(filepath.Join(dir, "base/1/114")) },
		"stranger": func(dir string) error { return os.WriteFile(filepath.Join(dir, "base/1/999"), nil, 0o600) },
		"other":    func(dir string) error { return os.Mkdir(filepath.Join(dir, "pg_wal/summaries"), 0o700) },
	} {
		w := newWorld(t)
		w.pack()
		x := w.extraction(Options{Dir: w.dir, Reread: true})
		for _, step := range []func(context.Context) error{
			func(context.Context) error { return errors.Join(x.plan(), x.claim()) },
			x.readManifest, x.unpackAll, x.complete, x.link, x.syncAll, x.rereadAll,
		} {
			if err := step(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if err := change(w.dir); err != nil {
			t.Fatal(err)
		}
		if err := x.rereadAll(t.Context()); err == nil {
			t.Errorf("%s: nothing was found", name)
		}
		x.release()
	}
}

// TestDamage changes each file of the backup, and the manifest.
func TestDamage(t *testing.T) {
	w := newWorld(t)
	w.pack()
	check := func(what string) {
		t.Helper()
		_, err := w.run(Options{})
		var damaged *DamagedError
		if !errors.As(err, &damaged) {
			t.Errorf("%s: %v", what, err)
		}
		w.expect(w.outer, map[string]string{".": mode(t, w.outer)})
	}
	for file, data := range w.shelf.files {
		step := max(len(data)/4, 1)
		if file == "backup_manifest.zst" {
			step = 211
		}
		for i := 0; i < len(data); i += step {
			if data[i] == 0 || len(data)-i <= 66 && file == "backup_manifest.zst" {
				continue // a zero may be behind the end of a file, where it is of no file
			}
			data[i] ^= 1
			check(fmt.Sprintf("%s: byte %d", file, i))
			data[i] ^= 1
		}
	}
	if _, err := w.run(Options{}); err != nil {
		t.Error(err)
	}
}

// TestRefusedIsUntouched: not even the times of a directory change.
func TestRefusedIsUntouched(t *testing.T) {
	w := newWorld(t)
	if err := os.MkdirAll(filepath.Join(w.dir, "precious"), 0o755); err != nil {
		t.Fatal(err)
	}
	changed := func() string {
		info, err := os.Stat(w.dir)
		if err != nil {
			t.Fatal(err)
		}
		st := reflect.ValueOf(info.Sys()).Elem()
		for _, name := range []string{"Ctim", "Ctimespec"} {
			if f := st.FieldByName(name); f.IsValid() {
				return fmt.Sprint(f.Interface())
			}
		}
		t.Fatal("no time of change")
		return ""
	}
	before := changed()
	if _, err := w.run(Options{Owner: &Owner{UID: os.Getuid(), GID: os.Getgid()}}); err == nil {
		t.Error("it was taken")
	}
	if after := changed(); after != before {
		t.Errorf("changed at %s, then at %s", before, after)
	}
}
