package receiver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/walrecv/walrecv/segment"
)

const (
	// slotPoll is how often it is asked whether the slot is free. A walsender that
	// is asked leaves an error in the server's log, so it is not asked as often.
	slotPoll          = 400 * time.Millisecond
	slotPollWalsender = time.Second

	// slotTimeout bounds each answer: a server that hangs may have a successor.
	slotTimeout = 10 * time.Second
)

// errSlotFree ends a session that has waited for its slot: the next one looks at
// everything anew, since whoever had the slot has archived meanwhile.
var errSlotFree = errors.New("the replication slot is free")

// slotUser tells who uses the slot; its PID is 0 if nobody does.
type slotUser func(ctx context.Context) (Walsender, error)

// awaitSlot waits, after START was refused with 55006, until nobody uses the slot
// any more, and ends with errSlotFree. Meanwhile it asks for nothing else: what is
// held matters once there is something to stream.
func (s *session) awaitSlot(ctx context.Context, refusal error) error {
	s.r.progress.stopped(refusal)
	s.r.o.changed()
	user, poll, done := s.slotUser(ctx)
	defer done()
	pause := backoff.NewExponentialBackOff() // for its jitter: there may be several that wait
	pause.InitialInterval, pause.MaxInterval = poll, poll
	for first := true; ; first = false {
		asking, cancel := context.WithTimeout(ctx, slotTimeout)
		by, err := user(asking)
		cancel()
		switch {
		case err != nil && !errors.Is(err, ErrSlotMissing): // that is for the next session to judge
			return fmt.Errorf("%w; it cannot be asked whether that is still so: %w", refusal, err)
		case by.PID != 0:
			s.tellSlotUser(ctx, refusal, by)
		case !first: // else two answers contradict each other: not to spin
			return errSlotFree
		}
		if !sleep(ctx, pause.NextBackOff()) {
			return ctx.Err()
		}
	}
}

// slotUser finds a way to ask who uses the slot. An ordinary connection takes no
// walsender's place, tells most, and makes no noise in the server's log. Where
// there is none, the connection that there is has to do.
func (s *session) slotUser(ctx context.Context) (ask slotUser, poll time.Duration, done func()) {
	conn, err := ConnectSQL(ctx, s.r.o.Conn, s.conn)
	if err != nil {
		s.r.log.Debug("no ordinary connection to ask for the replication slot", "error", err)
		return s.slotUserByStart(), slotPollWalsender, func() {}
	}
	ask = func(ctx context.Context) (Walsender, error) {
		state, err := ReadSlotState(ctx, conn, s.r.o.Slot)
		return state.User, err
	}
	if _, err := ask(ctx); err != nil && !errors.Is(err, ErrSlotMissing) {
		s.r.log.Debug("the ordinary connection does not tell of the replication slot", "error", err)
		HangUp(conn)
		return s.slotUserByStart(), slotPollWalsender, func() {}
	}
	closeConn(s.conn)
	return ask, slotPoll, func() { HangUp(conn) }
}

// slotUserByStart asks by trying to stream a timeline that cannot be: a walsender
// looks at the slot first. It does not know who uses it, which the refusal says.
func (s *session) slotUserByStart() slotUser {
	rest := &stream{conn: s.conn}
	rest.deadline.conn = s.conn.Conn()
	rest.deadline.settle(slotTimeout)
	_, broken := rest.drain() // of what followed the refusal
	rest.deadline.reset()
	query := startQuery(s.r.o.Slot, segment.Position{Timeline: math.MaxUint32})
	return func(ctx context.Context) (Walsender, error) {
		if broken != nil {
			return Walsender{}, broken
		}
		_, err := simpleQuery(ctx, s.conn, query)
		switch sqlState(err) {
		case "":
			return Walsender{}, fmt.Errorf("unexpected answer: %w", err)
		case codeObjectInUse:
			return Walsender{PID: unknownPID}, nil
		}
		return Walsender{}, nil // refused for the timeline
	}
}

// unknownPID stands for a process that is not known.
const unknownPID = -1

// tellSlotUser says who has the slot, once for each.
func (s *session) tellSlotUser(ctx context.Context, refusal error, by Walsender) {
	level, news := slog.LevelDebug, refusal.Error()
	if by.PID != unknownPID {
		news = fmt.Sprint(by.PID)
	}
	if news != s.r.slotUser {
		s.r.slotUser, level = news, slog.LevelWarn
	}
	args := []any{"slot", s.r.o.Slot, "error", refusal}
	if by.PID != unknownPID {
		args = append(args, "pid", by.PID, "application", by.Application, "address", by.Address)
	}
	if !by.Since.IsZero() {
		args = append(args, "since", by.Since.Format(time.RFC3339))
	}
	s.r.log.Log(ctx, level, "the replication slot is in use: waiting, to take over as soon as it is free", args...)
}
