package backup

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/local"
)

// onDisk is the archive on a disk in memory.
func onDisk(t *testing.T, disk vfs.FS) *archive.Archive {
	t.Helper()
	return openArchive(t, local.New(disk, "/", local.Private), archive.Keys{})
}

// TestPowerCut: wherever the power fails while a backup goes into a local archive, and
// while it is deleted, what is listed as good afterwards can be read, all of it, and
// what was said to be done is.
func TestPowerCut(t *testing.T) {
	const seed = 1
	s := newServer(t)
	for what, work := range map[string]struct {
		before func(*testing.T, *archive.Archive) // durable
		do     func(*testing.T, *archive.Archive) error
		good   int // backups, once do has returned nil
	}{
		"backup": {
			func(*testing.T, *archive.Archive) {},
			func(t *testing.T, a *archive.Archive) error {
				t.Helper()
				_, err := s.backUp(t.Context(), a, newClock().wait(0))
				return err
			}, 1,
		},
		"delete": {
			func(t *testing.T, a *archive.Archive) {
				t.Helper()
				must[*Backup](t)(s.backUp(t.Context(), a, newClock().wait(0)))
			},
			func(t *testing.T, a *archive.Archive) error {
				t.Helper()
				entries, err := List(t.Context(), a, day)
				if err != nil {
					return err
				}
				return Delete(t.Context(), a, entries[0])
			}, 0,
		},
	} {
		for k := 0; ; k++ {
			disk := vfs.NewMem()
			store := local.New(disk, "/", local.Private)
			a := newArchive(t, store)
			for _, o := range allWAL {
				if err := store.Put(t.Context(), "7411122233344455566/"+o, storage.BytesSource(unread)); err != nil {
					t.Fatal(err)
				}
			}
			work.before(t, a)
			crasher := vfs.NewCrasher(disk, k, rand.New(rand.NewPCG(seed, uint64(k))))
			err := work.do(t, onDisk(t, crasher.FS()))
			left, crashed := crasher.Crashed()
			if !crashed {
				left = disk
			}
			after := onDisk(t, left)
			entries := must[[]Entry](t)(List(t.Context(), after, time.Now()))
			good := 0
			for _, e := range entries {
				if e.State == Good {
					good++
					if err := s.readBack(t.Context(), after, e.Backup); err != nil {
						t.Errorf("%s, operation %d: it is listed as good, and %v", what, k, err)
					}
				}
			}
			if err == nil && good != work.good {
				t.Errorf("%s, operation %d: done, and %+v", what, k, entries)
			}
			if !crashed {
				if err != nil {
					t.Errorf("%s without a crash: %v", what, err)
				}
				break
			}
			if err != nil && !errors.Is(err, vfs.ErrCrashed) {
				t.Errorf("%s, operation %d: %v", what, k, err)
			}
		}
	}
}
