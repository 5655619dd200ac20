package restore

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/walrecv/walrecv/internal/pgdata"
	"github.com/walrecv/walrecv/internal/prefetch"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage/storagetest"
)

// helped is a server whose calls have a helper, which is started as a goroutine.
type helped struct {
	*world
	sys    *fakeSystem
	parent chan int // see Help
	stop   context.CancelFunc
	ctx    context.Context
	all    sync.WaitGroup

	mu      sync.Mutex
	starts  int
	ended   []error // of the helpers
	opened  []string
	changed func(*Options) // of a helper
}

const ahead4 = 4 // segments that are prefetched in these tests

// withHelper has the world's calls prefetch.
func withHelper(t *testing.T, signal string, test func(h *helped)) {
	t.Helper()
	inMode(t, signal, func(_ *testing.T, w *world) {
		h := prefetching(w)
		defer h.end()
		test(h)
	})
}

func prefetching(w *world) *helped {
	h := &helped{world: w, sys: &fakeSystem{free: 1 << 40, bells: map[string]*fakeBell{}}, parent: make(chan int)}
	w.must(w.fs.Mkdir("/ahead", 0o700))
	h.ctx, h.stop = context.WithCancel(context.Background())
	w.o.PrefetchDir = func(string) (string, error) { return "/ahead", nil }
	w.o.Prefetch = Prefetch{Ahead: ahead4, Start: h.start, System: h.sys}
	w.archiveHook = h.note
	return h
}

// end ends the helpers, as the end of the machine would.
func (h *helped) end() {
	h.stop()
	h.all.Wait()
}

func (h *helped) start() error {
	o := h.o
	o.File = h.sys.last
	h.mu.Lock()
	defer h.mu.Unlock()
	h.starts++
	if h.changed != nil {
		h.changed(&o)
	}
	h.all.Go(func() {
		err := Help(h.ctx, o, h.parent)
		h.mu.Lock()
		defer h.mu.Unlock()
		h.ended = append(h.ended, err)
	})
	return nil
}

// note notes which segments are opened in the archive.
func (h *helped) note(r storagetest.Request) storagetest.Fault {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r.Op == storagetest.OpOpen && strings.Contains(r.Key, "/wal/") && strings.Contains(r.Key, ".zst") {
		h.opened = append(h.opened, r.Key[strings.LastIndex(r.Key, "/")+1:][:24])
	}
	return storagetest.Fault{}
}

// took gives what was opened since it was asked last, once all is quiet.
func (h *helped) took() []string {
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	opened := h.opened
	h.opened = nil
	slices.Sort(opened)
	return opened
}

// staged are the segments that wait, once all is quiet.
func (h *helped) staged() (files []string) {
	h.t.Helper()
	synctest.Wait()
	for _, e := range h.list() {
		if segment.IsSegmentName(e) {
			files = append(files, e)
		}
	}
	return files
}

// list is all that is in the staging directory; nil without one.
func (h *helped) list() (files []string) {
	h.t.Helper()
	entries, err := h.fs.ReadDir(h.dir().Path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		h.t.Fatal(err)
	}
	for _, e := range entries {
		files = append(files, e.Name)
	}
	return files
}

func (h *helped) dir() *prefetch.Dir {
	d := h.o.stagingDir("/ahead", "/data", testSystem)
	d.FS = h.fs
	return d
}

func (h *helped) wantStaged(names ...segment.Name) {
	h.t.Helper()
	var want []string
	for _, n := range names {
		want = append(want, name(n))
	}
	if got := h.staged(); !slices.Equal(got, want) {
		h.t.Fatalf("staged: %v, want %v", got, want)
	}
}

// putAll archives segments of timeline 1.
func (w *world) putAll(from, to uint64) {
	w.t.Helper()
	for number := from; number <= to; number++ {
		n := seg(1, number)
		if object, ok := objects.Load(number); ok {
			w.store.Set(w.key(n), object.([]byte))
			continue
		}
		w.put(n, wal(n, full))
		object, _ := w.store.Get(w.key(n))
		objects.Store(number, object)
	}
}

// objects are those that putAll has made already: that takes longer than the tests.
var objects sync.Map

// fakeSystem has FIFOs that are channels.
type fakeSystem struct {
	mu    sync.Mutex
	bells map[string]*fakeBell
	dead  bool // the server's process
	free  int64
	last  string // that a bell was rung with, whether anybody heard it or not
}

func (s *fakeSystem) Ring(bell, line string) bool {
	s.mu.Lock()
	b := s.bells[bell]
	s.last = line
	s.mu.Unlock()
	if b == nil {
		return false
	}
	select {
	case b.lines <- line:
	case <-b.closed:
		return false
	default: // nobody reads, but it could be
	}
	synctest.Wait() // it has been heard; what it leads to may take its time
	return true
}

func (s *fakeSystem) Listen(bell string) (prefetch.Listener, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := &fakeBell{system: s, name: bell, lines: make(chan string, 64), closed: make(chan struct{})}
	s.bells[bell] = b
	return b, nil
}

func (s *fakeSystem) Alive(int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.dead
}

func (s *fakeSystem) Free(string) (int64, error) { return s.free, nil }

func (s *fakeSystem) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

type fakeBell struct {
	system *fakeSystem
	name   string
	lines  chan string
	closed chan struct{}
	lost   bool
}

func (b *fakeBell) Lines() <-chan string { return b.lines }

func (b *fakeBell) Lost() bool {
	b.system.mu.Lock()
	defer b.system.mu.Unlock()
	return b.lost
}

func (b *fakeBell) Close() {
	b.system.mu.Lock()
	defer b.system.mu.Unlock()
	close(b.closed)
	delete(b.system.bells, b.name)
}

// A segment that waits is delivered without a word to any place, and each segment is
// fetched once.
func TestPrefetchedIsDelivered(t *testing.T) {
	for _, signal := range modes {
		withHelper(t, signal, func(h *helped) {
			h.putAll(1, 9)
			h.wantBytes(seg(1, 1), wal(seg(1, 1), full))
			h.wantStaged(seg(1, 2), seg(1, 3), seg(1, 4), seg(1, 5))
			h.took()
			for n := uint64(2); n <= 5; n++ {
				h.sys.set(func() { h.sys.free = 0 }) // the helper stages nothing more
				h.archiveHook = dead
				h.wantBytes(seg(1, n), wal(seg(1, n), full))
			}
			if h.standby() && h.exists("/data/"+noteFile) {
				t.Error("a note was left")
			}
			h.archiveHook = h.note
			h.sys.set(func() { h.sys.free = 1 << 40 })
			time.Sleep(time.Minute) // and the helper is gone
			h.took()
			for n := uint64(1); n <= 9; n++ {
				h.wantBytes(seg(1, n), wal(seg(1, n), full))
				synctest.Wait() // the helper takes its time to start
			}
			all := h.took()
			for n := uint64(1); n <= 9; n++ {
				if got := len(all) - len(slices.DeleteFunc(slices.Clone(all), func(s string) bool { return s == name(seg(1, n)) })); got != 1 {
					t.Errorf("segment %d was opened %d times", n, got)
				}
			}
			if h.starts != 2 {
				t.Errorf("%d helpers were started", h.starts)
			}
		})
	}
}

// Not every call prefetches, or takes what was prefetched.
func TestWhoPrefetches(t *testing.T) {
	for title, c := range map[string]struct {
		signal string
		with   func(h *helped)
		starts int
		hit    bool
	}{
		"recovery":         {recoverySignal, func(*helped) {}, 1, true},
		"standby":          {standbySignal, func(*helped) {}, 1, true},
		"0":                {recoverySignal, func(h *helped) { h.o.Prefetch.Ahead = 0 }, 0, false},
		"pg_rewind":        {recoverySignal, func(h *helped) { h.o.Path = "pg_wal/" + name(seg(1, 1)) }, 0, false},
		"no directory":     {recoverySignal, func(h *helped) { h.o.PrefetchDir = nil }, 0, false},
		"no pg_control":    {recoverySignal, func(h *helped) { h.remove("/data/" + controlFile) }, 0, false},
		"no server":        {recoverySignal, func(h *helped) { h.remove("/data/" + pidFile) }, 0, true},
		"a dead server":    {recoverySignal, func(h *helped) { h.sys.dead = true }, 0, true},
		"a single process": {recoverySignal, func(h *helped) { h.write("/data/"+pidFile, []byte("-4711\n/data\n1790000000\n")) }, 0, true},
		"a note":           {standbySignal, leaveNote, 0, false},
	} {
		t.Run(title, func(t *testing.T) {
			withHelper(t, c.signal, func(h *helped) {
				h.putAll(1, 3)
				c.with(h)
				h.wantBytes1(seg(1, 1))
				if h.starts != c.starts {
					t.Errorf("%d helpers were started, want %d", h.starts, c.starts)
				}
				// As if a helper were there, that has this one.
				h.end()
				h.fakeHelper()
				h.stage(seg(1, 1), walOf(testSystem, seg(1, 1), 1, 9_000))
				h.ask(name(seg(1, 1)))
				if hit := !h.exists(h.dir().Segment(name(seg(1, 1)))); hit != c.hit {
					t.Errorf("the staged segment was used: %v", hit)
				}
			})
		})
	}
}

// leaveNote leaves a note of another file.
func leaveNote(h *helped) {
	n := &note{Format: noteFormat}
	n.add(name(seg(1, 7)), time.Now())
	h.must(n.save(&pgdata.Dir{FS: h.fs, Path: "/data"}, pgdata.Postmaster{}))
}

// wantBytes1 is wantBytes for any path.
func (h *helped) wantBytes1(n segment.Name) {
	h.t.Helper()
	h.want(name(n), CodeDelivered)
}

// fakeHelper is a helper that does nothing, and so one that hangs.
func (h *helped) fakeHelper() {
	h.t.Helper()
	h.must(h.dir().Make())
	_, err := h.sys.Listen(h.dir().Bell())
	h.must(err)
}

func (h *helped) stage(n segment.Name, data []byte) {
	h.t.Helper()
	h.must(h.dir().Make())
	h.write(h.dir().Segment(name(n)), data)
}

// What is not what it should be is not used, nor what nobody answers for.
func TestStagedIsChecked(t *testing.T) {
	n := seg(1, 2)
	for title, c := range map[string]struct {
		with func(h *helped)
		hit  bool
	}{
		"sound":            {func(h *helped) { h.stage(n, wal(n, full)) }, true},
		"of nobody":        {func(h *helped) { h.stage(n, wal(n, full)); h.sys.bells = map[string]*fakeBell{} }, false},
		"short":            {func(h *helped) { h.stage(n, wal(n, full)[:full/2]) }, false},
		"empty":            {func(h *helped) { h.stage(n, nil) }, false},
		"zeros":            {func(h *helped) { h.stage(n, make([]byte, full)) }, false},
		"another segment":  {func(h *helped) { h.stage(n, wal(seg(1, 3), full)) }, false},
		"another timeline": {func(h *helped) { h.stage(n, walOf(testSystem, n, 2, full)) }, false},
		"another cluster":  {func(h *helped) { h.stage(n, walOf(otherSystem, n, 1, full)) }, false},
		"unreadable":       {func(h *helped) { h.must(h.fs.Mkdir(h.dir().Segment(name(n)), 0o700)) }, false},
		"another server's": {func(h *helped) {
			h.sys.bells = nil
			h.stage(n, wal(n, full))
			h.calls(pgdata.Postmaster{PID: 4711, Started: 1})
		}, false},
		"of earlier calls": {func(h *helped) { h.sys.bells = nil; h.stage(n, wal(n, full)); h.calls(thisServer) }, true},
	} {
		t.Run(title, func(t *testing.T) {
			withHelper(t, recoverySignal, func(h *helped) {
				h.putAll(1, 3)
				h.o.Prefetch.Start = nil
				h.fakeHelper()
				c.with(h)
				h.took()
				h.wantBytes(n, wal(n, full))
				if hit := len(h.took()) == 0; hit != c.hit {
					t.Errorf("the staged segment was used: %v", hit)
				}
			})
		})
	}
}

var thisServer = pgdata.Postmaster{PID: 4711, Started: 1790000000}

func (h *helped) calls(server pgdata.Postmaster) {
	h.t.Helper()
	h.must(h.dir().Make())
	h.must(h.dir().SetCalls(server))
}

// On another file system a segment is copied, and a helper that takes it away in
// between makes no difference.
func TestStagedElsewhere(t *testing.T) {
	for _, gone := range []bool{false, true} {
		withHelper(t, recoverySignal, func(h *helped) {
			n := seg(1, 2)
			h.putAll(1, 3)
			h.fakeHelper()
			h.stage(n, wal(n, full))
			h.localHook = func(op vfs.Op) error {
				if op.Kind != vfs.OpRename || op.Name != h.dir().Segment(name(n)) {
					return nil
				}
				if gone {
					h.remove(op.Name)
					return fs.ErrNotExist
				}
				return syscall.EXDEV
			}
			h.wantBytes(n, wal(n, full))
			if opened := len(h.took()) > 0; opened != gone {
				t.Errorf("gone %v, opened in the archive %v", gone, opened)
			}
			if h.exists(h.dir().Segment(name(n))) || h.log.Len() > 0 {
				t.Errorf("it is still there, or was spoken of: %s", h.log)
			}
		})
	}
}
