package receiver_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"testing"

	"github.com/walrecv/walrecv/internal/fakepg"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
)

// The crash sweep over the wire: the machine ends at the k-th operation on the
// disk while a server streams to it through a change of timeline. Whatever the
// server was told to be flushed must then be on the disk; and the receiver that
// starts again on it must come to the same end as one that never crashed.
func TestCrashSweep(t *testing.T) {
	seed := rand.Uint64()
	crashes := 0
	for k := 0; ; k += 1 + int(seed%3) {
		r := newRig(t, fakepg.Config{End: 3*mib + 4968})
		r.o.Synchronous = k%2 == 0
		disk := r.fsys.(*vfs.Mem)
		crasher := vfs.NewCrasher(disk, k, rand.New(rand.NewPCG(seed, uint64(k))))
		r.fsys = crasher.FS()
		left, crashed := r.untilCrash(crasher, 4*mib+100)
		if !crashed {
			break
		}
		crashes++
		if err := r.holdsAcknowledged(left); err != nil {
			t.Fatalf("seed %d, k=%d: %v", seed, k, err)
		}
		r.fsys = left
		r.server.SetEnd(max(r.server.End(), 3*mib+4968))
		r.start()
		if r.server.Timeline() == 1 {
			r.flushed(1, 3*mib+4968)
			r.server.Promote(2, 3*mib+4968)
		}
		r.server.SetEnd(4*mib + 100)
		r.flushed(2, 4*mib+100)
		r.halt()
		r.compare(1, mib, 3*mib+4968)
		r.compare(2, 3*mib, 4*mib+100)
		r.sound()
	}
	t.Logf("seed %d: %d crashes", seed, crashes)
	if crashes < 15 {
		t.Errorf("only %d crashes", crashes)
	}
}

// promoteAt promotes the server once it was told that everything so far is
// flushed.
func (r *rig) promoteAt(lsn uint64) {
	told := slices.ContainsFunc(r.server.Statuses(), func(s fakepg.Status) bool { return s.Flush >= lsn })
	if told && r.server.Timeline() == 1 {
		r.server.Promote(2, lsn)
		r.server.SetEnd(4*mib + 100)
	}
}

// untilCrash runs a receiver until the machine crashes, or it has everything.
func (r *rig) untilCrash(crasher *vfs.Crasher, end uint64) (*vfs.Mem, bool) {
	r.t.Helper()
	if err := r.tryStart(); err == nil {
		eventually(r.t, func() bool {
			if _, crashed := crasher.Crashed(); crashed {
				return true
			}
			r.promoteAt(3*mib + 4968)
			return slices.ContainsFunc(r.server.Statuses(), func(s fakepg.Status) bool {
				return s.Timeline == 2 && s.Flush >= end
			})
		})
		r.stop()
		_ = r.wait() // after a crash with an error
	}
	return crasher.Crashed()
}

// holdsAcknowledged looks for every byte that the server was told is flushed.
func (r *rig) holdsAcknowledged(disk vfs.FS) error {
	const size = segment.Size(mib)
	ends := map[segment.TimelineID]segment.LSN{}
	for _, s := range r.server.Statuses() {
		t := segment.TimelineID(s.Timeline)
		ends[t] = max(ends[t], segment.LSN(s.Flush))
	}
	for t, end := range ends {
		at := segment.LSN(mib)
		if t == 2 {
			at = 3 * mib
		}
		for ; at < end; at = size.Floor(at) + mib {
			base := segment.Name{Timeline: t, Number: size.Number(at)}.Format(size)
			want := make([]byte, min(end-at, mib))
			r.server.ReadWAL(uint32(t), uint64(at), want)
			got, err := vfs.ReadFile(disk, path.Join(spoolDir, base))
			if err != nil {
				got, err = vfs.ReadFile(disk, path.Join(spoolDir, base+segment.PartialSuffix))
			}
			if err != nil || len(got) < len(want) || !bytes.Equal(got[:len(want)], want) {
				return fmt.Errorf("acknowledged up to %s on timeline %d, but %s does not hold it (%v)", end, uint32(t), base, err)
			}
		}
	}
	return nil
}
