package restore

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
)

// TestPruned: timeline 1 lived on beyond the fork at which timeline 2 left it, and prune
// has removed all there was of it. A recovery along it must not end for that.
func TestPruned(t *testing.T) {
	const said = "was removed by prune"
	for _, tt := range []struct {
		name    string
		asked   segment.Name
		removed bool // is said
	}{
		{"before the cut", seg(1, 7), true},
		{"the last before the cut", seg(1, 8), true},
		{"behind the cut", seg(1, 9), false},
		{"of a later timeline", seg(3, 7), false},
	} {
		bothModes(t, func(t *testing.T, w *world) {
			w.putHistory(2, history(1, at(4, 30_000)))
			for n := uint64(9); n < 12; n++ {
				w.put(seg(2, n), wal(seg(2, n), full))
			}
			w.must(w.arch.PutPruned(t.Context(), archive.Pruned{Timeline: 1, Before: at(3, 0)}, time.Now()))
			w.want(name(tt.asked), CodeAbsent)
			w.must(w.arch.PutPruned(t.Context(), archive.Pruned{Timeline: 2, Before: at(9, 0)}, time.Now()))
			want := CodeAbsent
			if tt.removed {
				want = w.pick(CodeDamaged, CodeAbsent)
			}
			for range 2 { // a standby's second call looks at its note
				a := w.want(name(tt.asked), want)
				if says := strings.Contains(a.Message+w.log.String(), said); says != tt.removed {
					t.Errorf("%s: %q; log: %s", tt.name, a.Message, w.log)
				}
			}
			if noted := w.exists("/data/" + noteFile); noted != (tt.removed && w.standby()) {
				t.Errorf("%s: the note's existence is %v", tt.name, noted)
			}
		})
	}
}

// TestRequestsForWhatIsPruned: only a call that finds nothing looks for it.
func TestRequestsForWhatIsPruned(t *testing.T) {
	inMode(t, recoverySignal, func(t *testing.T, w *world) {
		w.put(seg(1, 1), wal(seg(1, 1), full))
		w.putChunk(seg(1, 2), 0, 100_000)
		lists := 0
		w.o.Archive.Open = func(context.Context) (storage.Store, error) {
			return storage.WithMeter(w.store, func(op storage.Op, _ error) {
				if op == storage.OpList {
					lists++
				}
			}), nil
		}
		for _, tt := range []struct {
			asked uint64
			code  int
			lists int
		}{{1, CodeDelivered, 0}, {2, CodeDelivered, 4}, {3, CodeAbsent, 5}} {
			lists = 0
			w.want(name(seg(1, tt.asked)), tt.code)
			if lists != tt.lists {
				t.Errorf("segment %d: %d lists, want %d", tt.asked, lists, tt.lists)
			}
		}
	})
}
