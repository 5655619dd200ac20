package archive

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/storagetest"
)

// putBack has the tail archived and acknowledged up to a position, and then a server
// that was restored from a snapshot, and another spool.
func putBack(r *tailRig, to segment.LSN) {
	r.start()
	r.connect()
	r.send(to, true)
	synctest.Wait()
	if r.ackedTo() != to {
		r.t.Fatalf("%s is acknowledged of %s", r.ackedTo(), to)
	}
	r.end(false)
	r.salt[1] = 1
	r.loseSpool()
	r.highest = 100 * testStart // the rig need not look for what was acknowledged
}

// refused ends a run that must have noticed another branch.
func refused(r *tailRig, acked segment.LSN) {
	r.t.Helper()
	got := r.ackedTo()
	if err := r.stop(); !errors.Is(err, segment.ErrBranch) {
		r.t.Errorf("it ended with %v", err)
	}
	if got > acked {
		r.t.Errorf("%s was acknowledged", got)
	}
}

// A server that was put back ends below the archive's tail, or just does not say that
// it goes further: what came is compared when somebody waits for it.
func TestTailAheadOfTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTailRig(t)
		putBack(r, testStart+5000)
		r.start()
		r.connect()
		r.send(testStart+4000, true)
		time.Sleep(time.Hour)
		refused(r, testStart)
	})
}

// What was acknowledged is not replaced by a complete segment with other bytes, also
// not by one that comes faster than it is looked at.
func TestTailIsNotReplacedByAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTailRig(t)
		putBack(r, testStart+5000)
		r.start()
		r.connect()
		r.send(8*testStart, false)
		time.Sleep(time.Hour)
		chunks := r.chunks()
		refused(r, testStart)
		if len(chunks) != 1 {
			t.Errorf("the tail has become %v", chunks)
		}
	})
}

// The end that was asked for may be in front of what another run has archived.
func TestDrainInFrontOfTheTail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTailRig(t)
		r.start()
		r.connect()
		r.send(testStart+5000, true)
		synctest.Wait()
		r.end(false)
		r.start()
		r.connect()
		r.send(testStart+4000, false)
		synctest.Wait()
		r.must(r.stop())
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Hour)
		defer cancel()
		r.must(r.tail.Drain(ctx, r.archive, r.uploader))
		if at, ok := r.tail.Archived(); !ok || at.LSN != testStart+4000 {
			t.Errorf("archived up to %s, %v", at, ok)
		}
	})
}

// Two tails that differ where they overlap are not made one segment.
func TestSealTailOfTwoBranches(t *testing.T) {
	r := newTailRig(t)
	r.start()
	defer r.end(false)
	n := segment.Name{Timeline: 1, Number: 1}
	scratch := NewScratch(r.fsys, spoolDir)
	half := int64(testSize) / 16
	one, other := wal(n, 128, 0), wal(n, 128, 1)
	var chunks []Chunk
	for _, c := range []struct {
		Chunk
		data []byte
	}{{Chunk{Name: n, From: 0, To: 2 * half}, one}, {Chunk{Name: n, From: half, To: int64(testSize)}, other}} {
		p, err := r.archive.prepareChunk(t.Context(), scratch, c.Chunk, opener(c.data[c.From:c.To]))
		r.must(err)
		_, err = r.archive.put(t.Context(), r.archive.chunkObject(c.Chunk), p)
		r.must(err)
		chunks = append(chunks, c.Chunk)
	}
	err := r.archive.SealTail(t.Context(), scratch, n, chunks)
	if !errors.Is(err, segment.ErrBranch) {
		t.Errorf("a segment of two branches: %v", err)
	}
}

// mount is a directory whose disk comes and goes.
type mount struct {
	disk, below storage.Store
	off         atomic.Bool
}

func (m *mount) now() storage.Store {
	if m.off.Load() {
		return m.below
	}
	return m.disk
}

func (m *mount) Put(ctx context.Context, key string, src storage.Source) error {
	return m.now().Put(ctx, key, src)
}

func (m *mount) Open(ctx context.Context, key string) (io.ReadCloser, storage.Info, error) {
	return m.now().Open(ctx, key)
}

func (m *mount) Stat(ctx context.Context, key string) (storage.Info, error) {
	return m.now().Stat(ctx, key)
}

func (m *mount) List(ctx context.Context, prefix string, fn func(storage.Info) error) error {
	return m.now().List(ctx, prefix, fn)
}

// What is not seen because the disk is away is not gone.
func TestTailUnmountedIsNotGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTailRig(t)
		putBack(r, testStart+5000)
		m := &mount{disk: r.mem, below: storagetest.NewMem()}
		r.store = Anchor(m, testIdentity)
		r.start()
		r.connect()
		synctest.Wait()
		m.off.Store(true)
		r.send(testStart+6000, true)
		time.Sleep(time.Second)
		m.off.Store(false)
		time.Sleep(time.Hour)
		refused(r, testStart)
	})
}
