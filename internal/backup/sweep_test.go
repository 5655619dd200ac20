package backup

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/storagetest"
)

// dead is what a process gets that is no more.
var errDead = errors.New("the process has ended")

// sweeps are what goes wrong with the k-th request to the store.
var sweeps = map[string]func(k int) func(storagetest.Request) storagetest.Fault{
	"fails before its effect": func(k int) func(storagetest.Request) storagetest.Fault {
		return storagetest.FailAt(k, storagetest.Fault{Before: storagetest.ErrInjected})
	},
	"fails after its effect": func(k int) func(storagetest.Request) storagetest.Fault {
		return storagetest.FailAt(k, storagetest.Fault{After: storagetest.ErrInjected})
	},
	"never comes": func(k int) func(storagetest.Request) storagetest.Fault {
		return func(r storagetest.Request) storagetest.Fault {
			if r.N < k {
				return storagetest.Fault{}
			}
			return storagetest.Fault{Before: errDead}
		}
	},
	"is the last one": func(k int) func(storagetest.Request) storagetest.Fault {
		return func(r storagetest.Request) storagetest.Fault {
			switch {
			case r.N < k:
				return storagetest.Fault{}
			case r.N == k:
				return storagetest.Fault{After: errDead}
			}
			return storagetest.Fault{Before: errDead}
		}
	},
}

// TestSweep: whatever request fails, and wherever the process ends, a backup that is
// listed as good can be read, all of it, and what is not good is listed as such.
func TestSweep(t *testing.T) {
	s := newServer(t)
	for what, hook := range sweeps {
		goods := 0
		for k := 1; ; k++ {
			mem, a := newMem(t)
			store := storagetest.NewFaulty(mem, hook(k))
			c := newClock()
			c.during = func(n int) { // the WAL comes late
				if n == 1 {
					wal(mem, allWAL...)
				}
			}
			writing, err := archive.Open(t.Context(), store, testSystem, archive.Keys{})
			var b *Backup
			if err == nil {
				b, err = s.backUp(t.Context(), writing, c.wait(time.Minute))
			}
			entries := must[[]Entry](t)(List(t.Context(), a, day))
			listed := len(entries) == 1 && entries[0].State == Good
			switch {
			case err == nil && !listed, err == nil && b == nil:
				t.Errorf("request %d %s: done, and %+v", k, what, entries)
			case listed:
				goods++
				if err := s.readBack(t.Context(), a, entries[0].Backup); err != nil {
					t.Errorf("request %d %s: it is listed as good, and %v", k, what, err)
				}
			case len(entries) > 1 || len(entries) == 1 && entries[0].State != Running:
				t.Errorf("request %d %s: %+v", k, what, entries)
			case len(entries) == 0 && dataOf(mem) > 0:
				t.Errorf("request %d %s: there is data of a backup that has not begun", k, what)
			}
			if err != nil && !errors.Is(err, storagetest.ErrInjected) && !errors.Is(err, errDead) {
				t.Errorf("request %d %s: %v", k, what, err)
			}
			if store.Fired() == 0 {
				if err != nil || k < 20 {
					t.Errorf("without a fault, after %d requests: %v", k, err)
				}
				break
			}
		}
		if goods == 0 {
			t.Errorf("%s: no backup was good", what)
		}
	}
}

// dataOf counts the objects of base backups.
func dataOf(mem *storagetest.Mem) (n int) {
	for _, k := range mem.Keys() {
		if strings.Contains(k, "/backup/") {
			n++
		}
	}
	return n
}

// TestDeleteSweep: wherever a deletion ends, what is left is not good, and can be found
// and deleted.
func TestDeleteSweep(t *testing.T) {
	s := newServer(t)
	made, a := newMem(t, allWAL...)
	must[*Backup](t)(s.backUp(t.Context(), a, newClock().wait(0)))
	for what, hook := range sweeps {
		for k := 1; ; k++ {
			mem := storagetest.NewMem()
			for _, k := range made.Keys() {
				content, _ := made.Get(k)
				mem.Set(k, content)
			}
			a := openArchive(t, mem, archive.Keys{})
			entries := must[[]Entry](t)(List(t.Context(), a, day))
			store := storagetest.NewFaulty(mem, hook(k))
			deleting, err := archive.Open(t.Context(), store, testSystem, archive.Keys{})
			if err == nil {
				err = Delete(t.Context(), deleting, entries[0])
			}
			if (err == nil) != (store.Fired() == 0) {
				t.Errorf("request %d %s: %v", k, what, err)
			}
			left := must[[]Entry](t)(List(t.Context(), a, day))
			switch {
			case len(left) == 0 && dataOf(mem) > 0:
				t.Errorf("request %d %s: nobody finds what is left: %v", k, what, mem.Keys())
			case len(left) == 1 && left[0].State == Good:
				if err := s.readBack(t.Context(), a, left[0].Backup); err != nil {
					t.Errorf("request %d %s: it is listed as good, and %v", k, what, err)
				}
			case len(left) == 1 && left[0].State != Running:
				t.Errorf("request %d %s: %+v", k, what, left)
			}
			for _, e := range left {
				if err := Delete(t.Context(), a, e); err != nil || dataOf(mem) > 0 {
					t.Errorf("request %d %s: deleted again: %v, %v", k, what, err, mem.Keys())
				}
			}
			if store.Fired() == 0 {
				break
			}
		}
	}
}

func TestDeleteRefuses(t *testing.T) {
	mem, a := newMem(t)
	set(mem, "x", archive.BackupStart, []byte(`{"format":2}`))
	e := must[[]Entry](t)(List(t.Context(), a, day))[0]
	var format *archive.FormatError
	if err := Delete(t.Context(), a, e); !errors.As(err, &format) || dataOf(mem) != 1 {
		t.Errorf("one of a later version: %v", err)
	}
	without := openArchive(t, struct{ storage.Store }{mem}, archive.Keys{})
	if err := Delete(t.Context(), without, Entry{Start: Start{ID: "x"}}); !errors.Is(err, archive.ErrCannotDelete) {
		t.Errorf("a store that does not delete: %v", err)
	}
}
