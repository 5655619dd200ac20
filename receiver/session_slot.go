package receiver

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// checkSlot looks at the replication slot, and creates it where that was asked
// for.
func (s *session) checkSlot(ctx context.Context) error {
	name := s.r.o.Slot
	if name == "" {
		return nil
	}
	var err error
	s.slot, err = ReadSlot(ctx, s.conn, s.r.o.Conn, name, s.server.Major)
	switch {
	case errors.Is(err, ErrSlotMissing) && s.r.o.EnsureSlot:
		return s.createSlot(ctx)
	case err != nil:
		return s.explainSlot(err)
	case !s.slot.Known:
		return s.unknownSlot(ctx)
	case s.slot.Lost && s.r.o.EnsureSlot:
		return s.replaceSlot(ctx)
	case s.slot.Lost && s.held.Empty():
		return slotLost(name)
	}
	if s.slot.RestartLSN == 0 && !s.held.Empty() {
		s.r.log.Warn("the replication slot holds no WAL back: it was created without reserving WAL, or invalidated; if it stays so, drop it and create it anew with walrecv slot create", "slot", name)
	}
	return nil
}

// createSlot creates a slot that is missing, and says what nothing held back
// meanwhile.
func (s *session) createSlot(ctx context.Context) error {
	name := s.r.o.Slot
	if err := CreateSlot(ctx, s.conn, name, s.server.Major, true); err != nil {
		return err
	}
	var err error
	if s.slot, err = ReadSlot(ctx, s.conn, s.r.o.Conn, name, s.server.Major); err != nil {
		return err
	}
	s.slotCreated = true
	if s.held.Empty() {
		s.r.log.Info("created replication slot", "slot", name, "from", s.slot.RestartLSN.String())
		return nil
	}
	unprotected := []any{"slot", name, "held_until", s.startPosition().String(), "slot_from", s.slot.RestartLSN.String()}
	if !s.r.lastStream.IsZero() {
		unprotected = append(unprotected, "unprotected_for", time.Since(s.r.lastStream).Round(time.Millisecond).String())
	}
	s.r.log.Warn("the replication slot was missing and has been created: nothing kept the server from removing WAL meanwhile; "+
		"if it did, streaming will say so", unprotected...)
	return nil
}

// replaceSlot drops a slot that the server has invalidated, which can never be
// used again, and creates it anew.
func (s *session) replaceSlot(ctx context.Context) error {
	s.slotWasLost = true
	s.r.log.Error("the server has invalidated the replication slot; it is dropped and created anew; a larger max_slot_wal_keep_size keeps it next time", "slot", s.r.o.Slot)
	if err := DropSlot(ctx, s.conn, s.r.o.Slot); err != nil {
		return err
	}
	return s.createSlot(ctx)
}

// unknownSlot is for servers before 15 that let us in for replication only.
func (s *session) unknownSlot(ctx context.Context) error {
	if s.held.Empty() {
		s.r.log.Warn("where the replication slot begins is not known, so streaming begins at the server's current position: "+
			"a server before 15 tells only over an ordinary connection, which needs a line in pg_hba.conf for database "+sqlDatabase,
			"slot", s.r.o.Slot)
	}
	if !s.r.o.EnsureSlot {
		return nil // START tells if it is missing
	}
	return CreateSlot(ctx, s.conn, s.r.o.Slot, s.server.Major, true)
}

// explainSlot says what a missing slot means for what is held. Once it has
// streamed, the receiver waits for whoever puts the slot back.
func (s *session) explainSlot(err error) error {
	switch {
	case !errors.Is(err, ErrSlotMissing):
		return err
	case !s.held.Empty() && !s.r.streamed:
		return &GapError{
			At:     s.startPosition(),
			Reason: "the replication slot " + s.r.o.Slot + " does not exist on this server",
			Err:    fmt.Errorf("%w; --ensure-slot creates it and goes on if that WAL is still there", err),
		}
	default:
		return fmt.Errorf("%w; create it with: walrecv slot create %s, or with --ensure-slot", err, s.r.o.Slot)
	}
}
