package status_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/segment"
)

// chunk puts a piece of a segment. Nobody reads it.
func (w *world) chunk(timeline segment.TimelineID, number uint64, from, to int64) {
	w.set(fmt.Sprintf("tail/%s/%08X-%08X.zst", segmentName(timeline, number), from, to), nil)
}

func TestTail(t *testing.T) {
	for _, tt := range []struct {
		name   string
		chunks func(w *world)
		tail   string      // of the newest timeline
		window segment.LSN // its end
		gaps   int
	}{
		{"none", func(*world) {}, "", 0xC00000, 0},
		{"leftovers", func(w *world) { w.chunk(3, 11, 0, 100) }, "", 0xC00000, 0},
		{"one", func(w *world) { w.chunk(3, 12, 0, 0x100) }, "0/C00000 0/C00100 1", 0xC00100, 0},
		{"two and one behind a hole", func(w *world) {
			w.chunk(3, 12, 0, 0x100)
			w.chunk(3, 12, 0x80, 0x200)
			w.chunk(3, 12, 0x201, 0x300)
		}, "0/C00000 0/C00200 3", 0xC00200, 0},
		{"over a border", func(w *world) {
			w.chunk(3, 12, 0, 0x80000)
			w.chunk(3, 12, 0x80000, 1<<20)
			w.chunk(3, 13, 0, 0x28)
		}, "0/C00000 0/D00028 3", 0xD00028, 0},
		{"not whole before a border", func(w *world) {
			w.chunk(3, 12, 0, 0x80000)
			w.chunk(3, 13, 0, 0x28)
		}, "0/C00000 0/C80000 2", 0xC80000, 1},
		{"instead of a segment", func(w *world) {
			w.remove(segmentKey(3, 10))
			w.chunk(3, 10, 0, 1<<20)
		}, "0/C00000 0/C00000 1", 0xC00000, 0},
		{"of a new timeline", func(w *world) {
			w.history(4, history3+"3\t0/C80000\tno recovery target specified\n")
			w.chunk(4, 12, 0, 0x90000)
		}, "0/C00000 0/C90000 1", 0xC90000, 0},
	} {
		w := afterFailovers(t)
		tt.chunks(w)
		r := w.report()
		newest := r.Timelines[len(r.Timelines)-1]
		got := ""
		if newest.Tail != nil {
			got = fmt.Sprint(newest.Tail.Start, " ", newest.Tail.End, " ", newest.Tail.Chunks)
		}
		if got != tt.tail || r.Window == nil || r.Window.Start != 0x200000 || r.Window.End != tt.window || len(r.Gaps) != tt.gaps {
			t.Errorf("%s: tail %q, window %+v, gaps %+v; want %q up to %s", tt.name, got, r.Window, r.Gaps, tt.tail, tt.window)
		}
		data, err := json.Marshal(r)
		if err != nil || strings.Contains(string(data), `"tail":{`) != (tt.tail != "") {
			t.Errorf("%s: %s, %v", tt.name, data, err)
		}
		if text := text(t, r); newest.Tail != nil && !strings.Contains(text, newest.Tail.End.String()) {
			t.Errorf("%s: %s", tt.name, text)
		}
	}
}

// What is damaged ends the window, whatever comes behind.
func TestTailBehindDamage(t *testing.T) {
	w := afterFailovers(t)
	w.set(segmentKey(3, 11), nil) // unreadable
	w.chunk(3, 12, 0, 0x100)
	if r := w.report(); r.Window == nil || r.Window.End != 0xB00000 {
		t.Errorf("window %+v", r.Window)
	}
}
