package prefetch

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/pgdata"
	"github.com/walrecv/walrecv/internal/vfs"
)

const file = "000000010000000000000002"

func newDir(t *testing.T) *Dir {
	t.Helper()
	d := For(vfs.OS(), t.TempDir(), 4711, "/data", "/archive", "")
	must(t, d.Make())
	return d
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func list(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// What must not mix has directories of its own.
func TestDirectories(t *testing.T) {
	seen := map[string]bool{}
	for _, whose := range [][]string{{"/a", "/b"}, {"/b", "/a"}, {"/a", "/b/"}, {"/a/b", ""}, {"", "/a/b"}, {"/a", ""}, {"/a"}} {
		for _, system := range []uint64{1, 2} {
			d := For(vfs.OS(), "/parent", system, whose...)
			if filepath.Dir(d.Path) != "/parent" || seen[d.Path] {
				t.Errorf("%d %q: %s", system, whose, d.Path)
			}
			seen[d.Path] = true
		}
	}
}

// A segment is on its way, and then there.
func TestStage(t *testing.T) {
	d := newDir(t)
	begin := func(content string) *Scratch {
		t.Helper()
		s, err := d.Begin(file)
		must(t, err)
		if _, flies := d.Flying()[file]; !flies {
			t.Error("it is not on its way")
		}
		_, err = s.WriteAt([]byte(content), 0)
		must(t, err)
		return s
	}
	want := func(content string, files ...string) {
		t.Helper()
		if got := list(t, d.Path); !slices.Equal(got, files) {
			t.Errorf("%v is there", got)
		}
		if got, _ := os.ReadFile(d.Segment(file)); string(got) != content {
			t.Errorf("%q", got)
		}
	}
	for _, content := range []string{"bytes", "other bytes"} {
		must(t, begin(content).Stage())
		want(content, file)
	}
	begin("of no use").Abandon()
	want("other bytes", file)
	lost := begin("of no use")
	d.GiveUp(d.Flying()[file])
	if lost.Stage() == nil {
		t.Error("what was taken away was staged")
	}
	want("other bytes", file)
	d.Drop(file)
	begin("of a killed one").Close()
	begin("of another one").Close()
	d.Clear()
	d.Clear()
	want("")
}

// Two helpers, of which one has lost its directory, stage nothing of each other's.
func TestScratchIsNobodyElses(t *testing.T) {
	d := newDir(t)
	one, err := d.Begin(file)
	must(t, err)
	must(t, os.RemoveAll(d.Path))
	must(t, d.Make())
	two, err := d.Begin(file)
	must(t, err)
	_, err = two.WriteAt([]byte("half wr"), 0)
	must(t, err)
	if one.Stage() == nil {
		t.Error("what is gone was staged")
	}
	if got := list(t, d.Path); slices.Contains(got, file) || len(got) != 1 {
		t.Errorf("%v is there", got)
	}
	_, err = two.WriteAt([]byte("itten"), 7)
	must(t, err)
	must(t, two.Stage())
	if got, err := os.ReadFile(d.Segment(file)); string(got) != "half written" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// Only a FIFO that somebody reads can be rung.
func TestBell(t *testing.T) {
	d, sys := newDir(t), OS()
	if sys.Ring(d.Bell(), "nobody") {
		t.Error("somebody listens at no FIFO")
	}
	for range 2 { // the second time over what was left
		l, err := sys.Listen(d.Bell())
		must(t, err)
		for _, line := range []string{"one", "two"} {
			if !sys.Ring(d.Bell(), line) {
				t.Error("nobody listens")
			}
			if got := <-l.Lines(); got != line {
				t.Errorf("heard %q", got)
			}
		}
		if l.Lost() {
			t.Error("it is lost")
		}
		// One that does not come to read keeps nobody waiting.
		for range 64 << 10 / len("0123456789abcdef\n") * 2 {
			if !sys.Ring(d.Bell(), "0123456789abcdef") {
				t.Fatal("a full FIFO is none")
			}
		}
		l.Close()
		for line := range l.Lines() {
			t.Errorf("heard %q", line)
		}
		if sys.Ring(d.Bell(), "nobody") {
			t.Error("somebody listens at a FIFO that was left")
		}
	}
	l, err := sys.Listen(d.Bell())
	must(t, err)
	defer l.Close()
	must(t, os.RemoveAll(d.Path))
	if !l.Lost() {
		t.Error("a FIFO that was removed is not lost")
	}
	must(t, d.Make())
	must(t, os.WriteFile(d.Bell(), nil, 0o600))
	if !l.Lost() {
		t.Error("another file is taken for the FIFO")
	}
}

func TestAlive(t *testing.T) {
	sys := OS()
	if !sys.Alive(os.Getpid()) || !sys.Alive(1) || sys.Alive(1<<22+1) {
		t.Error("wrong")
	}
}

func TestFree(t *testing.T) {
	if free, err := OS().Free(t.TempDir()); free <= 0 || err != nil {
		t.Errorf("%d, %v", free, err)
	}
	if _, err := OS().Free("/nowhere"); err == nil {
		t.Error("nowhere there is room")
	}
}

// Calls fill the directory for one server only.
func TestCalls(t *testing.T) {
	d := newDir(t)
	one, two := pgdata.Postmaster{PID: 1, Started: 1790000000}, pgdata.Postmaster{PID: 1, Started: 1790000001}
	if d.ByCalls(one) || d.ByCalls(pgdata.Postmaster{}) {
		t.Error("of nobody")
	}
	for _, server := range []pgdata.Postmaster{one, two} {
		must(t, d.SetCalls(server))
		if d.ByCalls(one) != (server == one) || d.ByCalls(two) != (server == two) {
			t.Errorf("set for %v", server)
		}
	}
	name := d.file(callsFile)
	calls, err := os.ReadFile(name)
	must(t, err)
	if !bytes.HasPrefix(calls, []byte("1 1790000001 ")) {
		t.Fatalf("%q", calls)
	}
	must(t, os.WriteFile(name, []byte("1 1790000001 7e4f5d31-3a9e-4ad3-9b0e-0d9a35c6f0a1\n"), 0o600))
	if d.ByCalls(two) {
		t.Error("of another run of the machine")
	}
}

// At its end a helper leaves nothing, or the log alone.
func TestEnd(t *testing.T) {
	for _, said := range []string{"", "a line\n"} {
		d := newDir(t)
		l, err := OS().Listen(d.Bell())
		must(t, err)
		l.Close()
		must(t, os.WriteFile(d.Segment(file), nil, 0o600))
		log := d.Logger()
		if said != "" {
			_, err = log.Write([]byte(said))
			must(t, err)
		}
		d.End()
		want := []string(nil)
		if said != "" {
			want = []string{filepath.Base(d.Path)}
			if got := list(t, d.Path); !slices.Equal(got, []string{logFile}) {
				t.Errorf("%v", got)
			}
		}
		if got := list(t, filepath.Dir(d.Path)); !slices.Equal(got, want) {
			t.Errorf("%v", got)
		}
		must(t, d.Make())
		d.Reset()
		if got := list(t, d.Path); len(got) > 0 {
			t.Errorf("%v", got)
		}
	}
}

// The log does not grow without end.
func TestLogIsBounded(t *testing.T) {
	d := newDir(t)
	log := d.Logger()
	line := []byte(strings.Repeat("x", 999) + "\n")
	for range 100 {
		n, err := log.Write(line)
		if n != len(line) {
			t.Fatalf("%d, %v", n, err)
		}
	}
	info, err := os.Stat(filepath.Join(d.Path, logFile))
	must(t, err)
	if info.Size() > maxLog || info.Size() < maxLog-1000 {
		t.Errorf("%d bytes", info.Size())
	}
}

// Who has the lock fills the directory.
func TestBusy(t *testing.T) {
	d := newDir(t)
	if d.Busy() {
		t.Error("busy from the start")
	}
	lock, err := d.FS.Lock(d.Path)
	must(t, err)
	if !d.Busy() {
		t.Error("not busy")
	}
	must(t, lock.Close())
	for range 2 {
		if d.Busy() {
			t.Error("still busy")
		}
	}
}
