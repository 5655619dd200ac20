package segment_test

import (
	"path"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
)

// aheadRun writes four segments and a bit, and returns what was made and renamed on the
// way. The hook sees what happens to the file that is prepared.
func aheadRun(t *testing.T, o segment.SpoolOptions, hook func(vfs.OpKind) error) (made, renamed []string) {
	t.Helper()
	var mu sync.Mutex
	disk := newDisk(t)
	spool, err := openSpoolWith(vfs.NewFault(disk, func(op vfs.Op) error {
		mu.Lock()
		defer mu.Unlock()
		switch base := path.Base(op.Name); {
		case op.Kind == vfs.OpCreate:
			made = append(made, base)
		case op.Kind == vfs.OpRename:
			renamed = append(renamed, base)
		}
		if path.Base(op.Name) == "ahead.tmp" {
			return hook(op.Kind)
		}
		return nil
	}), o)
	must(t, err)
	made, renamed = nil, nil // the identity
	w, err := spool.NewWriter(pos(1, testSize.Start(1)))
	must(t, err)
	var wal testWAL
	for n := uint64(1); n < 5; n++ {
		at, rest := testSize.Start(n), int(testSize)
		for _, piece := range []int{10, 10, rest - 20} {
			must(t, w.Append(at, wal.bytes(1, at, piece)))
			_, err := w.Sync()
			must(t, err)
			at += segment.LSN(piece)
		}
	}
	must(t, w.Append(testSize.Start(5), wal.bytes(1, testSize.Start(5), 10)))
	_, err = w.Sync()
	must(t, err)
	l, err := spool.Scan()
	must(t, err)
	if len(l.Sealed) != 4 || len(l.Partials) != 1 || len(l.BadSize) != 0 {
		t.Errorf("listed %d segments, %d partials, %d of a wrong size", len(l.Sealed), len(l.Partials), len(l.BadSize))
	}
	must(t, w.Close())
	want := []string{
		"000000010000000000000001", "000000010000000000000002", "000000010000000000000003",
		"000000010000000000000004", "000000010000000000000005.partial", "walrecv.json",
	}
	if got := names(t, disk); !slices.Equal(got, want) {
		t.Errorf("the spool holds %q", got)
	}
	return made, renamed
}

// TestNextSegmentIsPrepared: but for the first one, no file is made when it is needed,
// none is made twice, and what was prepared in vain is not left behind.
func TestNextSegmentIsPrepared(t *testing.T) {
	made, renamed := aheadRun(t, segment.SpoolOptions{}, func(vfs.OpKind) error { return nil })
	want := []string{"000000010000000000000001.partial", "ahead.tmp", "ahead.tmp", "ahead.tmp", "ahead.tmp", "ahead.tmp"}
	if !slices.Equal(made, want) || !slices.Contains(renamed, "ahead.tmp") {
		t.Errorf("made %q, renamed %q", made, renamed)
	}
}

// TestPreparingIsAWish: what cannot be prepared, for want of room or whatever, is made
// when it is needed, and nothing fails before.
func TestPreparingIsAWish(t *testing.T) {
	for _, kind := range []vfs.OpKind{vfs.OpCreate, vfs.OpPreallocate, vfs.OpRename} {
		made, _ := aheadRun(t, segment.SpoolOptions{}, func(k vfs.OpKind) error {
			if k == kind {
				return syscall.ENOSPC
			}
			return nil
		})
		if !slices.Contains(made, "000000010000000000000003.partial") {
			t.Errorf("%s fails: made %q", kind, made)
		}
	}
}

// TestNothingIsPreparedBeyondTheLimit: the files of the spool never take more than the
// limit says because of one that is not needed yet.
func TestNothingIsPreparedBeyondTheLimit(t *testing.T) {
	made, _ := aheadRun(t, segment.SpoolOptions{Max: 4 * int64(testSize)}, func(vfs.OpKind) error { return nil })
	if prepared := len(slices.DeleteFunc(made, func(name string) bool { return name != "ahead.tmp" })); prepared != 3 {
		t.Errorf("prepared %d files where 4 segments have room", prepared)
	}
}
