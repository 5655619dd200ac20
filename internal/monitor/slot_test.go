package monitor

import (
	"strings"
	"testing"
)

// TestSlot: what the slot is, in the metrics and in the words of readiness, which a
// slot in danger does not end.
func TestSlot(t *testing.T) {
	const mb = 1 << 20
	safe := func(n int64) *int64 { return &n }
	for name, c := range map[string]struct {
		slot   Slot
		danger string // a part of it; "": none
	}{
		"reserved":           {Slot{Status: SlotReserved, Active: true, Retained: 9000 * mb}, ""},
		"extended":           {Slot{Status: SlotExtended, Retained: 9000 * mb, Safe: safe(3000 * mb)}, ""},
		"new":                {Slot{Active: true}, ""},
		"nearly at its end":  {Slot{Status: SlotExtended, Retained: 9000 * mb, Safe: safe(2000 * mb)}, "another 2000 MB"},
		"beyond its end":     {Slot{Status: SlotExtended, Retained: 9000 * mb, Safe: safe(-1 * mb)}, "another 0 MB"},
		"unreserved":         {Slot{Status: SlotUnreserved}, "about to be lost"},
		"lost":               {Slot{Status: SlotLost}, "invalidated the replication slot: it holds no WAL back any more"},
		"lost, and told why": {Slot{Status: SlotLost, Reason: "idle_timeout"}, "any more (idle_timeout)"},
		"missing":            {Slot{Status: SlotMissing}, "does not exist"},
	} {
		m, f := newMonitor(false, State{Streaming: true})
		f.slot = c.slot
		r := m.Ready()
		if text := strings.Join(r.Status, "\n"); !r.Ready || (text == "streaming") != (c.danger == "") || !strings.Contains(text, c.danger) {
			t.Errorf("%s: ready %v: %s", name, r.Ready, text)
		}
		got := values(t, m)
		for _, status := range slotStatuses {
			if v := got[`slot_wal_status{status="`+status+`"}`]; v != boolean(status == c.slot.Status) {
				t.Errorf("%s: %v for %s", name, v, status)
			}
		}
		if _, there := got["slot_safe_wal_bytes"]; there != (c.slot.Safe != nil) {
			t.Errorf("%s: the safe size is there: %v", name, there)
		}
		if _, there := got["slot_retained_bytes"]; there == (c.slot.Status == SlotMissing) {
			t.Errorf("%s: the retained size is there: %v", name, there)
		}
	}
}

// TestSlotUnknown: what the server did not tell is left out, and a receiver that does
// not ask has no metrics of it.
func TestSlotUnknown(t *testing.T) {
	m, _ := newMonitor(false, State{Streaming: true})
	expectValues(t, m, map[string]float64{"slot_known": 0})
	unasked := New(Options{State: m.o.State, Spool: m.o.Spool})
	for name := range values(t, unasked) {
		if strings.HasPrefix(name, "slot_") {
			t.Errorf("%s is there, and nobody asks for it", name)
		}
	}
	if got := len(values(t, m)) - len(values(t, unasked)); got != 1 {
		t.Errorf("%d metrics of a slot that is not known", got)
	}
}
