package vfs

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// The tests here take a random history of operations, keep a book of their own
// on what is durable, and hold every clone against it. A file is known by its
// permissions, which no two files of a history share.

// history is a Mem and the book on it.
type history struct {
	mem   *Mem
	names []map[string]fs.FileMode // what the root held since its last sync, and now
	files map[fs.FileMode]*booked
	seen  outcomes

	// A clone of the step before, and what it held: the disk that it was taken
	// from has been written since.
	earlier      *Mem
	earlierFiles map[string]string
}

// booked is what a file held when it was synced, and now.
type booked struct{ synced, now []byte }

// outcomes counts what crashes did, so that a test can tell that they did it.
type outcomes struct{ namesLost, namesKept, bytesLost, bytesKept, mixed, shortened int }

func newHistory() *history {
	return &history{
		mem:   NewMem(),
		names: []map[string]fs.FileMode{{}},
		files: map[fs.FileMode]*booked{},
	}
}

func (h *history) live() map[string]fs.FileMode { return h.names[len(h.names)-1] }

// rebook notes an entry operation.
func (h *history) rebook(edit func(names map[string]fs.FileMode)) {
	next := maps.Clone(h.live())
	edit(next)
	h.names = append(h.names, next)
}

// step does one random operation that succeeds.
func (h *history) step(t *testing.T, rng *rand.Rand) {
	t.Helper()
	names := slices.Sorted(maps.Keys(h.live()))
	fresh := fmt.Sprintf("n%d", rng.IntN(1000))
	if _, taken := h.live()[fresh]; taken {
		return
	}
	op := rng.IntN(10)
	if len(names) == 0 {
		op = 0
	}
	var name string
	if op > 0 {
		name = names[rng.IntN(len(names))]
	}
	id := h.live()[name]
	switch op {
	case 0:
		h.create(t, fresh)
	case 1:
		check(t, h.mem.Remove(name))
		h.rebook(func(n map[string]fs.FileMode) { delete(n, name) })
	case 2:
		check(t, h.mem.Link(name, fresh))
		h.rebook(func(n map[string]fs.FileMode) { n[fresh] = id })
	case 3:
		h.rename(t, name, append(names, fresh)[rng.IntN(len(names)+1)])
	case 4:
		check(t, h.mem.SyncDir("/"))
		h.names = h.names[len(h.names)-1:]
	case 5:
		f := must(h.mem.OpenRead(name))(t)
		check(t, f.Sync())
		check(t, f.Close())
		h.files[id].synced = slices.Clone(h.files[id].now)
	default:
		h.write(t, name, rng)
	}
}

func (h *history) create(t *testing.T, name string) {
	t.Helper()
	id := fs.FileMode(len(h.files))
	check(t, must(h.mem.Create(name, id))(t).Close())
	h.files[id] = &booked{}
	h.rebook(func(n map[string]fs.FileMode) { n[name] = id })
}

func (h *history) rename(t *testing.T, from, to string) {
	t.Helper()
	check(t, h.mem.Rename(from, to))
	id := h.live()[from]
	if there, taken := h.live()[to]; taken && there == id {
		return
	}
	h.rebook(func(n map[string]fs.FileMode) {
		delete(n, from)
		n[to] = id
	})
}

// write writes random bytes, or preallocates.
func (h *history) write(t *testing.T, name string, rng *rand.Rand) {
	t.Helper()
	f := must(h.mem.OpenWrite(name))(t)
	book := h.files[h.live()[name]]
	off, length := rng.IntN(3*pageSize), rng.IntN(2*pageSize)
	if more := off + length - len(book.now); more > 0 && length > 0 {
		book.now = append(book.now, make([]byte, more)...)
	}
	if rng.IntN(4) == 0 && length > 0 {
		check(t, f.Preallocate(int64(off+length)))
	} else {
		p := bytes.Repeat([]byte{byte(1 + rng.IntN(255))}, length)
		_, err := f.WriteAt(p, int64(off))
		check(t, err)
		copy(book.now[min(off, len(book.now)):], p)
	}
	check(t, f.Close())
}

// contents reads a whole disk: per name, the file and its bytes.
func contents(t *testing.T, mem *Mem) (names map[string]fs.FileMode, files map[string]string) {
	t.Helper()
	names, files = map[string]fs.FileMode{}, map[string]string{}
	for _, e := range must(mem.ReadDir("/"))(t) {
		names[e.Name] = must(mem.Perm(e.Name))(t)
		files[e.Name] = string(must(ReadFile(mem, e.Name))(t))
	}
	return names, files
}

// checkExact holds a disk to names and to one state of every file.
func (h *history) checkExact(t *testing.T, mem *Mem, want map[string]fs.FileMode, state func(*booked) []byte) {
	t.Helper()
	names, files := contents(t, mem)
	if !maps.Equal(names, want) {
		t.Fatalf("names %v, not %v", names, want)
	}
	for name, id := range names {
		if files[name] != string(state(h.files[id])) {
			t.Fatalf("%s has other bytes", name)
		}
	}
}

func now(b *booked) []byte    { return b.now }
func synced(b *booked) []byte { return b.synced }

// checkCrashed holds a disk to what a crash may leave.
func (h *history) checkCrashed(t *testing.T, mem *Mem) {
	t.Helper()
	names, files := contents(t, mem)
	if !slices.ContainsFunc(h.names, func(s map[string]fs.FileMode) bool { return maps.Equal(s, names) }) {
		t.Fatalf("names %v were never there together", names)
	}
	if !maps.Equal(names, h.live()) {
		h.seen.namesLost++
	} else if len(h.names) > 1 {
		h.seen.namesKept++
	}
	for name, id := range names {
		h.checkTorn(t, name, []byte(files[name]), h.files[id])
	}
}

func (h *history) checkTorn(t *testing.T, name string, got []byte, book *booked) {
	t.Helper()
	if len(got) < len(book.synced) || len(got) > len(book.now) {
		t.Fatalf("%s has %d bytes, synced were %d of %d", name, len(got), len(book.synced), len(book.now))
	}
	older, newer := 0, 0
	for at := 0; at < len(got); at += sectorSize {
		end := min(at+sectorSize, len(got))
		before := make([]byte, end-at)
		copy(before, book.synced[min(at, len(book.synced)):])
		isOld, isNew := bytes.Equal(got[at:end], before), bytes.Equal(got[at:end], book.now[at:end])
		switch {
		case !isOld && !isNew:
			t.Fatalf("%s: the sector at %d is neither the old nor the new one", name, at)
		case !isNew:
			older++
		case !isOld:
			newer++
		}
	}
	if older > 0 && newer > 0 {
		h.seen.mixed++
	}
	switch {
	case bytes.Equal(book.synced, book.now):
	case bytes.Equal(got, book.synced):
		h.seen.bytesLost++
	case bytes.Equal(got, book.now):
		h.seen.bytesKept++
	case len(got) != len(book.now) && len(got) != len(book.synced):
		h.seen.shortened++
	}
}

func TestCrashCloneOfRandomHistories(t *testing.T) {
	var seen outcomes
	for seed := range uint64(20) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			h := newHistory()
			h.seen = seen
			rng := rand.New(rand.NewPCG(seed, 0))
			for range 50 {
				h.step(t, rng)
				h.checkClones(t, rng)
			}
			seen = h.seen
		})
	}
	for _, n := range []int{seen.namesLost, seen.namesKept, seen.bytesLost, seen.bytesKept, seen.mixed, seen.shortened} {
		if n < 20 {
			t.Errorf("an outcome is too rare to be tested: %+v", seen)
		}
	}
}

func (h *history) checkClones(t *testing.T, rng *rand.Rand) {
	t.Helper()
	h.checkExact(t, h.mem.CrashClone(nil), h.names[0], synced)

	crashed := h.mem.CrashClone(rng)
	h.checkCrashed(t, crashed)
	// What a crash has left is on disk, and stays there in the next one.
	names, files := contents(t, crashed)
	againNames, againFiles := contents(t, crashed.CrashClone(rng))
	if !maps.Equal(names, againNames) || !maps.Equal(files, againFiles) {
		t.Fatal("a second crash took what the first one had left")
	}

	// A process that ends makes nothing durable.
	killed := h.mem.KillClone()
	h.checkExact(t, killed, h.live(), now)
	h.checkExact(t, killed.CrashClone(nil), h.names[0], synced)
	h.checkCrashed(t, killed.CrashClone(rng))

	h.checkEarlier(t)
	h.earlier = h.mem.KillClone()
	_, h.earlierFiles = contents(t, h.earlier)
	for _, clone := range []*Mem{crashed, killed} {
		spoil(t, clone)
	}
	h.checkExact(t, h.mem, h.live(), now)
}

// checkEarlier looks whether the last step has changed a clone taken before it.
func (h *history) checkEarlier(t *testing.T) {
	t.Helper()
	if h.earlier == nil {
		return
	}
	if _, files := contents(t, h.earlier); !maps.Equal(files, h.earlierFiles) {
		t.Fatal("a clone changed with the disk that it was taken from")
	}
}

// spoil overwrites and removes all there is. It looks behind the files first:
// what they grow by must be zeros; and whether a write stays unsynced.
func spoil(t *testing.T, mem *Mem) {
	t.Helper()
	_, safe := contents(t, mem.CrashClone(nil))
	for _, e := range must(mem.ReadDir("/"))(t) {
		f := must(mem.OpenWrite(e.Name))(t)
		_, err := f.WriteAt([]byte("s"), 0)
		check(t, err)
		size := must(f.Size())(t)
		check(t, f.Preallocate(size+pageSize))
		behind := make([]byte, pageSize)
		_, err = f.ReadAt(behind, size)
		check(t, err)
		if len(bytes.Trim(behind, "\x00")) > 0 {
			t.Fatalf("%s has garbage behind its end", e.Name)
		}
		_, err = f.WriteAt(bytes.Repeat([]byte("spoiled"), 3*pageSize), 0)
		check(t, err)
		check(t, f.Close())
		check(t, mem.Remove(e.Name))
	}
	if _, files := contents(t, mem.CrashClone(nil)); !maps.Equal(files, safe) {
		t.Fatal("a write or a removal is durable without a sync")
	}
	check(t, mem.SyncDir("/"))
	if used := mem.Used(); used != 0 {
		t.Fatalf("an empty disk uses %d bytes", used)
	}
}

func TestCrashCloneIsDecidedByItsSeed(t *testing.T) {
	h := newHistory()
	rng := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		h.step(t, rng)
	}
	different := 0
	_, before := contents(t, h.mem)
	for seed := range uint64(50) {
		_, a := contents(t, h.mem.CrashClone(rand.New(rand.NewPCG(seed, 0))))
		_, b := contents(t, h.mem.CrashClone(rand.New(rand.NewPCG(seed, 0))))
		if !maps.Equal(a, b) {
			t.Fatalf("seed %d gives two disks", seed)
		}
		if !maps.Equal(a, before) {
			different++
		}
		before = a
	}
	if different < 10 {
		t.Errorf("only %d of 50 seeds give another disk", different)
	}
}

// TestCrashInOtherDirectories is about what a history in one directory cannot
// show: renames between two, and directories whose own entry is not durable.
func TestCrashInOtherDirectories(t *testing.T) {
	disk := NewMem()
	check(t, MkdirAll(disk, "/", "a", 0o700))
	check(t, MkdirAll(disk, "/", "b", 0o700))
	check(t, WriteFile(disk, "a/old", 0o600, []byte("1")))
	seen := map[string]int{}
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 0))
		for _, sync := range []string{"", "/", "a", "b"} {
			mem := disk.CrashClone(nil)
			put(t, mem, "b/before", "")
			check(t, mem.Rename("a/old", "b/new"))
			put(t, mem, "b/after", "")
			if sync != "" {
				check(t, mem.SyncDir(sync))
			}
			names := tree(t, mem.CrashClone(rng))
			if strings.Contains(names, "old") == strings.Contains(names, "new") {
				t.Fatalf("seed %d: %s", seed, names)
			}
			seen[sync+": "+names]++
		}
	}
	want := []string{
		": a b a/old", ": a b a/old b/before", ": a b b/before b/new", ": a b b/after b/before b/new",
		"/: a b a/old", "/: a b a/old b/before", "/: a b b/before b/new", "/: a b b/after b/before b/new",
		"a: a b b/before b/new", "a: a b b/after b/before b/new",
		"b: a b b/after b/before b/new",
	}
	if got := slices.Sorted(maps.Keys(seen)); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
		t.Errorf("crashes have left %q, not %q", got, want)
	}

	check(t, disk.Mkdir("c", 0o700))
	put(t, disk, "c/file", "")
	check(t, disk.SyncDir("c"))
	if names := tree(t, disk.CrashClone(nil)); names != "a b a/old" {
		t.Errorf("%s: a directory without a durable entry survived", names)
	}
}

// tree lists the root and the directories in it.
func tree(t *testing.T, mem *Mem) string {
	t.Helper()
	var names, below []string
	for _, e := range must(mem.ReadDir("/"))(t) {
		names = append(names, e.Name)
		for _, sub := range must(mem.ReadDir(e.Name))(t) {
			below = append(below, e.Name+"/"+sub.Name)
		}
	}
	return strings.Join(append(names, below...), " ")
}
