package restore

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage/storagetest"
)

// mover moves one segment on its way, in the middle of a look: at the i-th
// operation of both places together it is sealed, at the j-th it is archived and
// leaves the spool.
type mover struct {
	w      *world
	n      segment.Name
	object []byte // the archived segment

	seal, archive int // operations
	ops           int
}

func (m *mover) step() {
	m.ops++
	if m.ops == m.seal {
		m.w.must(m.w.fs.Rename("/spool/"+name(m.n)+".partial", "/spool/"+name(m.n)))
		m.w.write("/spool/"+name(m.n), wal(m.n, full))
		m.w.write("/spool/"+name(m.n.Next())+".partial", make([]byte, full))
	}
	if m.ops == m.archive {
		m.w.store.Set(m.w.key(m.n), m.object)
		m.w.remove("/spool/" + name(m.n))
	}
}

func (m *mover) install() {
	m.w.archiveHook = func(storagetest.Request) storagetest.Fault {
		m.step()
		return storagetest.Fault{}
	}
	m.w.spoolHook = func(vfs.Op) error {
		m.step()
		return nil
	}
}

// TestSegmentOnTheMove lets a segment be sealed and archived at every pair of
// operations of a look. It is found wherever it is, and never taken for absent or
// for a hole.
func TestSegmentOnTheMove(t *testing.T) {
	n := seg(1, 5)
	next := strides(t, 4)
	object := objectOf(t, n)
	runs := 0
	for seal, reached := 1, true; reached; seal++ {
		for archive := seal; ; archive += next() {
			var ops int
			synctest.Test(t, func(t *testing.T) { ops = move(t, n, object, seal, archive) })
			if t.Failed() {
				t.Fatalf("sealed at operation %d, archived at %d", seal, archive)
			}
			runs++
			reached = ops >= seal
			if ops < archive {
				break
			}
		}
	}
	t.Logf("%d runs", runs)
	if runs < 100 {
		t.Error("too few")
	}
}

// move runs one look and returns how many operations it had.
func move(t *testing.T, n segment.Name, object []byte, seal, archive int) int {
	w := newWorld(t, recoverySignal).withSpool()
	w.write("/spool/"+name(n)+".partial", wal(n, 300_000))
	m := &mover{w: w, n: n, object: object, seal: seal, archive: archive}
	m.install()
	w.want(name(n), CodeDelivered)
	got := w.read("/data/pg_wal/RECOVERYXLOG")
	if !bytes.Equal(got, wal(n, full)) && !bytes.Equal(got, wal(n, 300_000)) {
		t.Error("neither the segment nor its partial was delivered")
	}
	return m.ops
}

// TestSealedBesideTwoPartials: a segment is sealed while the better one of two partials
// waits for being delivered. There is room for all of them.
func TestSealedBesideTwoPartials(t *testing.T) {
	n := seg(1, 5)
	for seal, reached := 1, true; reached; seal++ {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, recoverySignal).withSpool()
			w.o.RetryFor = TryOnce
			w.write("/spool/"+name(n)+".partial", wal(n, 300_000))
			w.putChunk(n, 0, 200_000)
			m := &mover{w: w, n: n, seal: seal}
			m.install()
			a := w.ask(name(n))
			// It may come after the last look for it.
			if a.Code != CodeDelivered && !strings.Contains(a.Message, "it was listed, but is not there") {
				t.Errorf("sealed at operation %d: %d %s", seal, a.Code, a.Message)
			}
			reached = m.ops >= seal
		})
	}
}

// objectOf is a segment as it is archived.
func objectOf(t *testing.T, n segment.Name) (object []byte) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, recoverySignal)
		w.put(n, wal(n, full))
		object, _ = w.store.Get(w.key(n))
	})
	return object
}

// A history file goes the same way, from the spool to the archive.
func TestHistoryOnTheMove(t *testing.T) {
	const file = "00000002.history"
	text := history(1, at(5, 100))
	for k := 1; ; k++ {
		done := false
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, recoverySignal).withSpool()
			w.write("/spool/"+file, []byte(text))
			ops := 0
			step := func() {
				if ops++; ops == k {
					w.store.Set(historyKey, []byte(text))
					w.remove("/spool/" + file)
				}
			}
			w.archiveHook = func(storagetest.Request) storagetest.Fault { step(); return storagetest.Fault{} }
			w.spoolHook = func(vfs.Op) error { step(); return nil }
			w.want(file, CodeDelivered)
			done = ops < k
		})
		if t.Failed() {
			t.Fatalf("moved at operation %d", k)
		}
		if done {
			t.Logf("%d operations", k-1)
			return
		}
	}
}

// TestUnmountedInTheMiddle takes the disk of a place away at each operation of a
// look: what stays is the empty directory that it was mounted on.
func TestUnmountedInTheMiddle(t *testing.T) {
	n := seg(1, 5)
	for _, place := range []string{"archive", "spool"} {
		for _, signal := range modes {
			t.Run(place+"/"+signal, func(t *testing.T) {
				for k, reached := 1, true; reached && !t.Failed(); k++ {
					synctest.Test(t, func(t *testing.T) { reached = unmount(t, newWorld(t, signal), n, place, k) })
				}
			})
		}
	}
}

func unmount(t *testing.T, w *world, n segment.Name, place string, k int) (reached bool) {
	w.withSpool().o.RetryFor = TryOnce
	ops := 0
	step := func() {
		if ops++; ops != k {
			return
		}
		reached = true
		if place == "spool" {
			w.remove("/spool/" + name(n))
			w.remove("/spool/walrecv.json")
			return
		}
		for _, key := range w.store.Keys() {
			must(t, w.store.Delete(t.Context(), key))
		}
	}
	if place == "spool" {
		w.write("/spool/"+name(n), wal(n, full))
	} else {
		w.put(n, wal(n, full))
	}
	w.archiveHook = func(storagetest.Request) storagetest.Fault { step(); return storagetest.Fault{} }
	w.spoolHook = func(vfs.Op) error { step(); return nil }
	a := w.ask(name(n))
	if a.Code == CodeAbsent && !(w.standby() && w.exists("/data/"+noteFile)) {
		t.Errorf("unmounted at operation %d: proven to be absent", k)
	}
	return reached
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestEveryFailingOperation lets the requests of the archive and the operations
// on the spool fail from the k-th on. Nothing but the right answer or "unknown"
// may come of it; on a standby "unknown" leaves a note.
func TestEveryFailingOperation(t *testing.T) {
	n := seg(1, 5)
	for _, there := range []string{"sealed in the archive", "sealed in the spool", "partial", "hole", "nothing"} {
		for _, signal := range modes {
			t.Run(there+"/"+signal, func(t *testing.T) {
				ops := 0
				for fired := true; fired && !t.Failed(); ops++ {
					synctest.Test(t, func(t *testing.T) { fired = failFrom(t, newWorld(t, signal), n, there, ops+1) })
				}
				t.Logf("%d operations", ops-1)
			})
		}
	}
}

// failFrom runs one call and tells whether anything failed.
func failFrom(t *testing.T, w *world, n segment.Name, there string, k int) (fired bool) {
	w.withSpool().o.RetryFor = TryOnce
	want := CodeDelivered
	switch there {
	case "sealed in the archive":
		w.put(n, wal(n, full))
	case "sealed in the spool":
		w.write("/spool/"+name(n), wal(n, full))
	case "partial":
		w.write("/spool/"+name(n)+".partial", wal(n, 300_000))
	case "hole":
		w.put(n.Next(), wal(n.Next(), full))
		want = w.pick(CodeDamaged, CodeAbsent)
	default:
		want = CodeAbsent
	}
	ops := 0
	fails := func() error {
		if ops++; ops >= k {
			fired = true
			return fmt.Errorf("operation %d: %w", ops, errDead)
		}
		return nil
	}
	w.archiveHook = func(storagetest.Request) storagetest.Fault { return storagetest.Fault{Before: fails()} }
	w.spoolHook = func(vfs.Op) error { return fails() }
	a := w.ask(name(n))
	noted := w.exists("/data/" + noteFile)
	unproven := a.Code == CodeUnknown || a.Code == CodeAbsent && noted
	if a.Code != want && !unproven || !fired && noted != (there == "hole" && w.standby()) {
		t.Errorf("operations fail from %d on: answer %d %q, noted: %v", k, a.Code, a.Message, noted)
	}
	return fired
}

// strides goes through the steps of a sweep: one by one in the long form of the
// tests, and otherwise by chance, up to most at a time.
func strides(t *testing.T, most int) (next func() int) {
	t.Helper()
	if pgtest.Long() {
		return func() int { return 1 }
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	return func() int { return 1 + random.IntN(most) }
}
