package push

import (
	"bytes"
	"context"
	"crypto/rand"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/fakepg"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage/storagetest"
)

// hasTail writes the first bytes of segment 5 into pg_wal, and behind them what fill
// leaves there.
func (s *server) hasTail(length int, fill func(rest []byte)) string {
	data := s.whole(5)
	fill(data[length:])
	s.write("/data/pg_wal/"+base(1, 5), data)
	return base(1, 5)
}

func zeros(rest []byte) { clear(rest) }

// stale fills the rest of a file with what an earlier use of it left.
func (s *server) stale(rest []byte) {
	old := s.whole(2)
	copy(rest, old[len(old)-len(rest):])
}

// tails are lengths of tails: at the border of a record or a page, and within one.
var tails = []int{at(0, 1), 8192, 8192 * 127, at(3, 5) + 7, at(127, 10), mib - 8}

// A tail that restore_command filled up is not archived, and is asked for again until
// the archive has the true segment.
func TestPaddedTail(t *testing.T) {
	for _, length := range tails {
		mem := storagetest.NewMem()
		standby := newServer(t, mem, fakepg.Config{})
		standby.pushes(standby.has(1, 4))
		for _, fill := range []func([]byte){zeros, standby.stale} {
			file := standby.hasTail(length, fill)
			before := mem.Keys()
			err := standby.push(file)
			if err == nil || !strings.Contains(err.Error(), "not complete") || !slices.Equal(mem.Keys(), before) {
				t.Fatalf("%d bytes: %v; the archive has %v", length, err, mem.Keys())
			}
		}
		primary := newServer(t, mem, fakepg.Config{})
		primary.pushes(primary.hasWhole()) // the true one goes in
		for _, fill := range []func([]byte){zeros, standby.stale} {
			standby.pushes(standby.hasTail(length, fill)) // nothing to add
		}
		if !bytes.Equal(archived(t, mem, 1, 5), primary.whole(5)) {
			t.Fatalf("%d bytes: the archive has something else", length)
		}
		// The beginning of something else is not.
		data := primary.whole(5)
		alter(data, at(0, 0))
		clear(data[length:])
		standby.write("/data/pg_wal/"+base(1, 5), data)
		standby.refused(mem, base(1, 5), segment.ErrBranch)
	}
}

// The last segment of a timeline that a standby followed to the fork comes under the
// name of a complete one. It is the partial that the promoted server calls it.
func TestEndOfFollowedTimeline(t *testing.T) {
	const fork = 5*mib + 3*8192 + 24 + 64*5
	for _, fill := range []string{"zeros", "stale"} {
		mem := storagetest.NewMem()
		s := newServer(t, mem, fakepg.Config{})
		rest := zeros
		if fill == "stale" {
			rest = s.stale
		}
		file := s.hasTail(fork%mib, rest)
		if err := s.push(file); err == nil {
			t.Fatalf("%s: archived before anybody knows that the timeline has ended", fill)
		}
		s.pg.Promote(2, fork)
		s.pushes(s.hasHistory(2), file, file, s.has(2, 5))
		want, err := vfs.ReadFile(s.fsys, "/data/pg_wal/"+file)
		s.must(err)
		if got := partials(t, mem, 1, 5); len(got) != 1 || !bytes.Equal(got[0], want) {
			t.Errorf("%s: %d partials", fill, len(got))
		}
		if archived(t, mem, 1, 5) != nil {
			t.Errorf("%s: it was archived as a complete segment", fill)
		}
		// What ends before the fork lacks something.
		if err := s.push(s.hasTail(fork%mib-64, zeros)); err == nil {
			t.Errorf("%s: archived without its last record", fill)
		}
	}
}

// Where there is room for nothing, one object is in memory at a time: that of the
// complete segment is gone before that of the partial is made.
func TestEndOfFollowedTimelineOnFullDisk(t *testing.T) {
	const fork = 5*mib + 3*8192 + 24 + 64*5
	mem := storagetest.NewMem()
	s := newServer(t, mem, fakepg.Config{})
	file := s.hasTail(fork%mib, zeros)
	s.pg.Promote(2, fork)
	s.pushes(s.hasHistory(2))
	s.o.FS = vfs.NewFault(s.fsys, func(op vfs.Op) error {
		if op.Kind == vfs.OpCreate && strings.HasPrefix(op.Name, "/tmp/") {
			return syscall.ENOSPC
		}
		return nil
	})
	s.o.Path = "pg_wal/" + file
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // it would wait for itself for ever
	defer cancel()
	err := Run(ctx, s.o)
	if keys := mem.Keys(); err != nil || !slices.ContainsFunc(keys, func(key string) bool { return strings.Contains(key, ".partial") }) {
		t.Errorf("%v; the archive has %v", err, keys)
	}
}

func TestPartial(t *testing.T) {
	mem := storagetest.NewMem()
	s := newServer(t, mem, fakepg.Config{})
	put := func(data []byte) {
		t.Helper()
		s.write("/data/pg_wal/"+base(1, 5)+".partial", data)
		s.pushes(base(1, 5) + ".partial")
	}
	whole := s.whole(5)
	first := slices.Clone(whole)
	clear(first[at(3, 5):])
	second := slices.Clone(whole)
	s.stale(second[at(3, 5):])
	put(first)
	put(first)
	put(second)           // of another server
	put(first[:at(3, 5)]) // cut short by a crash: the same
	got := partials(t, mem, 1, 5)
	if len(got) != 2 || !slices.ContainsFunc(got, func(p []byte) bool { return bytes.Equal(p, first) }) ||
		!slices.ContainsFunc(got, func(p []byte) bool { return bytes.Equal(p, second) }) {
		t.Errorf("%d partials", len(got))
	}
	if err := s.push(s.has(1, 5)); err != nil {
		t.Errorf("the complete segment beside them: %v", err)
	}
}

// A partial never fails for its content: the server would ask for nothing else.
func TestPartialOfGarbage(t *testing.T) {
	noise := make([]byte, mib)
	_, _ = rand.Read(noise)
	noise[2] &^= 2 // not a long header
	mem := storagetest.NewMem()
	s := newServer(t, mem, fakepg.Config{})
	s.pushes(s.has(1, 4))
	for _, data := range [][]byte{nil, noise[:30], noise, make([]byte, mib), append(s.wal(1, 5), 1), s.wal(1, 6)} {
		s.write("/data/pg_wal/"+base(1, 5)+".partial", data)
		s.log.Reset()
		if err := s.push(base(1, 5) + ".partial"); err != nil || strings.Count(s.log.String(), "\n") != 1 {
			t.Errorf("%d bytes: %v\n%s", len(data), err, s.log.String())
		}
	}
	if keys := keysBelow(mem, "wal/"); len(keys) != 1 {
		t.Errorf("the archive has %v", keys)
	}
}

// Damage in the middle is the server's. It is archived, with a word about it, because
// holding it back would hold back all that comes after it.
func TestDamageInTheMiddle(t *testing.T) {
	mem := storagetest.NewMem()
	s := newServer(t, mem, fakepg.Config{})
	data := s.whole(5)
	data[at(50, 3)+30] ^= 1
	s.write("/data/pg_wal/"+base(1, 5), data)
	if err := s.push(base(1, 5)); err != nil || strings.Count(s.log.String(), "\n") != 1 || !strings.Contains(s.log.String(), "damage") {
		t.Errorf("%v\n%s", err, s.log.String())
	}
	info, err := open(t, mem).SegmentInfo(t.Context(), segment.Name{Timeline: 1, Number: 5})
	if err != nil || info.Summary.Faults != 1 || !bytes.Equal(archived(t, mem, 1, 5), data) {
		t.Errorf("%+v, %v", info, err)
	}
}

// A standby streams into the file that it has restored: while that is read, parts of
// it are old and parts new, which looks like damage.
func TestBeingWritten(t *testing.T) {
	mem := storagetest.NewMem()
	s := newServer(t, mem, fakepg.Config{})
	s.pushes(s.has(1, 4))
	file := s.hasTail(at(50, 3), func(rest []byte) { clear(rest[:300_000]) })
	opened := 0
	s.o.FS = vfs.NewFault(s.fsys, func(op vfs.Op) error {
		if op.Kind == vfs.OpOpenRead && strings.HasSuffix(op.Name, file) {
			if opened++; opened == 3 { // for its name, to be archived, and once more
				s.hasWhole()
			}
		}
		return nil
	})
	before := mem.Keys()
	if err := s.push(file); err == nil || !strings.Contains(err.Error(), "being written") || !slices.Equal(mem.Keys(), before) {
		t.Errorf("%v; the archive has %v", err, mem.Keys())
	}
	s.o.FS = s.fsys
	s.pushes(file)
}
