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
