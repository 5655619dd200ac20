package check

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/walrecv/walrecv/receiver"
	"github.com/walrecv/walrecv/segment"
)

// slot looks at the replication slot, over an ordinary connection if there is one.
func slot(ctx context.Context, w *world) []Line {
	name := w.o.Slot
	if name == "" {
		return warning("use a slot: --slot NAME --ensure-slot",
			"without a replication slot the server removes WAL whether it was received or not; it keeps wal_keep_size, which is %s", w.show(ctx, "wal_keep_size"))
	}
	err := errors.New("not asked")
	if w.sql != nil {
		w.slot, err = receiver.ReadSlotState(ctx, w.sql, name)
		w.slotUser = err == nil
	}
	if err != nil && !errors.Is(err, receiver.ErrSlotMissing) && !errors.Is(err, receiver.ErrSlotLogical) {
		w.slot.Slot, err = receiver.ReadSlot(ctx, w.conn, w.o.Conn, name, w.server.Major)
	}
	create := "create it: walrecv slot create " + name + ", or walrecv receive --ensure-slot"
	switch {
	case errors.Is(err, receiver.ErrSlotMissing) && w.o.EnsureSlot && !w.archived():
		return ok("the slot %s does not exist yet; --ensure-slot creates it", name)
	case errors.Is(err, receiver.ErrSlotMissing) && w.o.EnsureSlot:
		return warning("start walrecv receive soon: --ensure-slot creates it, and streaming goes on if the server still has the WAL",
			"the slot %s does not exist, though the archive holds WAL: nothing keeps the server from removing what follows", name)
	case errors.Is(err, receiver.ErrSlotMissing):
		return fault(create, "the slot %s does not exist", name)
	case errors.Is(err, receiver.ErrSlotLogical):
		return fault("use another name: WAL files need a physical slot", "the slot %s is a logical one", name)
	case err != nil:
		return fault("see the server's log", "the slot cannot be read: %s", err)
	case !w.slot.Known:
		return warning("let the role in with a line in pg_hba.conf for the database postgres",
			"PostgreSQL %d tells about slots only over an ordinary connection, and there is none", w.server.Major)
	}
	w.slotSeen = true
	return w.slotLine()
}

// archived says that the archive holds WAL of this cluster.
func (w *world) archived() bool { return w.listing != nil && !w.listing.Empty() }

// slotLine judges a slot that is there.
func (w *world) slotLine() []Line {
	name, s := w.o.Slot, w.slot
	anew := "drop it and create it anew: walrecv slot drop " + name + ", walrecv slot create " + name
	switch {
	case s.Lost && w.o.EnsureSlot:
		return warning("start walrecv receive: --ensure-slot makes it anew; what the server has removed meanwhile is a gap",
			"the server has invalidated the slot %s: it holds no WAL back any more", name)
	case s.Lost:
		return fault(anew+", or walrecv receive --ensure-slot", "the server has invalidated the slot %s: it holds no WAL back any more", name)
	case s.RestartLSN == 0 && w.archived():
		return fault(anew, "the slot %s holds no WAL back: it was invalidated, or created anew without reserving WAL", name)
	case s.RestartLSN == 0:
		return warning("create it with walrecv slot create, which reserves WAL at once",
			"the slot %s holds no WAL back until a receiver has streamed from it", name)
	case s.WALStatus == "unreserved":
		return fault("start the receiver, or find out why it lags; raise max_slot_wal_keep_size",
			"the slot %s is about to be lost: the server may remove WAL that it needs at the next checkpoint%s", name, w.slotBehind())
	}
	return ok("the slot %s is a physical one and holds WAL back from %s on%s; %s", name, s.RestartLSN, w.slotBehind(), w.slotUserText())
}

func (w *world) slotBehind() string {
	if w.slot.RestartLSN == 0 || w.slot.RestartLSN >= w.server.End {
		return ""
	}
	return ", " + size(int64(w.server.End-w.slot.RestartLSN)) + " behind the server"
}

func (w *world) slotUserText() string {
	if !w.slotUser {
		return "who uses it is not known"
	}
	if w.slot.User.PID == 0 {
		return "nobody uses it"
	}
	return "used by " + describe(w.slot.User)
}

// describe says who a walsender streams to.
func describe(u receiver.Walsender) string {
	text := fmt.Sprintf("the server's process %d", u.PID)
	if u.Application != "" {
		text += " for " + u.Application
	}
	if u.Address != "" {
		text += " at " + u.Address
	}
	if !u.Since.IsZero() {
		text += " since " + u.Since.Format(time.DateTime) + " UTC"
	}
	return text
}

// slotLimit tells how much WAL the slot may hold back.
func slotLimit(ctx context.Context, w *world) []Line {
	limit := w.show(ctx, "max_slot_wal_keep_size")
	const soon = 8 // segments: what is written in moments
	switch {
	case limit == "":
		return nil
	case limit == "-1":
		return warning("set max_slot_wal_keep_size on the server to what its disk can spare",
			"max_slot_wal_keep_size is unlimited: while no receiver streams, the slot can fill the server's disk")
	case w.slotSeen && w.slot.Limited && w.slot.SafeSize < soon*int64(w.server.SegmentSize):
		return warning("start the receiver, or find out why it lags; raise max_slot_wal_keep_size",
			"max_slot_wal_keep_size is %s, and after another %s of WAL the slot may be lost", limit, size(w.slot.SafeSize))
	}
	return ok("max_slot_wal_keep_size is %s", limit)
}

// slotRelease tells when the server gives the slot to another receiver.
func slotRelease(ctx context.Context, w *world) []Line {
	switch timeout := w.show(ctx, "wal_sender_timeout"); timeout {
	case "":
		return nil
	case "0":
		return warning("set wal_sender_timeout on the server, to 60s say",
			"wal_sender_timeout is off: if a receiver's machine dies, its slot stays in use, and neither it nor another one can go on")
	default:
		return ok("wal_sender_timeout is %s: after that the slot of a receiver whose machine died is free", timeout)
	}
}

// size is a number of bytes for people.
func size(n int64) string {
	const kib, mib, gib = 1 << 10, 1 << 20, 1 << 30
	switch {
	case n < 0:
		return "0 bytes"
	case n < 10*kib:
		return fmt.Sprintf("%d bytes", n)
	case n < 10*mib:
		return fmt.Sprintf("%d kB", n/kib)
	case n < 10*gib:
		return fmt.Sprintf("%d MB", n/mib)
	}
	return fmt.Sprintf("%d GB", n/gib)
}

// position is a place on the server's timeline, for people.
func (w *world) position(at segment.LSN) string {
	return segment.Position{Timeline: w.server.Timeline, LSN: at}.String()
}
