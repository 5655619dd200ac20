package restore

import (
	"strings"
	"testing"
)

// TestHistoryThatIsNotCredible: it can be parsed, and is not what it was.
func TestHistoryThatIsNotCredible(t *testing.T) {
	sound := func(w *world) {
		w.put(seg(2, 5), wal(seg(2, 5), full))
		w.putPartial(seg(3, 7), wal(seg(3, 7), 40_000))
		w.putHistory(2, history(1, at(5, 100)))
	}
	tests := []struct {
		name, file string
		history    func(w *world)
		code       int
		says       string
	}{
		{"sound", "00000002.history", func(*world) {}, CodeDelivered, ""},
		{"its child", "00000003.history", func(w *world) { w.putHistory(3, history(1, at(5, 100), 2, at(7, 50))) }, CodeDelivered, ""},
		{"of another parent", "00000003.history", func(w *world) { w.putHistory(3, history(1, at(6, 100))) }, CodeDelivered, ""},
		{
			"WAL before the fork", "00000002.history",
			func(w *world) { w.store.Set(w.historyKey(2), []byte(history(1, at(6, 0)))) },
			CodeDamaged, "segment 000000020000000000000005",
		},
		{
			"a partial before the fork", "00000003.history",
			func(w *world) { w.putHistory(3, history(1, at(5, 100), 2, at(8, 0))) },
			CodeDamaged, "segment 000000030000000000000007",
		},
		{
			"another fork of the parent", "00000003.history",
			func(w *world) { w.putHistory(3, history(1, at(5, 101), 2, at(7, 50))) },
			CodeDamaged, "does not go on where 00000002.history ends",
		},
		{
			"a damaged parent", "00000003.history",
			func(w *world) {
				w.putHistory(3, history(1, at(5, 100), 2, at(7, 50)))
				w.store.Set(w.historyKey(2), []byte("rot"))
			},
			CodeDelivered, "",
		},
		{
			"the parent's ancestor is missing", "00000003.history",
			func(w *world) { w.putHistory(3, history(2, at(7, 50))) },
			CodeDamaged, "does not go on where 00000002.history ends",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bothModes(t, func(t *testing.T, w *world) {
				sound(w)
				tt.history(w)
				code := tt.code
				if code == CodeDamaged {
					code = w.pick(CodeDamaged, CodeAbsent)
				}
				a := w.want(tt.file, code)
				if text := a.Message + w.log.String(); !strings.Contains(text, tt.says) {
					t.Errorf("%q does not have %q", text, tt.says)
				}
			})
		})
	}
}

// TestListedButNotThere: a name that is left of an object proves no absence.
func TestListedButNotThere(t *testing.T) {
	n := seg(1, 5)
	for title, put := range map[string]func(w *world) string{
		"segment": func(w *world) string { w.put(n, wal(n, full)); return w.key(n) },
		"partial": func(w *world) string { w.putPartial(n, wal(n, 9000)); return w.partialKey(n) },
	} {
		t.Run(title, func(t *testing.T) {
			bothModes(t, func(t *testing.T, w *world) {
				key := put(w)
				for _, h := range harms(make([]byte, small+1), false) {
					if h.name == "listed, but not there" {
						h.do(w, key)
					}
				}
				w.want(name(n), w.pick(CodeUnknown, CodeAbsent))
				if w.standby() {
					w.wantNoted(name(n))
				}
			})
		})
	}
}
