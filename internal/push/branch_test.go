package push

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/fakepg"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage/storagetest"
)

// page is the length of a page: forks of fakepg must be where a record begins.
const page = 8192

// primary archives the segments of timeline 1 from 3 to last into a new archive.
func primary(t *testing.T, last uint64) (*storagetest.Mem, *server) {
	t.Helper()
	mem := storagetest.NewMem()
	s := newServer(t, mem, fakepg.Config{})
	for n := uint64(3); n <= last; n++ {
		s.pushes(s.has(1, n))
	}
	return mem, s
}

// forked is a server that left timeline 1.
func forked(t *testing.T, mem *storagetest.Mem, timeline uint32, at uint64) *server {
	t.Helper()
	return newServer(t, mem, fakepg.Config{Timeline: timeline, History: []fakepg.Fork{{Timeline: 1, End: at}}})
}

// A promoted standby archives its history, then its timeline. The old primary's
// backlog comes beside it.
func TestPromotion(t *testing.T) {
	for _, fork := range []uint64{6 * mib, 6*mib + page, 7 * mib, 7*mib + page} {
		mem, old := primary(t, 6)
		s := forked(t, mem, 2, fork)
		s.pushes(s.hasHistory(2), s.has(2, fork/mib), s.has(2, fork/mib+1), "00000002.history")
		old.pushes(old.has(1, 7), old.has(1, 8))
	}
}

// A restored clone left the timeline more than a segment below what is archived of
// it: neither its history nor anything of its timeline goes in.
func TestClone(t *testing.T) {
	for _, fork := range []uint64{3*mib + page, 4*mib + page, 5 * mib, 6*mib - page} {
		mem, _ := primary(t, 6)
		clone := forked(t, mem, 2, fork)
		clone.refused(mem, clone.hasHistory(2), segment.ErrBranch)
		clone.refused(mem, clone.has(2, fork/mib), segment.ErrBranch)
		clone.write("/data/pg_wal/"+base(2, 5)+".partial", clone.wal(2, 5))
		clone.refused(mem, base(2, 5)+".partial", segment.ErrBranch)
		const backup = "000000020000000000000005.00000028.backup"
		clone.write("/data/pg_wal/"+backup, []byte("START"))
		clone.refused(mem, backup, segment.ErrBranch)

		clone.must(clone.fsys.Remove("/data/pg_wal/00000002.history"))
		clone.refused(mem, base(2, fork/mib), segment.ErrBranch)

		clone.o.AcceptBranch = true // once, by hand
		clone.pushes(clone.hasHistory(2))
		clone.o.AcceptBranch = false
		clone.pushes("00000002.history", base(2, fork/mib), backup)
	}
}

// A timeline whose history the server holds, but never archived, is let in by its
// first segment, under the same rule, with its ancestors.
func TestHistoryBeside(t *testing.T) {
	mem, _ := primary(t, 5)
	s := newServer(t, mem, fakepg.Config{Timeline: 3, History: []fakepg.Fork{{Timeline: 1, End: 5*mib + page}, {Timeline: 2, End: 6*mib + page}}})
	s.hasHistory(2)
	s.hasHistory(3)
	s.pushes(s.has(3, 6))
	if got := keysBelow(mem, "wal/0000000"); !slices.Contains(got, "2.history") || !slices.Contains(got, "3.history") {
		t.Errorf("the archive has %v", got)
	}
	s.refused(mem, s.has(3, 5), segment.ErrBranch) // before the timeline began
}

// Two servers took the same number for a timeline.
func TestSplitBrain(t *testing.T) {
	mem, _ := primary(t, 5)
	first, second := forked(t, mem, 2, 5*mib+page), forked(t, mem, 2, 5*mib+2*page)
	first.pushes(first.hasHistory(2), first.has(2, 5))
	before := mem.Keys()
	var conflict *archive.ConflictError
	if err := second.push(second.hasHistory(2)); !errors.As(err, &conflict) {
		t.Errorf("history: %v", err)
	}
	if err := second.push(second.has(2, 6)); !errors.As(err, &conflict) {
		t.Errorf("segment: %v", err)
	}
	second.o.AcceptBranch = true // says nothing about this
	if err := second.push("00000002.history"); !errors.As(err, &conflict) {
		t.Errorf("accepted history: %v", err)
	}
	// One of them is promoted once more.
	again := newServer(t, mem, fakepg.Config{Timeline: 3, History: []fakepg.Fork{{Timeline: 1, End: 5*mib + 2*page}, {Timeline: 2, End: 6*mib + page}}})
	again.o.AcceptBranch = true
	if err := again.push(again.hasHistory(3)); !errors.Is(err, segment.ErrBranch) {
		t.Errorf("grandchild: %v", err)
	}
	if after := mem.Keys(); !slices.Equal(before, after) {
		t.Errorf("the archive had %v and has %v", before, after)
	}
}

// A branch beside the newest timeline would be taken for the newest.
func TestBesideTheNewest(t *testing.T) {
	mem, _ := primary(t, 5)
	s := forked(t, mem, 3, 5*mib+page)
	s.pushes(s.hasHistory(3), s.has(3, 5))
	aside := forked(t, mem, 4, 5*mib+2*page)
	aside.refused(mem, aside.hasHistory(4), segment.ErrBranch)
	late := forked(t, mem, 2, 5*mib+2*page)
	late.refused(mem, late.hasHistory(2), segment.ErrBranch)
	aside.o.AcceptBranch, late.o.AcceptBranch = true, true
	aside.pushes("00000004.history")
	late.pushes("00000002.history")
}

// The history of an ancestor can come after that of its descendant.
func TestLateAncestor(t *testing.T) {
	mem, _ := primary(t, 5)
	forks := []fakepg.Fork{{Timeline: 1, End: 5*mib + page}, {Timeline: 2, End: 7*mib + page}}
	newest := newServer(t, mem, fakepg.Config{Timeline: 3, History: forks})
	newest.pushes(newest.hasHistory(3), newest.has(3, 7))
	other := forked(t, mem, 2, 5*mib+2*page)
	other.refused(mem, other.hasHistory(2), segment.ErrBranch)
	late := forked(t, mem, 2, 5*mib+page)
	late.pushes(late.hasHistory(2), late.has(2, 5))
}

func TestDamagedHistory(t *testing.T) {
	mem, s := primary(t, 5)
	for _, content := range []string{"", "1\t0/500", "1\t0/500064\tno end", "x\n", "3\t0/500064\tx\n"} {
		s.write("/data/pg_wal/00000002.history", []byte(content))
		before := mem.Keys()
		if err := s.push("00000002.history"); err == nil || !slices.Equal(mem.Keys(), before) {
			t.Errorf("%q: %v", content, err)
		}
	}
}

func TestWordsOfRefusal(t *testing.T) {
	mem, _ := primary(t, 6)
	clone := forked(t, mem, 2, 4*mib+page)
	err := clone.push(clone.hasHistory(2))
	if err == nil || !strings.Contains(err.Error(), "--accept-branch") || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v", err)
	}
}
