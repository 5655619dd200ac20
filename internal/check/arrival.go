package check

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/receiver"
	"github.com/walrecv/walrecv/segment"
)

// mayArrive says whether the archive can be watched.
func mayArrive(w *world) bool { return hasListing(w) && w.o.Timeout > 0 }

// watchEvery is how often the archive is looked at while WAL is waited for: one or
// two requests each.
const watchEvery = 250 * time.Millisecond

// arrival writes a little WAL and waits until the archive holds it. Where nothing
// can be written, what the server has written already has to do.
func arrival(ctx context.Context, w *world) []Line {
	by, known := w.awaitReceiver(ctx)
	if known && by.PID == 0 {
		return fault("start walrecv receive", "no receiver streams from this server%s: WAL that is written now does not reach the archive", w.throughSlot())
	}
	began := time.Now()
	target, written, err := w.writeSomething(ctx)
	if err != nil {
		return fault("see the server's log", "the server's position cannot be had: %s", err)
	}
	what := "WAL written now (up to " + w.position(target) + ")"
	if !written {
		what = "WAL up to " + w.position(target) + ", where the server was (nothing could be written to it),"
	}
	wanted := target
	if !w.o.Tail {
		wanted = w.server.SegmentSize.Floor(target)
		what = "WAL in complete segments, up to " + w.position(wanted) + ","
	}
	at, err := w.await(ctx, wanted)
	took := time.Since(began).Round(time.Millisecond)
	switch {
	case err != nil:
		return storeFault("read", err)
	case at >= wanted:
		return ok("%s reached the archive within %s", what, took)
	}
	text := "the receiver that streams is not known"
	if known {
		text = "a receiver streams (" + describe(by) + ")"
		if by.Flushed != 0 {
			text += " and has synced up to " + by.Flushed.String()
		}
	}
	return fault("see the log of the receiver: it may archive somewhere else, or its store may not answer",
		"%s has not reached the archive within %s, which ends at %s; %s", what, w.o.Timeout, w.position(at), text)
}

func (w *world) throughSlot() string {
	if w.o.Slot == "" {
		return ""
	}
	return " through the slot " + w.o.Slot
}

// comeback is how long a receiver may be away: its connection may just have ended,
// or another one be about to take over.
const comeback = 5 * time.Second

// awaitReceiver is streamingReceiver with some patience.
func (w *world) awaitReceiver(ctx context.Context) (by receiver.Walsender, known bool) {
	deadline := time.Now().Add(min(comeback, w.o.Timeout))
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		by, known = w.streamingReceiver(ctx)
		if !known || by.PID != 0 || !time.Now().Before(deadline) {
			return by, known
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return by, known
		}
	}
}

// streamingReceiver finds out who streams through the slot, or without one under
// the receiver's application name. known is false if that cannot be seen.
func (w *world) streamingReceiver(ctx context.Context) (by receiver.Walsender, known bool) {
	switch {
	case w.sql == nil:
		return by, false
	case w.o.Slot != "":
		s, err := receiver.ReadSlotState(ctx, w.sql, w.o.Slot)
		return s.User, err == nil || errors.Is(err, receiver.ErrSlotMissing)
	}
	list, err := receiver.Walsenders(ctx, w.sql, w.conn.PID())
	for _, one := range list {
		if one.Application == w.o.Conn.AppName() && one.State != "backup" { // which has the name if it stands in the connection string
			return one, true
		}
	}
	return by, err == nil
}

// writeSomething makes the server write a few bytes of WAL that mean nothing, for
// which every role has the right, and returns where they end. Else it returns
// where the server's WAL ends.
func (w *world) writeSomething(ctx context.Context) (end segment.LSN, written bool, err error) {
	if w.sql != nil && !w.server.InRecovery {
		text, err := w.query(ctx, "SELECT pg_catalog.pg_logical_emit_message(false, 'walrecv', 'check')")
		if err == nil {
			end, err = segment.ParseLSN(text)
		}
		if err == nil {
			return end, true, nil
		}
	}
	now, err := receiver.Identify(ctx, w.conn)
	if err != nil {
		return 0, false, err
	}
	w.server = now
	return now.End, false, nil
}

// await looks at the archive until it holds everything up to a position, for as
// long as it may take. It returns how far the archive is.
func (w *world) await(ctx context.Context, target segment.LSN) (at segment.LSN, err error) {
	deadline := time.Now().Add(w.o.Timeout)
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	at = w.archivedUntil(target)
	for {
		last := !time.Now().Before(deadline)
		if at, err = w.advance(ctx, at, target); err != nil || at >= target || last {
			return at, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return at, ctx.Err()
		}
	}
}

// archivedUntil is where the complete segments of the server's timeline end that
// were listed. Holes before that are for other commands to find. Where there are
// none, it is the start of what is waited for.
func (w *world) archivedUntil(target segment.LSN) segment.LSN {
	size := w.server.SegmentSize
	ranges := w.listing.Ranges(w.server.Timeline)
	if len(ranges) == 0 {
		return size.Floor(target - 1)
	}
	return segment.Name{Timeline: w.server.Timeline, Number: ranges[len(ranges)-1].Last}.End(size)
}

// advance goes on from a position as far as complete segments, and then chunks of
// one that is not, lead.
func (w *world) advance(ctx context.Context, at, target segment.LSN) (segment.LSN, error) {
	size := w.server.SegmentSize
	for at < target {
		name := segment.Name{Timeline: w.server.Timeline, Number: size.Number(at)}
		chunks, err := w.archive.Chunks(ctx, name)
		if err != nil {
			return at, err
		}
		_, covered := archive.Cover(chunks, 0)
		end := max(at, name.Start(size)+segment.LSN(covered))
		if end < min(target, name.End(size)) {
			there, err := w.complete(ctx, name)
			if err != nil {
				return end, err
			}
			if !there {
				return end, nil
			}
			end = name.End(size)
		}
		at = end
	}
	return at, nil
}

// complete tells whether a complete segment is in the archive, encrypted or not.
func (w *world) complete(ctx context.Context, name segment.Name) (bool, error) {
	for _, encrypted := range []bool{false, true} {
		o := archive.Object{
			System: w.server.SystemID, Kind: archive.KindSegment, Timeline: name.Timeline,
			Segment: name.Format(w.server.SegmentSize), Encrypted: encrypted,
		}
		_, err := w.o.Store.Stat(ctx, o.Key())
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	return false, nil
}
