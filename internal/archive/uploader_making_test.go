package archive

import (
	"path"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/walrecv/walrecv/internal/vfs"
)

// However many uploads are in flight, no more objects are made at a time than there are
// processors. That may take long, which is not for want of an answer of the archive.
func TestObjectsInTheMaking(t *testing.T) {
	processors := runtime.GOMAXPROCS(0)
	workers := 3 * processors
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		for i := range uint64(2 * workers) {
			r.sealed(name(1, i+1))
		}
		// To make an object takes time in this world, too.
		var making, most atomic.Int64
		disk := vfs.NewFault(r.disk, func(op vfs.Op) error {
			if op.Kind == vfs.OpReadAt && op.Offset == 0 && len(path.Base(op.Name)) == len("000000010000000000000001") {
				most.Store(max(most.Load(), making.Add(1)))
				time.Sleep(tryTimeout - time.Second)
				making.Add(-1)
			}
			return nil
		})
		u := r.uploader(disk, r.mem, workers)
		if err := u.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := most.Load(); got != int64(processors) {
			t.Errorf("%d objects in the making at a time, with %d processors", got, processors)
		}
		for _, line := range r.log.lines() {
			if strings.HasPrefix(line, "WARN") {
				t.Error(line)
			}
		}
	})
}
