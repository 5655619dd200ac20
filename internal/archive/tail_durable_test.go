package archive

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage/local"
)

// killedBeforeSync is the disk of a process that is killed when it syncs some
// directory.
type killedBeforeSync struct {
	vfs.FS
	dir string
}

func (k killedBeforeSync) SyncDir(name string) error {
	if strings.Contains(name, k.dir) {
		return errors.New("killed")
	}
	return k.FS.SyncDir(name)
}

// archiveDisk is a disk with the directory of an archive.
func archiveDisk(t *testing.T) *vfs.Mem {
	disk := vfs.NewMem()
	if err := errors.Join(disk.Mkdir("/a", 0o700), disk.SyncDir("/")); err != nil {
		t.Fatal(err)
	}
	return disk
}

// A chunk that was found counts only once it is durable.
func TestTailFoundIsDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTailRig(t)
		r.highest = 100 * testStart // not looked at in r.mem
		disk := archiveDisk(t)
		r.store = local.New(killedBeforeSync{disk, "/tail/0"}, "/a", local.Private)
		r.start()
		r.connect()
		r.send(testStart+5000, true)
		synctest.Wait()
		r.end(false)
		disk = disk.KillClone()
		r.store = local.New(disk, "/a", local.Private)
		r.loseSpool()
		r.start()
		r.connect()
		r.send(testStart+5000, true)
		synctest.Wait()
		acked := r.ackedTo()
		r.end(false)
		a := opened(local.New(disk.CrashClone(nil), "/a", local.Private), testIdentity, Keys{})
		chunks, err := a.Chunks(t.Context(), segment.Name{Timeline: 1, Number: 1})
		if _, end := Cover(chunks, 0); err != nil || testStart+segment.LSN(end) < acked {
			t.Errorf("acknowledged %s, after a power loss the archive has %d bytes (%v)", acked, end, err)
		}
	})
}

// A segment takes the place of its chunks only once it is durable.
func TestTailLeftIsDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTailRig(t)
		r.highest = 100 * testStart
		disk := archiveDisk(t)
		r.store = local.New(killedBeforeSync{disk, "/wal/0"}, "/a", local.Private)
		r.start()
		r.connect()
		r.send(testStart+5000, true)
		synctest.Wait()
		n := segment.Name{Timeline: 1, Number: 1}
		if err := r.archive.PutSegment(t.Context(), NewScratch(r.fsys, spoolDir), n, opener(r.truth(n))); err == nil {
			t.Error("the segment was put")
		}
		r.end(false)
		disk = disk.KillClone()
		r.store = local.New(disk, "/a", local.Private)
		r.loseSpool()
		r.start()
		time.Sleep(time.Minute)
		r.end(false)
		a := opened(local.New(disk.CrashClone(nil), "/a", local.Private), testIdentity, Keys{})
		chunks, err := a.Chunks(t.Context(), n)
		_, end := Cover(chunks, 0)
		_, segErr := readSegment(t.Context(), a, n)
		if end < 5000 && segErr != nil {
			t.Errorf("after a power loss the archive has %d bytes of 5000 (%v), and no segment: %v", end, err, segErr)
		}
	})
}
