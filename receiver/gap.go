package receiver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/walrecv/walrecv/segment"
)

// GapError reports that the server no longer has WAL that would continue what
// is held.
type GapError struct {
	At     segment.Position // what is missing begins here
	Reason string           // why the server does not have it, for people
	Err    error            // what the server said
}

func (e *GapError) Error() string {
	is := "is no longer on the server, so that going on would leave a gap"
	if errors.Is(e.Err, ErrSlotMissing) {
		is = "is held back by nothing, and may be gone, so that going on may leave a gap"
	}
	return "the WAL that follows what is held, from " + e.At.String() + ", " + is + ": " + e.Reason + ": " + e.Err.Error() +
		"; --accept-gap records the gap and goes on behind it (recovery across it stays impossible: take a base backup), a new archive begins anew"
}

func (e *GapError) Unwrap() error { return e.Err }

// errGapAccepted ends a session to measure a gap in the next one.
var errGapAccepted = errors.New("the server no longer has the WAL that follows what is held")

// gapReason tells why WAL from a position on is not on the server.
func (s *session) gapReason(at segment.Position, refused bool) string {
	slot := s.r.o.Slot
	switch {
	case slot == "":
		return "without a replication slot nothing holds it back"
	case refused || s.slot.Lost || s.slotWasLost:
		return "the server has invalidated the replication slot " + slot + ", most likely because of max_slot_wal_keep_size (--ensure-slot makes it anew)"
	case s.slotCreated:
		return "the replication slot " + slot + " did not exist on this server until now"
	case s.slot.Known && s.slot.RestartLSN == 0:
		return "the replication slot " + slot + " holds nothing back: it was invalidated, or created anew without reserving WAL"
	case s.slot.RestartLSN > at.LSN:
		return fmt.Sprintf("the replication slot %s begins at %s, behind what is held: it was created anew, or another receiver moved it on",
			slot, s.slot.RestartLSN)
	default:
		return "the server has removed it in spite of the replication slot " + slot
	}
}

// acceptGap records the gap that the last session ran into, if streaming would
// begin there again, and is where streaming begins then.
func (s *session) acceptGap(ctx context.Context, start segment.Position) (segment.Position, error) {
	gap := s.r.gap
	s.r.gap = nil
	if gap == nil || gap.At != start {
		return start, nil
	}
	to, err := s.firstAvailable(ctx, start.LSN)
	if err != nil {
		return start, err
	}
	if to == start.LSN {
		return start, nil // it is there now
	}
	g := segment.Gap{Timeline: s.newest(to - 1), From: start.LSN, To: to, Reason: gap.Reason, Found: time.Now().UTC()}
	if err := s.r.keeper.PutGap(g); err != nil {
		return start, local(err)
	}
	s.r.log.Error("WAL is missing, and --accept-gap goes on behind it: recovery cannot cross the gap, take a base backup now",
		"from", start.String(), "to", to.String(), "reason", gap.Reason)
	s.held.Gaps = append(s.held.Gaps, g)
	return s.startPosition(), nil
}

// firstAvailable finds the first segment, from one on, from which on the server
// still has its WAL. What it has is a run that ends with the segment that is
// being written, so that halving finds where it begins.
func (s *session) firstAvailable(ctx context.Context, from segment.LSN) (segment.LSN, error) {
	size := s.server.SegmentSize
	missing, there := size.Number(from), size.Number(s.server.End)
	if missing > there {
		return from, nil
	}
	ok, err := s.probe(ctx, size.Start(missing))
	if err != nil || ok {
		return from, err
	}
	for missing+1 < there {
		middle := missing + (there-missing)/2
		ok, err := s.probe(ctx, size.Start(middle))
		if err != nil {
			return 0, err
		}
		if ok {
			there = middle
		} else {
			missing = middle
		}
	}
	return size.Start(there), nil
}

// probe tells whether the server has a segment, by beginning to stream it,
// without a slot.
func (s *session) probe(ctx context.Context, at segment.LSN) (bool, error) {
	st := &stream{conn: s.conn}
	st.deadline.conn = s.conn.Conn()
	wake := context.AfterFunc(ctx, st.deadline.expire) // start has its own
	defer wake()
	query := startQuery("", segment.Position{Timeline: s.newest(at), LSN: at})
	copying, _, err := st.start(ctx, query)
	if err == nil && copying {
		err = st.firstMessage()
	}
	var refusal *pgconn.PgError
	switch {
	case err == nil && !copying:
		return true, nil // it ends where it begins, so it is there
	case err == nil:
		st.deadline.settle(receiveTimeout)
		if err := st.sendCopyDone(); err != nil {
			return false, fmt.Errorf("probe for WAL: %w", err)
		}
		_, err := st.drain()
		return true, err
	case errors.As(err, &refusal) && refusal.Code == codeUndefinedFile:
		st.deadline.settle(receiveTimeout)
		_, err := st.drain()
		return false, err
	}
	return false, fmt.Errorf("probe for WAL: %w", err)
}

// firstMessage reads until the server has shown that it streams, or not.
func (s *stream) firstMessage() error {
	for {
		s.deadline.extend(receiveTimeout)
		msg, err := s.conn.ReceiveMessage(context.Background())
		if err != nil {
			return err
		}
		switch m := msg.(type) {
		case *pgproto3.CopyData:
			return nil
		case *pgproto3.ErrorResponse:
			return pgconn.ErrorResponseToPgError(m)
		case *pgproto3.CopyDone, *pgproto3.CommandComplete:
			return errServerStopped
		}
	}
}
