package vfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
)

// session does every operation there is, one a step.
type session struct {
	fsys FS
	file File
	lock io.Closer
}

func (s *session) steps() []func() error {
	keep := func(f File, err error) error {
		if err == nil {
			s.file = f
		}
		return err
	}
	discard := func(_ any, err error) error { return err }
	return []func() error{
		func() error {
			lock, err := s.fsys.Lock("/")
			if err == nil {
				s.lock = lock
			}
			return err
		},
		func() error { return s.fsys.Mkdir("dir", 0o700) },
		func() error { return keep(s.fsys.Create("a", 0o600)) },
		func() error { return s.file.Preallocate(9000) },
		func() error { return discard(s.file.WriteAt([]byte("content"), 5)) },
		func() error { return s.file.Writeback(0, 9000) },
		func() error { return s.file.Sync() },
		func() error { return discard(s.file.Size()) },
		func() error { return s.file.Close() },
		func() error { return s.fsys.Link("a", "b") },
		func() error { return s.fsys.Rename("a", "c") },
		func() error { return s.fsys.Remove("b") },
		func() error { return s.fsys.SyncDir("/") },
		func() error { return discard(s.fsys.ReadDir("/")) },
		func() error { return keep(s.fsys.OpenRead("c")) },
		func() error { return discard(s.file.ReadAt(make([]byte, 20), 8990)) },
		func() error { return s.file.Close() },
		func() error { return keep(s.fsys.OpenWrite("c")) },
		func() error { return s.file.Close() },
		func() error { return s.lock.Close() },
	}
}

// run does the steps up to the first error, which is not the end of a file.
func (s *session) run() error {
	for _, step := range s.steps() {
		if err := step(); err != nil && err != io.EOF {
			return err
		}
	}
	return nil
}

func TestFaultTellsTheOperations(t *testing.T) {
	want := []Op{
		{Kind: OpLock, Name: "/"},
		{Kind: OpMkdir, Name: "dir"},
		{Kind: OpCreate, Name: "a", Mutation: 1},
		{Kind: OpPreallocate, Name: "a", Len: 9000, Mutation: 2},
		{Kind: OpWriteAt, Name: "a", Offset: 5, Len: 7, Mutation: 3},
		{Kind: OpWriteback, Name: "a", Len: 9000, Mutation: 4},
		{Kind: OpSync, Name: "a", Mutation: 4},
		{Kind: OpSize, Name: "a", Mutation: 5},
		{Kind: OpClose, Name: "a", Mutation: 5},
		{Kind: OpLink, Name: "a", NewName: "b", Mutation: 5},
		{Kind: OpRename, Name: "a", NewName: "c", Mutation: 6},
		{Kind: OpRemove, Name: "b", Mutation: 7},
		{Kind: OpSyncDir, Name: "/", Mutation: 8},
		{Kind: OpReadDir, Name: "/", Mutation: 9},
		{Kind: OpOpenRead, Name: "c", Mutation: 9},
		{Kind: OpReadAt, Name: "c", Offset: 8990, Len: 20, Mutation: 9},
		{Kind: OpClose, Name: "c", Mutation: 9},
		{Kind: OpOpenWrite, Name: "c", Mutation: 9},
		{Kind: OpClose, Name: "c", Mutation: 9},
		{Kind: OpUnlock, Name: "/", Mutation: 9},
	}
	for i := range want {
		want[i].Index = i
	}
	var got []Op
	fault := NewFault(NewMem(), func(op Op) error {
		got = append(got, op)
		return nil
	})
	check(t, (&session{fsys: fault}).run())
	if !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	if ops, mutations := fault.Counts(); ops != len(want) || mutations != 9 {
		t.Errorf("%d operations, %d of them mutate", ops, mutations)
	}
}

// dump is all that can be read of a disk.
func dump(t *testing.T, mem *Mem) string {
	t.Helper()
	var b strings.Builder
	for _, e := range must(mem.ReadDir("/"))(t) {
		fmt.Fprintf(&b, "%+v", e)
		if !e.Dir {
			b.Write(must(ReadFile(mem, e.Name))(t))
		}
	}
	return b.String()
}

// TestFaultStopsEachOperation fails every operation, without and with effect,
// and compares what it leaves with an undisturbed run before and after it.
func TestFaultStopsEachOperation(t *testing.T) {
	mem := NewMem()
	undisturbed := &session{fsys: mem}
	written, safe := []string{dump(t, mem)}, []string{""}
	for _, step := range undisturbed.steps() {
		if err := step(); err != nil && err != io.EOF {
			t.Fatal(err)
		}
		written = append(written, dump(t, mem))
		safe = append(safe, dump(t, mem.CrashClone(nil)))
	}
	for i := range len(written) - 1 {
		for effect, fault := range []error{errInjected, After(errInjected)} {
			mem := NewMem()
			var failed Op
			err := (&session{fsys: NewFault(mem, func(op Op) error {
				if op.Index != i {
					return nil
				}
				failed = op
				return fault
			})}).run()
			wantErr(t, err, errInjected)
			if pathErr := (*fs.PathError)(nil); !errors.As(err, &pathErr) || pathErr.Path != failed.Name {
				t.Errorf("%v: the error does not name the file: %v", failed, err)
			}
			if dump(t, mem) != written[i+effect] || dump(t, mem.CrashClone(nil)) != safe[i+effect] {
				t.Errorf("%v, effect %d: left another disk", failed, effect)
			}
		}
	}
}

func TestShortWrite(t *testing.T) {
	for n, want := range map[int]string{-1: "older", 0: "older", 2: "neder", 100: "newer"} {
		mem := NewMem()
		put(t, mem, "a", "older")
		fault := NewFault(mem, func(op Op) error {
			if op.Kind == OpWriteAt {
				return ShortWrite(n, errInjected)
			}
			return nil
		})
		got, err := must(fault.OpenWrite("a"))(t).WriteAt([]byte("newer"), 0)
		wantErr(t, err, errInjected)
		if got != min(max(n, 0), 5) {
			t.Errorf("%d bytes were written, not %d", got, n)
		}
		wantContent(t, mem, "a", want)
	}
}

// TestLostSync is the trap that makes an error of a sync final: the next sync
// succeeds and the bytes are not there.
func TestLostSync(t *testing.T) {
	mem := NewMem()
	check(t, WriteFile(mem, "a", 0o600, oldBytes))
	lose := true
	fault := NewFault(mem, func(op Op) error {
		if op.Kind == OpSync && lose {
			return LoseUnsynced(errInjected)
		}
		return nil
	})
	f := must(fault.OpenWrite("a"))(t)
	_, err := f.WriteAt([]byte("lost"), 0)
	check(t, err)
	wantErr(t, f.Sync(), errInjected)
	lose = false
	_, err = f.WriteAt([]byte("kept"), pageSize)
	check(t, err)
	check(t, f.Sync())

	want := bytes.Clone(oldBytes)
	copy(want[pageSize:], "kept")
	wantContent(t, mem.CrashClone(nil), "a", string(want))
	wantContent(t, mem.KillClone().CrashClone(nil), "a", string(want))
	copy(want, "lost")
	wantContent(t, mem, "a", string(want))
}

// TestCrasherTakesTheMoment compares the disk of each crash with that of an
// undisturbed run right before the operation.
func TestCrasherTakesTheMoment(t *testing.T) {
	mem := NewMem()
	var safe, written []string
	watch := NewFault(mem, func(op Op) error {
		if op.Mutates() {
			safe, written = append(safe, dump(t, mem.CrashClone(nil))), append(written, dump(t, mem))
		}
		return nil
	})
	check(t, (&session{fsys: watch}).run())
	for k := range len(safe) + 1 {
		crasher, killer := NewCrasher(NewMem(), k, nil), NewKiller(NewMem(), k)
		for c, want := range map[*Crasher][]string{crasher: safe, killer: written} {
			err := (&session{fsys: c.FS()}).run()
			disk, crashed := c.Crashed()
			if k == len(safe) {
				check(t, err)
				if crashed {
					t.Fatalf("a crash at operation %d, which there was not", k)
				}
				continue
			}
			wantErr(t, err, ErrCrashed)
			if !crashed || dump(t, disk) != want[k] {
				t.Fatalf("operation %d: crashed %v, with another disk", k, crashed)
			}
		}
	}
}

func TestNothingWorksAfterTheCrash(t *testing.T) {
	c := NewCrasher(NewMem(), 1, nil)
	s := &session{
		fsys: c.FS(),
		file: must(c.FS().Create("a", 0o600))(t),
		lock: must(c.FS().Lock("/"))(t),
	}
	if _, crashed := c.Crashed(); crashed {
		t.Fatal("crashed too early")
	}
	wantErr(t, s.file.Sync(), ErrCrashed)
	disk, _ := c.Crashed()
	for _, step := range s.steps() {
		wantErr(t, step(), ErrCrashed)
	}
	if again, crashed := c.Crashed(); !crashed || again != disk {
		t.Error("the disk of the crash has changed")
	}
}

// TestCrasherLosesNothingThatReturned crashes under several goroutines: what
// any of them was told to be durable is on the disk.
func TestCrasherLosesNothingThatReturned(t *testing.T) {
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 0))
		c := NewCrasher(NewMem(), rng.IntN(200), rng)
		var mu sync.Mutex
		told := map[string]bool{}
		var wg sync.WaitGroup
		for worker := range 4 {
			wg.Go(func() {
				for i := 0; ; i++ {
					name := fmt.Sprintf("%d-%d", worker, i)
					err := WriteNew(c.FS(), name, 0o600, newBytes)
					if err != nil && !errors.Is(err, ErrOldNameStays) {
						return
					}
					mu.Lock()
					told[name] = true
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		disk, crashed := c.Crashed()
		if !crashed {
			t.Fatalf("seed %d: the workers ended without a crash", seed)
		}
		for name := range told {
			if got, err := ReadFile(disk, name); err != nil || !bytes.Equal(got, newBytes) {
				t.Fatalf("seed %d: %s has %d bytes, %v", seed, name, len(got), err)
			}
		}
	}
}
