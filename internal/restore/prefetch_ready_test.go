package restore

import (
	"slices"
	"testing"
)

// TestHelperIsReady: in front of a recovery from far away the helper is started with the
// first call, which asks for a history. The first segment then finds it.
func TestHelperIsReady(t *testing.T) {
	for _, tt := range []struct {
		what       string
		far, label bool
		starts     int
	}{
		{"far away", true, true, 1},
		{"near", false, true, 0},
		{"the recovery has begun before", true, false, 0},
	} {
		t.Run(tt.what, func(t *testing.T) {
			withHelper(t, recoverySignal, func(h *helped) {
				for i := range uint64(3) {
					h.put(seg(1, 5+i), wal(seg(1, 5+i), full))
				}
				h.o.Archive.Far = tt.far
				if tt.label {
					h.write("/data/backup_label", nil)
				}
				const file = "00000002.history"
				h.changed = func(o *Options) { o.File = file }
				h.want(file, CodeAbsent)
				if h.took(); h.starts != tt.starts {
					t.Errorf("%d helpers were started, want %d", h.starts, tt.starts)
				}
				if tt.starts == 0 {
					return
				}
				h.wantBytes(seg(1, 5), wal(seg(1, 5), full))
				if got := h.staged(); !slices.Equal(got, []string{name(seg(1, 6)), name(seg(1, 7))}) || h.starts != 1 {
					t.Errorf("%d helpers, which have staged %v", h.starts, got)
				}
			})
		})
	}
}
