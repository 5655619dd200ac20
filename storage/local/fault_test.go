package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/storage"
)

// putFaults are what the operations of a Put fail with.
var putFaults = map[string]error{
	"EIO":           syscall.EIO,
	"after":         vfs.After(syscall.EIO),
	"short":         vfs.ShortWrite(100, syscall.ENOSPC),
	"lost sync":     vfs.LoseUnsynced(syscall.EIO),
	"not there":     fs.ErrNotExist,
	"there":         fs.ErrExist,
	"not directory": syscall.ENOTDIR,
}

// TestPutWithEveryFault fails each operation of a Put in several ways. The Put
// gives no false answer, the object is whole or absent, and no scratch file is
// left unless it was its removal that failed. A second try succeeds, or finds
// the first one's object.
func TestPutWithEveryFault(t *testing.T) {
	runs, failed := 0, 0
	for name, fault := range putFaults {
		for _, o := range []object{objects()[0], objects()[1]} {
			for k := 0; ; k++ {
				hit, err := putWithFault(t, o, k, name, fault)
				if hit == "" {
					break
				}
				runs++
				if err != nil {
					failed++
				}
			}
		}
	}
	t.Logf("%d faults, %d puts failed", runs, failed)
	if runs < 200 || failed < runs/2 {
		t.Errorf("%d faults, %d puts failed: too few", runs, failed)
	}
}

// putWithFault fails operation k of a Put, and returns which one that was,
// nothing if there is none, and what the Put returned.
func putWithFault(t *testing.T, o object, k int, name string, fault error) (hit vfs.OpKind, err error) {
	t.Helper()
	mem := vfs.NewMem()
	newMemStore(t, mem)
	over := false
	s := New(vfs.NewFault(mem, func(op vfs.Op) error {
		if over || op.Index != k {
			return nil
		}
		hit = op.Kind
		if name == "there" && hit == vfs.OpSyncDir {
			return syscall.EIO // no sync fails with EEXIST
		}
		return fault
	}), root, Private)
	err = o.putTo(t, s)
	over = true
	where := fmt.Sprintf("%s at %d, %s", name, k, hit)

	notAnAnswer(t, err)
	if errors.Is(err, storage.ErrNoRoot) || errors.Is(err, ErrNoHardLinks) {
		t.Errorf("%s: put says %v", where, err)
	}
	if err == nil && !harmless(name, hit) {
		t.Errorf("%s: put hides it", where)
	}
	left := strings.Join(files(t, mem, root), " ")
	mayLeave := hit == vfs.OpRemove || hit == vfs.OpCreate && name == "after"
	if strings.Contains(left, "~") && !mayLeave {
		t.Errorf("%s: leaves %s", where, left)
	}
	if !o.there(t, s) && err == nil {
		t.Errorf("%s: put succeeds, and the object is not there", where)
	}
	if err := o.putTo(t, s); err != nil && !errors.Is(err, fs.ErrExist) {
		t.Errorf("%s: second put: %v", where, err)
	}
	if !o.there(t, New(mem.CrashClone(nil), root, Private)) {
		t.Errorf("%s: the object is not durable after the second put", where)
	}
	return hit, err
}

// harmless reports whether a Put may succeed in spite of a fault.
func harmless(name string, hit vfs.OpKind) bool {
	switch hit {
	case "", vfs.OpRemove, vfs.OpClose: // neither has a part in publishing
		return true
	case vfs.OpMkdir:
		return name == "there" // another writer may have made it
	case vfs.OpOpenRead, vfs.OpCreate:
		return name == "not there" // the key is free; the directory is made again
	}
	return false
}

// TestReadsWithEveryFault fails each operation of the other calls. None of them
// then says that something is absent.
func TestReadsWithEveryFault(t *testing.T) {
	mem := vfs.NewMem()
	clean := newMemStore(t, mem)
	for _, o := range objects() {
		if err := o.putTo(t, clean); err != nil {
			t.Fatal(err)
		}
	}
	for name, call := range map[string]func(*Store) error{
		"stat":          func(s *Store) error { _, err := s.Stat(t.Context(), "7/wal/00000001/A"); return err },
		"stat absent":   func(s *Store) error { _, err := s.Stat(t.Context(), "7/wal/00000001/Z"); return err },
		"stat nowhere":  func(s *Store) error { _, err := s.Stat(t.Context(), "8/wal/00000001/Z"); return err },
		"read":          func(s *Store) error { return readAll(t, s, "7/wal/00000001/A") },
		"read absent":   func(s *Store) error { return readAll(t, s, "absent") },
		"list":          func(s *Store) error { return listAll(t, s, "") },
		"list some":     func(s *Store) error { return listAll(t, s, "7/wal/0") },
		"list nothing":  func(s *Store) error { return listAll(t, s, "7/nothing/0") },
		"delete absent": func(s *Store) error { return s.Delete(t.Context(), "7/wal/00000001/Z") },
		"sweep":         func(s *Store) error { _, err := s.Sweep(t.Context(), time.Now()); return err },
	} {
		for k := 0; ; k++ {
			var hit vfs.OpKind
			faulty := vfs.NewFault(mem, func(op vfs.Op) error {
				if op.Index != k {
					return nil
				}
				hit = op.Kind
				return syscall.EIO
			})
			err := call(New(faulty, root, Private))
			if hit == "" {
				if k == 0 {
					t.Errorf("%s does nothing", name)
				}
				break
			}
			if hit != vfs.OpClose && !errors.Is(err, syscall.EIO) {
				t.Errorf("%s: %s fails, call %d, and what it returns is %v", name, hit, k, err)
			}
			if hit != vfs.OpClose {
				notAnAnswer(t, err)
			}
		}
	}
}

func readAll(t *testing.T, s storage.Store, key string) error {
	body, _, err := s.Open(t.Context(), key)
	if err != nil {
		return err
	}
	defer body.Close()
	_, err = io.ReadAll(body)
	return err
}

func listAll(t *testing.T, s storage.Store, prefix string) error {
	return s.List(t.Context(), prefix, func(storage.Info) error { return nil })
}

func TestNoHardLinks(t *testing.T) {
	for reason, want := range map[error]bool{
		syscall.EPERM: true, syscall.EOPNOTSUPP: true, syscall.ENOSYS: true,
		syscall.EIO: false, syscall.EACCES: false,
	} {
		mem := vfs.NewMem()
		newMemStore(t, mem)
		s := New(vfs.NewFault(mem, func(op vfs.Op) error {
			if op.Kind == vfs.OpLink {
				return reason
			}
			return nil
		}), root, Private)
		err := objects()[0].putTo(t, s)
		if errors.Is(err, ErrNoHardLinks) != want || !errors.Is(err, reason) {
			t.Errorf("link fails with %v: put returns %v", reason, err)
		}
		if left := files(t, mem, root); len(left) > 0 {
			t.Errorf("link fails with %v: put leaves %v", reason, left)
		}
	}
	// What a source fails with says nothing about links.
	s := newMemStore(t, vfs.NewMem())
	if err := s.Put(t.Context(), "key", brokenSource{syscall.EPERM}); errors.Is(err, ErrNoHardLinks) {
		t.Error(err)
	}
}

type brokenSource struct{ err error }

func (s brokenSource) Open() (io.ReadSeekCloser, error) { return nil, s.err }
func (s brokenSource) Size() int64                      { return 1 }

func TestFullDisk(t *testing.T) {
	for _, o := range objects()[:2] {
		mem := vfs.NewMem()
		s := newMemStore(t, mem)
		mem.SetCapacity(8192)
		err := o.putTo(t, s)
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("put returns %v", err)
		}
		if mem.Used() != 0 {
			t.Errorf("%d bytes stay in use", mem.Used())
		}
		mem.SetCapacity(0)
		if err := o.putTo(t, s); err != nil {
			t.Error(err)
		}
	}
}

// hookedSource calls a hook when its content is read.
type hookedSource struct {
	storage.Source
	hook func()
}

func (s hookedSource) Open() (io.ReadSeekCloser, error) {
	s.hook()
	return s.Source.Open()
}

// TestLostRaces has another writer take the name while a Put is under way.
func TestLostRaces(t *testing.T) {
	mem := vfs.NewMem()
	other := newMemStore(t, mem)
	put := func(key string) {
		if err := other.Put(t.Context(), key, storage.BytesSource([]byte("other"))); err != nil {
			t.Fatal(err)
		}
	}
	src := storage.BytesSource([]byte("content"))

	s := New(mem, root, Private)
	err := s.Put(t.Context(), "a/key", hookedSource{src, func() { put("a/key") }})
	if !errors.Is(err, fs.ErrExist) {
		t.Errorf("the key was taken: %v", err)
	}
	err = s.Put(t.Context(), "b", hookedSource{src, func() { put("b/key") }})
	if notAnAnswer(t, err); err == nil || !strings.Contains(err.Error(), "directory") {
		t.Errorf("the key became a directory: %v", err)
	}
	// The other's object is gone when this Put comes to look at it.
	s = New(vfs.NewFault(mem, func(op vfs.Op) error {
		if op.Kind == vfs.OpLink {
			put("c/key")
		}
		if op.Kind == vfs.OpSyncDir && op.Name == other.path("c") {
			_ = other.Delete(context.WithoutCancel(t.Context()), "c/key")
		}
		return nil
	}), root, Private)
	err = s.Put(t.Context(), "c/key", src)
	if notAnAnswer(t, err); err == nil {
		t.Error("put succeeds though its link failed")
	}
	if left := strings.Join(files(t, mem, root), " "); strings.Contains(left, "~") {
		t.Errorf("puts leave %s", left)
	}
}
