package archive

import (
	"errors"
	"path"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage/storagetest"
)

// replace sets a complete segment of the spool aside, and puts another one in its
// place.
func (r *rig) replace(n segment.Name, data []byte) {
	r.t.Helper()
	if err := r.disk.Remove(path.Join(spoolDir, n.Format(testSize))); err != nil {
		r.t.Fatal(err)
	}
	r.file(n.Format(testSize), data)
}

// A file of the spool that was replaced since it was archived is not removed.
func TestReplacedSegmentIsNotRemoved(t *testing.T) {
	r := newRig(t)
	r.sealed(name(1, 1))
	u := r.uploader(r.disk, r.mem, 1)
	if err := u.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.replace(name(1, 1), wal(name(1, 1), 2, 99))
	r.sealed(name(1, 2))
	err := u.Drain(t.Context())
	if !errors.As(err, new(*ConflictError)) {
		t.Errorf("%v", err)
	}
	if !slices.Contains(r.left(r.disk), name(1, 1).Format(testSize)) {
		t.Errorf("left %v", r.left(r.disk))
	}
}

// The same while the archive did not answer.
func TestSegmentThatIsReplacedDuringAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.sealed(name(1, 1), name(1, 2))
		tries := 0
		store := storagetest.NewFaulty(r.mem, func(req storagetest.Request) storagetest.Fault {
			if req.Op != storagetest.OpPut || req.Key != r.archive.segmentKey(name(1, 1)) {
				return storagetest.Fault{}
			}
			if tries++; tries == 1 {
				return storagetest.Fault{Before: storagetest.ErrInjected}
			}
			r.replace(name(1, 1), wal(name(1, 1), 2, 99))
			return storagetest.Fault{}
		})
		err := r.uploader(r.disk, store, 1).Drain(t.Context())
		if !errors.As(err, new(*ConflictError)) {
			t.Errorf("%v", err)
		}
		if !slices.Contains(r.left(r.disk), name(1, 1).Format(testSize)) {
			t.Errorf("left %v", r.left(r.disk))
		}
	})
}
