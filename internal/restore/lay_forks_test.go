package restore

import (
	"testing"

	"github.com/walrecv/walrecv/segment"
)

func TestLayForks(t *testing.T) {
	const fork = 3*testPage + 40
	third := history(1, at(4, fork), 2, at(4, fork+testPage), 3, at(6, 0), 4, at(7, 100))
	fifth := func(w *world) {
		w.putHistory(2, history(1, at(4, fork)))
		w.putHistory(3, history(1, at(4, fork), 2, at(4, fork+testPage)))
		w.putHistory(4, history(1, at(4, fork), 2, at(4, fork+testPage), 3, at(6, 0)))
		w.putHistory(5, third)
		for n := uint64(1); n <= 6; n++ { // it lived on
			w.put(seg(1, n), wal(seg(1, n), full))
		}
		w.putPartial(seg(2, 4), wal(seg(2, 4), fork+testPage))
		for n := uint64(4); n <= 5; n++ {
			w.put(seg(3, n), wal(seg(3, n), full))
		}
		w.put(seg(4, 6), wal(seg(4, 6), full))
		w.putPartial(seg(4, 7), wal(seg(4, 7), 100))
		w.put(seg(5, 7), wal(seg(5, 7), full))
	}
	for _, tt := range []struct {
		name string
		text string
		from uint64 // number of the segment that the backup begins in
		want []string
	}{
		{"no fork", "", 1, nil},
		{"before all", third, 1, []string{name(seg(1, 4)), name(seg(2, 4)), name(seg(4, 7))}},
		{"behind some", third, 5, []string{name(seg(4, 7))}},
		{"behind all", third, 8, nil},
	} {
		inMode(t, recoverySignal, func(t *testing.T, w *world) {
			fifth(w)
			w.durable()
			timeline := seg(5, 0).Timeline
			if tt.text == "" {
				timeline = 1
			}
			w.must(LayForks(t.Context(), w.o, "/data", w.route(timeline, tt.text, at(tt.from, 0))))
			got := w.inPgWAL()
			for _, file := range tt.want {
				if int64(len(got[file])) != full {
					t.Errorf("%s: %s was not laid, or in part: %d bytes", tt.name, file, len(got[file]))
				}
			}
			if histories := 4; len(tt.want) > 0 && len(got) != len(tt.want)+histories || len(tt.want) == 0 && len(got) > 0 {
				t.Errorf("%s: %d files", tt.name, len(got))
			}
			if b := got[name(seg(1, 4))]; b != nil && (b[fork-1] == 0 || int64(len(b)) != full || !isZeroed(b[fork:])) {
				t.Error("the old primary's segment goes on behind the fork")
			}
		})
	}
}

// TestLayWithoutAnAncestorsHistory: the goal's history has all of it.
func TestLayWithoutAnAncestorsHistory(t *testing.T) {
	const fork = 3 * testPage
	third := history(1, at(4, fork), 2, at(6, fork))
	inMode(t, recoverySignal, func(t *testing.T, w *world) {
		w.putHistory(3, third)
		for _, n := range []segment.Name{seg(1, 3), seg(1, 4), seg(2, 4), seg(2, 5), seg(2, 6), seg(3, 6)} {
			w.put(n, wal(n, full))
		}
		w.durable()
		w.must(LayForks(t.Context(), w.o, "/data", w.route(3, third, at(3, 0))))
		w.wantLaid(map[string][]byte{
			"00000003.history": []byte(third), name(seg(1, 4)): wal(seg(1, 4), fork), name(seg(2, 6)): wal(seg(2, 6), fork),
		})
	})
}

func isZeroed(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
