package segment_test

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/walrecv/walrecv/segment"
)

// What is in front of a position is the history's own: an ancestor's segment that
// goes on behind the fork is not.
func TestBefore(t *testing.T) {
	s, err := openSpool(newDisk(t))
	must(t, err)
	defer s.Close()
	w, err := s.NewWriter(segment.Position{Timeline: 1, LSN: 2 << 20})
	must(t, err)
	must(t, w.Append(2<<20, testWAL{}.bytes(1, 2<<20, 1<<20)))
	_, err = w.Sync()
	must(t, err)
	name, file, err := s.Before(3<<20, segment.History{Timeline: 1})
	must(t, err)
	must(t, file.Close())
	if want := (segment.Name{Timeline: 1, Number: 2}); name != want {
		t.Errorf("%v", name)
	}
	for text, tli := range map[string]segment.TimelineID{"1\t0/280000\tx\n": 2, "": 1} {
		h := segment.History{Timeline: 1}
		at := segment.LSN(2 << 20) // nothing is there
		if text != "" {
			h, at = parse(t, tli, text), 3<<20
		}
		if name, _, err := s.Before(at, h); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v, %v", text, name, err)
		}
	}
}

// TestSealed: a position there is from the first writer on, and it never goes back.
func TestSealed(t *testing.T) {
	spool, err := openSpool(newDisk(t))
	must(t, err)
	is := func(number uint64) {
		t.Helper()
		if at, ok := spool.Sealed(); ok != (number > 0) || ok && at != pos(1, testSize.Start(number)) {
			t.Errorf("%v, %v; want the start of segment %d", at, ok, number)
		}
	}
	is(0)
	w, err := spool.NewWriter(pos(1, testSize.Start(3)))
	must(t, err)
	is(3)
	var wal testWAL
	must(t, w.Append(testSize.Start(3), wal.bytes(1, testSize.Start(3), int(testSize))))
	_, err = w.Sync()
	must(t, err)
	is(4)
	must(t, w.Close())
	for _, begin := range []struct{ at, sealed uint64 }{{2, 4}, {4, 4}, {7, 7}} { // the last one behind a gap
		w, err = spool.NewWriter(pos(1, testSize.Start(begin.at)))
		must(t, err)
		is(begin.sealed)
		must(t, w.Close())
	}
}
