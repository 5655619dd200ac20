package vfs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// Longer than a sector and than a page, so that half of them can be told.
var (
	oldBytes = bytes.Repeat([]byte("old "), 1500)
	newBytes = bytes.Repeat([]byte("new"), 2500)
)

const absent = "absent"

// publication is one use of the helpers, as the sweeps run it.
type publication struct {
	setup func(t *testing.T, mem *Mem)
	run   func(fsys FS) error
	names []string
	// states are what the names may stand for after a crash, each "old", "new"
	// or absent; the last one is that of a run that returned nil.
	states []string
}

// written writes a scratch file and publishes it.
func written(fsys FS, scratch string, publish func(File) error) error {
	f, err := fsys.Create(scratch, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteAt(newBytes, 0); err != nil {
		return err
	}
	return publish(f)
}

func withOld(t *testing.T, mem *Mem) {
	check(t, WriteFile(mem, "name", 0o600, oldBytes))
}

var publications = map[string]publication{
	"Rename": {
		setup: withOld,
		run: func(fsys FS) error {
			return written(fsys, "scratch", func(f File) error { return Rename(fsys, f, "scratch", "name") })
		},
		names:  []string{"name"},
		states: []string{"old", "new"},
	},
	"Rename to another directory": {
		setup: func(t *testing.T, mem *Mem) {
			check(t, MkdirAll(mem, "/", "from", 0o700))
			check(t, MkdirAll(mem, "/", "to", 0o700))
			check(t, WriteFile(mem, "from/name", 0o600, newBytes))
		},
		run:    func(fsys FS) error { return Rename(fsys, nil, "from/name", "to/name") },
		names:  []string{"from/name", "to/name"},
		states: []string{"new absent", "absent new"},
	},
	"Link": {
		setup: func(*testing.T, *Mem) {},
		run: func(fsys FS) error {
			return written(fsys, "scratch", func(f File) error { return Link(fsys, f, "scratch", "name") })
		},
		names:  []string{"name"},
		states: []string{absent, "new"},
	},
	"set aside": {
		setup: withOld,
		run: func(fsys FS) error {
			if err := LinkKeep(fsys, nil, "name", "aside"); err != nil {
				return err
			}
			return written(fsys, "scratch", func(f File) error { return Rename(fsys, f, "scratch", "name") })
		},
		names:  []string{"name", "aside"},
		states: []string{"old absent", "old old", "new old"},
	},
	"WriteFile over a stale scratch file": {
		setup: func(t *testing.T, mem *Mem) {
			withOld(t, mem)
			put(t, mem, "name.tmp", strings.Repeat("stale", 3000))
			check(t, mem.SyncDir("/"))
		},
		run:    func(fsys FS) error { return WriteFile(fsys, "name", 0o600, newBytes) },
		names:  []string{"name"},
		states: []string{"old", "new"},
	},
	"WriteNew": {
		setup:  func(*testing.T, *Mem) {},
		run:    func(fsys FS) error { return WriteNew(fsys, "name", 0o600, newBytes) },
		names:  []string{"name"},
		states: []string{absent, "new"},
	},
	"MkdirAll": {
		setup: func(t *testing.T, mem *Mem) { check(t, MkdirAll(mem, "/", "a", 0o700)) },
		run: func(fsys FS) error {
			if err := MkdirAll(fsys, "/", "a/b/c", 0o700); err != nil {
				return err
			}
			return WriteNew(fsys, "a/b/c/name", 0o600, newBytes)
		},
		names:  []string{"a/b/c/name"},
		states: []string{absent, "new"},
	},
}

// state reads what the names of a publication stand for.
func (p publication) state(t *testing.T, mem *Mem) string {
	t.Helper()
	var states []string
	for _, name := range p.names {
		data, err := ReadFile(mem, name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			states = append(states, absent)
		case err != nil:
			t.Fatal(err)
		case bytes.Equal(data, oldBytes):
			states = append(states, "old")
		case bytes.Equal(data, newBytes):
			states = append(states, "new")
		default:
			states = append(states, fmt.Sprintf("half(%d bytes)", len(data)))
		}
	}
	return strings.Join(states, " ")
}

func (p publication) allow(t *testing.T, mem *Mem) {
	t.Helper()
	if s := p.state(t, mem); !slices.Contains(p.states, s) {
		t.Fatalf("%v: %s", p.names, s)
	}
}

// TestPublishSurvivesACrashAnywhere crashes each publication at each of its
// operations.
func TestPublishSurvivesACrashAnywhere(t *testing.T) {
	for name, p := range publications {
		for seed := range uint64(30) {
			t.Run(fmt.Sprintf("%s/seed=%d", name, seed), func(t *testing.T) {
				rng := rand.New(rand.NewPCG(seed, 0))
				disk := NewMem()
				p.setup(t, disk)
				for k := 0; ; k++ {
					mem := disk.CrashClone(nil)
					c := NewCrasher(mem, k, rng)
					err := p.run(c.FS())
					crashed, did := c.Crashed()
					if !did {
						check(t, err)
						p.wantDurable(t, mem, rng)
						return
					}
					if !errors.Is(err, ErrCrashed) {
						t.Fatalf("operation %d: the crash is not reported: %v", k, err)
					}
					p.allow(t, crashed)
					if errors.Is(err, ErrOldNameStays) {
						p.wantDurable(t, crashed, rng)
					}
				}
			})
		}
	}
}

// wantDurable holds all disks after a successful run to its last state.
func (p publication) wantDurable(t *testing.T, mem *Mem, rng *rand.Rand) {
	t.Helper()
	want := p.states[len(p.states)-1]
	for _, disk := range []*Mem{mem, mem.CrashClone(nil), mem.CrashClone(rng), mem.KillClone()} {
		if got := p.state(t, disk); got != want {
			t.Fatalf("%v: %s after success, not %s", p.names, got, want)
		}
	}
}

var errInjected = errors.New("injected")

// TestPublishReportsEveryFault fails each operation of each publication, in
// each way, then crashes: the fault is reported, nothing is half done, and no
// sync that failed is tried again.
func TestPublishReportsEveryFault(t *testing.T) {
	faults := map[string]error{
		"before": errInjected,
		"after":  After(errInjected),
		"short":  ShortWrite(1000, errInjected),
		"lost":   LoseUnsynced(errInjected),
	}
	for name, p := range publications {
		for kind, fault := range faults {
			t.Run(name+"/"+kind, func(t *testing.T) {
				disk := NewMem()
				p.setup(t, disk)
				for k := 0; ; k++ {
					mem := disk.CrashClone(nil)
					in := &injector{k: k, fault: fault}
					err := p.run(NewFault(mem, in.hook))
					if in.failed.Kind == "" {
						check(t, err)
						break
					}
					if !errors.Is(err, errInjected) {
						t.Fatalf("%v: the fault is not reported: %v", in.failed, err)
					}
					if in.again {
						t.Errorf("%v: tried again", in.failed)
					}
					p.allow(t, mem)
					p.allow(t, mem.CrashClone(nil))
					for seed := range uint64(10) {
						p.allow(t, mem.CrashClone(rand.New(rand.NewPCG(seed, 0))))
					}
				}
			})
		}
	}
}

// injector is a hook that fails the mutating operation k, and watches whether
// a sync that has failed comes again.
type injector struct {
	k      int
	fault  error
	failed Op
	again  bool
}

func (in *injector) hook(op Op) error {
	if in.failed.Kind != "" {
		sync := op.Kind == OpSync || op.Kind == OpSyncDir
		in.again = in.again || sync && op.Kind == in.failed.Kind && op.Name == in.failed.Name
		return nil
	}
	if op.Mutates() && op.Mutation == in.k {
		in.failed = op
		return in.fault
	}
	return nil
}
