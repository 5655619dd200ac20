package segment_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path"
	"testing"

	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
)

// The crash sweep: the machine, or the process, ends right before the k-th
// operation on the disk, for every k, while a scripted server streams five
// segments through two changes of timeline. Then, with the server gone for
// good, every byte that was ever acknowledged must be on the disk. The receiver
// then goes on from there, is crashed again while it resumes, at every j, and
// once more; and at last it must have everything, without a hole.

// dense crashes at every operation of a resumed run instead of at some of one run in
// four: in the long form of the tests (make test-long).
var dense = os.Getenv("WALRECV_TEST_LONG") != ""

// script is a server's life: the WAL, where its timelines fork, and its end.
type script struct {
	wal  testWAL
	tli  segment.TimelineID // the last one
	from segment.LSN
	end  segment.LSN

	synchronous bool
}

func newScript() script {
	return script{
		wal: testWAL{forks: map[segment.TimelineID]segment.LSN{
			2: testSize.Start(2) + 300_001, // inside a segment
			3: testSize.Start(4),           // exactly on a border
		}},
		tli: 3, from: testSize.Start(1), end: testSize.Start(5) + 5000,
	}
}

func (s script) history(t segment.TimelineID) []byte {
	var text []byte
	for a := segment.TimelineID(1); a < t; a++ {
		text = fmt.Appendf(text, "%d\t%s\tpromoted\n\n", uint32(a), s.wal.forks[a+1])
	}
	return text
}

func (s script) parsed(t *testing.T) segment.History {
	h, err := segment.ParseHistory(s.tli, s.history(s.tli))
	must(t, err)
	return h
}

// acked is what was acknowledged, over all runs: the furthest position on each
// timeline.
type acked map[segment.TimelineID]segment.LSN

// run is one life of the receiver. It ends with an error, at a crash, or when
// everything is received.
func (s script) run(h segment.History, fsys vfs.FS, rng *rand.Rand, a acked) error {
	spool, err := openSpoolWith(fsys, segment.SpoolOptions{Synchronous: s.synchronous})
	if err != nil {
		return err
	}
	held, err := spool.Held()
	if err != nil {
		return err
	}
	at, ok := segment.Resume(h, testSize, held)
	if !ok {
		at = pos(1, s.from)
	}
	w, err := spool.NewWriter(at)
	if err != nil {
		return err
	}
	for {
		end := s.end
		if at.Timeline < s.tli {
			end = s.wal.forks[at.Timeline+1]
		}
		if err := s.stream(w, at, end, rng, a); err != nil {
			return err
		}
		if at.Timeline == s.tli {
			return w.Close()
		}
		next := at.Timeline + 1
		if err := w.Switch(next, end, s.history(next)); err != nil {
			return err
		}
		at = w.Position()
	}
}

// stream sends one timeline in messages of any size, and acknowledges now and
// then.
func (s script) stream(w *segment.Writer, at segment.Position, end segment.LSN, rng *rand.Rand, a acked) error {
	for lsn := at.LSN; lsn < end; {
		n := min(1+rng.IntN(400<<10), int(end-lsn))
		if s.synchronous && lsn == at.LSN {
			n = 1 + rng.IntN(8<<10) // zeros follow, but not over what an earlier run left
		}
		if err := w.Append(lsn, s.wal.bytes(at.Timeline, lsn, n)); err != nil {
			return err
		}
		lsn += segment.LSN(n)
		if rng.IntN(2) == 0 && lsn != end {
			continue
		}
		flushed, err := w.Sync()
		if err != nil {
			return err
		}
		a[at.Timeline] = max(a[at.Timeline], flushed)
	}
	return nil
}

// check finds every acknowledged byte on a disk.
func (s script) check(fsys vfs.FS, a acked) error {
	for t, end := range a {
		begin := s.from
		if t > 1 {
			begin = testSize.Floor(s.wal.forks[t])
		}
		for begin < end {
			name := segment.Name{Timeline: t, Number: testSize.Number(begin)}
			stop := min(end, name.End(testSize))
			if err := s.checkSegment(fsys, name, begin, stop); err != nil {
				return fmt.Errorf("acknowledged up to %s on timeline %d: %w", end, uint32(t), err)
			}
			begin = stop
		}
	}
	return nil
}

func (s script) checkSegment(fsys vfs.FS, n segment.Name, begin, end segment.LSN) error {
	base := n.Format(testSize)
	data, err := vfs.ReadFile(fsys, spoolDir+"/"+base)
	if err != nil {
		data, err = vfs.ReadFile(fsys, spoolDir+"/"+base+".partial")
	} else if len(data) != int(testSize) {
		return fmt.Errorf("%s has %d bytes", base, len(data))
	}
	if err != nil {
		return err
	}
	want := s.wal.bytes(n.Timeline, begin, int(end-begin))
	if len(data) < len(want) || string(data[:len(want)]) != string(want) {
		return fmt.Errorf("%s does not hold what was received", base)
	}
	return nil
}

// checkWhole is check for a receiver that has come to the end.
func (s script) checkWhole(t *testing.T, fsys vfs.FS) error {
	spool, err := openSpool(fsys)
	if err != nil {
		return err
	}
	defer spool.Close()
	for _, n := range []segment.Name{{Timeline: 1, Number: 1}, {Timeline: 2, Number: 2}, {Timeline: 2, Number: 3}, {Timeline: 3, Number: 4}} {
		if err := s.checkSegment(fsys, n, n.Start(testSize), n.End(testSize)); err != nil {
			return err
		}
		if there, err := vfs.Exists(fsys, spoolDir+"/"+n.Format(testSize)); err != nil || !there {
			return fmt.Errorf("%s is not sealed: %w", n.Format(testSize), err)
		}
	}
	held, err := spool.Held()
	if err != nil {
		return err
	}
	if at, ok := segment.Resume(s.parsed(t), testSize, held); !ok || at != pos(3, testSize.Start(5)) {
		return fmt.Errorf("would resume at %v", at)
	}
	return s.checkSegment(fsys, segment.Name{Timeline: 3, Number: 5}, testSize.Start(5), s.end)
}

// crash is one way for a run to end before its time.
type crash func(disk *vfs.Mem, k int, rng *rand.Rand) *vfs.Crasher

func TestCrashSweep(t *testing.T) {
	for name, c := range map[string]crash{
		"power": vfs.NewCrasher,
		"kill":  func(disk *vfs.Mem, k int, _ *rand.Rand) *vfs.Crasher { return vfs.NewKiller(disk, k) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seed := rand.Uint64()
			s := newScript()
			h := s.parsed(t)
			first, again := 0, 0
			for k := 0; ; k++ {
				rng := rand.New(rand.NewPCG(seed, uint64(k)))
				s.synchronous = k%2 == 0
				a := acked{}
				disk, crashed := s.crashAt(t, h, newDisk(t), c, k, rng, a)
				if !crashed {
					break
				}
				first++
				if dense || rng.IntN(4) == 0 {
					again += s.resumeSweep(t, h, disk, c, rng, a)
				}
			}
			t.Logf("seed %d: %d crashes, and %d while resuming from one", seed, first, again)
			if first < 50 {
				t.Errorf("only %d crash points", first)
			}
		})
	}
}

// crashAt runs up to a crash, and checks the disk that it left.
func (s script) crashAt(t *testing.T, h segment.History, disk *vfs.Mem, c crash, k int, rng *rand.Rand, a acked) (*vfs.Mem, bool) {
	t.Helper()
	crasher := c(disk, k, rng)
	err := s.run(h, crasher.FS(), rng, a)
	left, crashed := crasher.Crashed()
	if !crashed {
		must(t, err)
		return disk, false
	}
	if err == nil {
		t.Fatalf("k=%d: the crash was not noticed", k)
	}
	if err := s.check(left, a); err != nil {
		t.Fatalf("k=%d: after the crash: %v", k, err)
	}
	return left, true
}

// resumeSweep goes on from a crashed disk, to a second crash at some operations
// of the resumed run, and from there to the end.
func (s script) resumeSweep(t *testing.T, h segment.History, disk *vfs.Mem, c crash, rng *rand.Rand, a acked) (crashes int) {
	t.Helper()
	step := 60
	if dense {
		step = 1
	}
	for j := rng.IntN(step); ; j += 1 + rng.IntN(step) {
		b := acked{}
		for t, lsn := range a {
			b[t] = lsn
		}
		left, crashed := s.crashAt(t, h, disk.KillClone(), c, j, rng, b)
		if !crashed {
			return crashes
		}
		crashes++
		must(t, s.run(h, left, rng, b))
		if err := s.check(left, b); err != nil {
			t.Fatalf("j=%d: after resuming: %v", j, err)
		}
		if err := s.checkWhole(t, left.KillClone()); err != nil {
			t.Fatalf("j=%d: at the end: %v", j, err)
		}
	}
}

// An error of any operation is reported: no run that met one ends well, unless
// it is one of a wish, or of giving something up.
func TestEveryErrorIsReported(t *testing.T) {
	s := newScript()
	h := s.parsed(t)
	for k := 0; ; k++ {
		hit := false
		n := 0
		disk := vfs.NewFault(newDisk(t), func(op vfs.Op) error {
			n++
			wish := op.Kind == vfs.OpWriteback || path.Base(op.Name) == "ahead.tmp"
			if n-1 == k && op.Kind != vfs.OpClose && op.Kind != vfs.OpUnlock && !wish {
				hit = true
				return fmt.Errorf("injected into %s", op.Kind)
			}
			return nil
		})
		err := s.run(h, disk, rand.New(rand.NewPCG(1, 2)), acked{})
		if k >= n {
			t.Logf("%d operations", n)
			return
		}
		if hit && err == nil {
			t.Fatalf("the error of operation %d was lost", k)
		}
	}
}
