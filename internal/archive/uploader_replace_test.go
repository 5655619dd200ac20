package archive

import (
	"errors"
	"path"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/walrecv/walrecv/internal/vfs"
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

// One that was replaced by the same bytes goes as it should, and is not put again.
func TestSegmentThatWasStreamedAgain(t *testing.T) {
	r := newRig(t)
	r.sealed(name(1, 1))
	store := &putOrder{Mem: r.mem}
	u := r.uploader(r.disk, store, 1)
	if err := u.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.replace(name(1, 1), wal(name(1, 1), 2, 0))
	r.sealed(name(1, 2))
	if err := u.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.expectLeft(name(1, 2).Format(testSize))
	if len(store.keys) != 2 {
		t.Errorf("put %v", store.keys)
	}
}

// What was not replaced is not read again.
func TestSegmentThatStaysIsReadOnce(t *testing.T) {
	r := newRig(t)
	r.sealed(name(1, 1))
	read := int64(0)
	fsys := vfs.NewFault(r.disk, func(op vfs.Op) error {
		if op.Kind == vfs.OpReadAt && path.Base(op.Name) == name(1, 1).Format(testSize) {
			read += op.Len
		}
		return nil
	})
	u := r.uploader(fsys, r.mem, 1)
	for number := range uint64(2) {
		if err := u.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.sealed(name(1, number+2))
	}
	r.expectLeft(name(1, 2).Format(testSize), name(1, 3).Format(testSize))
	if read < int64(testSize) || read >= 2*int64(testSize) {
		t.Errorf("%d bytes read of a segment of %s", read, testSize)
	}
}

// A file that is replaced while the archive does not answer is not removed.
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

// So is one that is replaced while its first upload works.
func TestSegmentThatIsReplacedDuringItsUpload(t *testing.T) {
	for what, salt := range map[string]uint64{"by the same": 0, "by another": 99} {
		t.Run(what, func(t *testing.T) {
			r := newRig(t)
			r.sealed(name(1, 1), name(1, 2))
			store := storagetest.NewFaulty(r.mem, func(req storagetest.Request) storagetest.Fault {
				if req.Op == storagetest.OpPut && req.Key == r.archive.segmentKey(name(1, 1)) {
					r.replace(name(1, 1), wal(name(1, 1), 2, salt))
				}
				return storagetest.Fault{}
			})
			err := r.uploader(r.disk, store, 1).Drain(t.Context())
			if conflict := errors.As(err, new(*ConflictError)); conflict != (salt != 0) || !conflict && err != nil {
				t.Error(err)
			}
			if left := slices.Contains(r.left(r.disk), name(1, 1).Format(testSize)); left != (salt != 0) {
				t.Errorf("left %v", r.left(r.disk))
			}
		})
	}
}

// A long queue is not listed for each of its files, and yet becomes shorter.
func TestLongQueue(t *testing.T) {
	const segments = 4 * archivedPerScan
	r := newRig(t)
	for number := range uint64(segments) {
		r.file(name(1, number+1).Format(testSize), small(name(1, number+1)))
	}
	looks, most, removed := 0, 0, 0
	fsys := vfs.NewFault(r.disk, func(op vfs.Op) error {
		switch {
		case op.Kind == vfs.OpReadDir:
			looks++
		case op.Kind == vfs.OpRemove && segment.IsSegmentName(path.Base(op.Name)):
			removed++
		case op.Kind == vfs.OpOpenRead && segment.IsSegmentName(path.Base(op.Name)):
			n, err := segment.ParseName(path.Base(op.Name), testSize)
			if err != nil {
				return err
			}
			most = max(most, int(n.Number)-1-removed)
		}
		return nil
	})
	if err := r.uploader(fsys, r.mem, 1).Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.expectLeft(name(1, segments).Format(testSize))
	if looks > segments*2/3 || most > 5 {
		t.Errorf("%d looks at %d segments, up to %d archived and not removed", looks, segments, most)
	}
}
