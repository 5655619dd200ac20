package fakepg

import (
	"fmt"
	"slices"
	"strings"
)

// Slot is a replication slot.
type Slot struct {
	Logical    bool
	RestartLSN uint64 // 0: none, as in a slot that reserves nothing or was invalidated

	owner *Conn // the connection that streams from it
}

// Active tells whether a connection streams from the slot.
func (s Slot) Active() bool { return s.owner != nil }

// validSlotName is PostgreSQL's rule.
func validSlotName(name string) bool {
	const maxLength = 63
	if name == "" || len(name) > maxLength {
		return false
	}
	return strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == ""
}

// createSlot reads CREATE_REPLICATION_SLOT "name" [TEMPORARY] PHYSICAL
// [RESERVE_WAL] or, from 15 on, also [(RESERVE_WAL)].
func (c *Conn) createSlot(arguments []token) error {
	if len(arguments) < 2 {
		return c.syntaxError()
	}
	name := arguments[0].text
	rest := slices.DeleteFunc(slices.Clone(arguments[1:]), func(t token) bool { return t.is("TEMPORARY") })
	if len(rest) == 0 || !rest[0].is("PHYSICAL") || !arguments[0].quoted && name[0] >= '0' && name[0] <= '9' {
		return c.syntaxError()
	}
	reserve, ok := c.reserveOption(rest[1:])
	if !ok {
		return c.syntaxError()
	}
	if !validSlotName(name) {
		return c.Fail(Error{Code: "42602", Message: fmt.Sprintf("replication slot name %q contains invalid character", name)})
	}
	exists := false
	c.server.update(func() {
		if _, exists = c.server.slots[name]; exists {
			return
		}
		slot := &Slot{}
		if reserve {
			slot.RestartLSN = c.server.end
		}
		c.server.slots[name] = slot
	})
	if exists {
		return c.Fail(Error{Code: "42710", Message: fmt.Sprintf("replication slot %q already exists", name)})
	}
	return c.oneRow("CREATE_REPLICATION_SLOT",
		[]string{"slot_name", "consistent_point", "snapshot_name", "output_plugin"},
		&name, Text("0/0"), nil, nil)
}

func (c *Conn) reserveOption(rest []token) (reserve, ok bool) {
	switch {
	case len(rest) == 0:
		return false, true
	case len(rest) == 1 && rest[0].is("RESERVE_WAL"):
		return true, true
	case len(rest) == 3 && rest[0].is("(") && rest[1].is("RESERVE_WAL") && rest[2].is(")"):
		return true, c.server.major >= 15
	}
	return false, false
}

func (c *Conn) dropSlot(arguments []token) error {
	if len(arguments) != 1 {
		return c.syntaxError()
	}
	name := arguments[0].text
	var refusal *Error
	c.server.update(func() {
		slot, ok := c.server.slots[name]
		switch {
		case !ok:
			refusal = missingSlot(name)
		case slot.owner != nil:
			refusal = activeSlot(name, slot.owner)
		default:
			delete(c.server.slots, name)
		}
	})
	if refusal != nil {
		return c.Fail(*refusal)
	}
	return c.Complete("DROP_REPLICATION_SLOT")
}

func (c *Conn) readSlot(arguments []token) error {
	if len(arguments) != 1 {
		return c.syntaxError()
	}
	s := c.server
	columns := []string{"slot_type", "restart_lsn", "restart_tli"}
	s.mu.Lock()
	slot, ok := s.slots[arguments[0].text]
	var restart uint64
	var logical bool
	if ok {
		restart, logical = slot.RestartLSN, slot.Logical
	}
	timeline, _ := s.writerLocked(s.timeline, restart)
	s.mu.Unlock()
	switch {
	case !ok:
		return c.oneRow("READ_REPLICATION_SLOT", columns, nil, nil, nil)
	case logical:
		return c.Fail(Error{Code: "0A000", Message: "cannot use READ_REPLICATION_SLOT with a logical replication slot"})
	case restart == 0:
		return c.oneRow("READ_REPLICATION_SLOT", columns, Text("physical"), nil, nil)
	}
	return c.oneRow("READ_REPLICATION_SLOT", columns,
		Text("physical"), Text("%s", FormatLSN(restart)), Text("%d", timeline))
}

// acquire makes the connection the owner of a slot, or says why not.
func (c *Conn) acquire(name string) *Error {
	s := c.server
	var refusal *Error
	s.update(func() {
		slot, ok := s.slots[name]
		switch {
		case !ok:
			refusal = missingSlot(name)
		case slot.owner != nil:
			refusal = activeSlot(name, slot.owner)
		case slot.Logical:
			refusal = &Error{Code: "55000", Message: "cannot use a logical replication slot for physical replication"}
		default:
			slot.owner = c
			c.slot = slot
		}
	})
	return refusal
}

func (c *Conn) release() {
	c.server.update(func() {
		c.slot.owner = nil
		c.slot = nil
	})
}

func missingSlot(name string) *Error {
	return &Error{Code: "42704", Message: fmt.Sprintf("replication slot %q does not exist", name)}
}

func activeSlot(name string, owner *Conn) *Error {
	return &Error{Code: "55006", Message: fmt.Sprintf("replication slot %q is active for PID %d", name, owner.Number)}
}
