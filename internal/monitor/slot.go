package monitor

import "fmt"

// Slot is what the server says of the receiver's replication slot.
type Slot struct {
	Status   string `json:"wal_status"`                    // PostgreSQL's, or [SlotMissing]; "": it reserves no WAL
	Reason   string `json:"invalidation_reason,omitempty"` // as PostgreSQL says it
	Active   bool   `json:"active"`                        // somebody streams from it
	Retained int64  `json:"retained_bytes"`                // WAL that the server keeps for it

	// Safe is how many bytes the server can still write before the slot may be lost;
	// nil: without limit.
	Safe *int64 `json:"safe_wal_bytes,omitempty"`
}

// What a Slot's Status may be. All but the last are PostgreSQL's words.
const (
	SlotReserved   = "reserved"
	SlotExtended   = "extended"   // it holds back more than max_wal_size
	SlotUnreserved = "unreserved" // the next checkpoint may remove what it needs
	SlotLost       = "lost"
	SlotMissing    = "missing" // there is no such slot
)

var slotStatuses = []string{SlotReserved, SlotExtended, SlotUnreserved, SlotLost, SlotMissing}

// endangered is the share of what a slot may hold back, as 1/endangered, that is left
// when it is in danger.
const endangered = 5

// Danger says for people why WAL is in danger to be removed before it is received, or
// was removed; "" if it is not.
func (s Slot) Danger() string {
	switch s.Status {
	case SlotMissing:
		return "the replication slot does not exist on the server: nothing holds back WAL that was not received"
	case SlotLost:
		text := "the server has invalidated the replication slot: it holds no WAL back any more"
		if s.Reason != "" {
			text += " (" + s.Reason + ")"
		}
		return text
	case SlotUnreserved:
		return "the replication slot is about to be lost: the server may remove WAL that it needs at the next checkpoint"
	}
	if s.Safe != nil && *s.Safe < (*s.Safe+s.Retained)/endangered {
		return fmt.Sprintf("the replication slot is about to be lost: after another %d MB of WAL", max(*s.Safe, 0)>>20)
	}
	return ""
}

// slot looks up what is known of the slot.
func (m *Monitor) slot() (s Slot, asked, known bool) {
	if m.o.Slot == nil {
		return Slot{}, false, false
	}
	s, known = m.o.Slot()
	return s, true, known
}

func (e emitter) slot(s Slot, known bool) {
	e.gauge(slotKnown, boolean(known))
	if !known {
		return
	}
	for _, status := range slotStatuses {
		e.gauge(slotStatus, boolean(s.Status == status), status)
	}
	if s.Status == SlotMissing {
		return
	}
	e.gauge(slotActive, boolean(s.Active))
	e.gauge(slotRetained, float64(s.Retained))
	if s.Safe != nil {
		e.gauge(slotSafe, float64(*s.Safe))
	}
}
