package main

import (
	"errors"

	"github.com/walrecv/walrecv/internal/monitor"
	"github.com/walrecv/walrecv/receiver"
)

// onSlot is told what the server says of the slot.
func (w *watch) onSlot(s receiver.SlotState, err error) {
	switch {
	case errors.Is(err, receiver.ErrSlotMissing), errors.Is(err, receiver.ErrSlotLogical):
		w.slot.Store(&monitor.Slot{Status: monitor.SlotMissing})
	case err != nil:
		w.slot.Store(nil)
	default:
		slot := monitor.Slot{Status: s.WALStatus, Reason: s.Reason, Active: s.User.PID != 0, Retained: s.Retained}
		if s.Limited {
			slot.Safe = &s.SafeSize
		}
		w.slot.Store(&slot)
	}
}

func (w *watch) slotState() (monitor.Slot, bool) {
	s := w.slot.Load()
	if s == nil {
		return monitor.Slot{}, false
	}
	return *s, true
}
