package segment_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
)

// limited is a spool with a limit, and its log.
type limited struct {
	t     *testing.T
	disk  *vfs.Mem
	spool *segment.Spool
	log   bytes.Buffer
}

func newLimited(t *testing.T, limit int64) *limited {
	l := &limited{t: t, disk: vfs.NewMem()}
	var err error
	l.spool, err = segment.OpenSpool(l.disk, "/", slog.New(slog.NewTextHandler(&l.log, nil)), segment.SpoolOptions{Max: limit})
	l.must(err)
	l.must(l.spool.Identify(segment.Cluster{Identity: segment.Identity{SystemID: 1, Size: segment.MinSize}, Major: 18, FileMode: 0o600}))
	return l
}

func (l *limited) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// write writes segments of a timeline from a number on, filled with a byte.
func (l *limited) write(w *segment.Writer, from, to uint64, fill byte) {
	l.t.Helper()
	for n := from; n < to; n++ {
		l.must(w.Append(segment.MinSize.Start(n), bytes.Repeat([]byte{fill}, int(segment.MinSize))))
	}
	_, err := w.Sync()
	l.must(err)
}

func (l *limited) writer(number uint64) *segment.Writer {
	l.t.Helper()
	w, err := l.spool.NewWriter(segment.Position{Timeline: 1, LSN: segment.MinSize.Start(number)})
	l.must(err)
	return w
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (l *limited) remove(number uint64) {
	l.t.Helper()
	l.must(l.spool.View(func(segment.Listing) {
		l.must(l.spool.Remove(segment.Name{Timeline: 1, Number: number}.Format(segment.MinSize)))
	}))
}

// room is how many more segments there is room for, found by trying.
func (l *limited) room(w *segment.Writer, next uint64) int {
	l.t.Helper()
	for n := 0; ; n++ {
		if w.Room() != nil {
			return n
		}
		l.write(w, next+uint64(n), next+uint64(n)+1, 'r')
	}
}

func TestSpoolHasRoomUpToItsLimit(t *testing.T) {
	const size = int64(segment.MinSize)
	l := newLimited(t, 6*size+size/2)
	w := l.writer(1)
	if n := l.room(w, 1); n != 6 {
		t.Fatalf("room for %d segments, want 6", n)
	}
	wait := w.Room()
	if again := w.Room(); again != wait || isClosed(wait) {
		t.Error("two that wait for the same thing are told at different times")
	}
	l.remove(1)
	if !isClosed(wait) {
		t.Error("whoever waits for room is not told")
	}
	if n := l.room(w, 7); n != 1 {
		t.Errorf("room for %d segments after one was removed", n)
	}
	// Files that are there already, as after a restart, and what others do to them.
	again := &limited{t: t, disk: l.disk}
	l.must(w.Close())
	l.must(l.spool.Close())
	var err error
	again.spool, err = segment.OpenSpool(l.disk, "/", slog.New(slog.NewTextHandler(&again.log, nil)), segment.SpoolOptions{Max: 7 * size})
	l.must(err)
	l.must(again.spool.Identify(segment.Cluster{Identity: segment.Identity{SystemID: 1, Size: segment.MinSize}, Major: 18, FileMode: 0o600}))
	l.must(again.spool.Prepare())
	w = again.writer(8)
	if n := again.room(w, 8); n != 1 {
		t.Errorf("room for %d segments after a restart, want 1", n)
	}
	l.must(l.disk.Remove("/" + segment.Name{Timeline: 1, Number: 2}.Format(segment.MinSize)))
	wait = w.Room()
	if _, err := again.spool.Scan(); err != nil || !isClosed(wait) || w.Room() != nil {
		t.Errorf("a file that somebody else removed still counts, %v", err)
	}
}

// What is being written counts with its full size, whatever becomes of it; files
// that stay for ever do not.
func TestWhatCountsForTheLimit(t *testing.T) {
	const size = int64(segment.MinSize)
	l := newLimited(t, 6*size)
	w := l.writer(1)
	l.write(w, 1, 5, 'a')
	l.must(w.Append(segment.MinSize.Start(5), []byte("begun"))) // 4 complete, 1 begun
	if w.Room() != nil {
		t.Error("no room for the last one")
	}
	l.must(w.Append(segment.MinSize.Start(5)+5, bytes.Repeat([]byte{'b'}, int(size)-5)))
	l.must(w.Append(segment.MinSize.Start(6), []byte("begun"))) // 4 complete, one full, 1 begun
	if w.Room() == nil {
		t.Error("a full segment that is not sealed does not count")
	}
	l.must(w.Close()) // two partials stay
	w = l.writer(1)
	l.write(w, 1, 3, 'x') // others under the same names: the old ones are set aside
	if n := l.room(w, 3); n != 4 {
		t.Errorf("room for %d segments, want 4: up to the sixth", n)
	}
	l.must(w.Switch(2, segment.MinSize.Start(6)+100, []byte("1\t0/600064\tno recovery target specified\n")))
	if w.Room() == nil {
		t.Error("more room after a timeline switch")
	}
	l.remove(1)
	l.remove(2)
	l.must(w.Append(segment.MinSize.Start(6), []byte("begun")))
	if w.Room() != nil {
		t.Error("no room beside the first segment of the new timeline")
	}
	l.must(w.Switch(3, segment.MinSize.Start(6)+3, []byte("1\t0/600064\tx\n2\t0/600003\tx\n")))
	for n := range 2 { // the partial that was left does not count
		if w.Room() != nil {
			t.Fatalf("no room for segment %d", n)
		}
		l.write(w, 6+uint64(n), 7+uint64(n), 'c')
	}
	if w.Room() == nil {
		t.Error("room without an end")
	}
}

func TestLimitOfTheSpoolIsRaised(t *testing.T) {
	l := newLimited(t, 1)
	w := l.writer(1)
	if n := l.room(w, 1); n != 4 || l.spool.Max() != 4*int64(segment.MinSize) {
		t.Errorf("room for %d segments, at most %d bytes", n, l.spool.Max())
	}
	if strings.Count(l.log.String(), "is raised") != 1 {
		t.Errorf("log: %s", l.log.String())
	}
	if l = newLimited(t, 0); l.spool.Max() != 0 {
		t.Error("a limit that nobody asked for")
	}
	l.write(l.writer(1), 1, 9, 'a')
	if l.writer(9).Room() != nil || l.log.Len() > 0 {
		t.Errorf("no room without a limit; log: %s", l.log.String())
	}
}

// A limit that changes counts at once, for who waits, too, and is never below what
// segments need.
func TestSpoolLimitChanges(t *testing.T) {
	const size = int64(segment.MinSize)
	l := newLimited(t, 5*size)
	w := l.writer(1)
	l.room(w, 1)
	wait := w.Room()
	l.spool.SetMax(20 * size)
	if !isClosed(wait) || l.spool.Max() != 20*size || !strings.Contains(l.log.String(), "the spool has room again") {
		t.Errorf("with room for more: told %v, limit %d\n%s", isClosed(wait), l.spool.Max(), l.log.String())
	}
	if n := l.room(w, 6); n != 15 {
		t.Errorf("room for %d segments more, want 15", n)
	}
	l.spool.SetMax(size)
	if l.spool.Max() != 4*size || !strings.Contains(l.log.String(), "is raised") || w.Room() == nil {
		t.Errorf("the limit is %d\n%s", l.spool.Max(), l.log.String())
	}
}
