package receiver

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// slotWatchInterval is how often the server is asked for the slot's state; it is
	// also asked when streaming has begun or ended, which is looked for more often.
	slotWatchInterval = 15 * time.Second
	slotWatchLook     = time.Second
)

// WatchSlot asks for the state of the slot over an ordinary connection of its own, to
// the server that was streamed from last, and tells each answer or failure, until ctx
// ends. Receiving does not depend on it. It may run beside Run.
func (r *Receiver) WatchSlot(ctx context.Context, tell func(SlotState, error)) {
	w := slotWatch{r: r}
	defer w.hangUp()
	for ok := true; ok; ok = sleep(ctx, slotWatchLook) {
		last, streaming := r.progress.connection()
		again := last.number != w.to.number
		began, ended := streaming && (again || !w.streaming), !streaming && w.streaming
		if last.number == 0 || !began && !ended && time.Now().Before(w.next) {
			continue
		}
		if again { // it may be another server
			w.hangUp()
			w.to = last
		}
		state, err := w.ask(ctx)
		if ctx.Err() != nil {
			return
		}
		w.streaming, w.next = streaming, time.Now().Add(slotWatchInterval)
		w.log(err)
		tell(state, err)
	}
}

// slotWatch is what one WatchSlot knows.
type slotWatch struct {
	r         *Receiver
	to        reached // which is asked
	conn      *pgconn.PgConn
	streaming bool // when it was asked last
	next      time.Time
	silent    bool // that the server does not answer is logged
}

// ask asks once more if the connection had been there before: it mostly breaks together
// with the stream, which is when the answer matters.
func (w *slotWatch) ask(ctx context.Context) (SlotState, error) {
	before := w.conn != nil
	s, err := w.askOnce(ctx)
	if before && w.conn == nil && ctx.Err() == nil {
		s, err = w.askOnce(ctx)
	}
	return s, err
}

func (w *slotWatch) askOnce(ctx context.Context) (s SlotState, err error) {
	ctx, cancel := context.WithTimeout(ctx, slotTimeout)
	defer cancel()
	if w.conn == nil {
		if w.conn, err = w.r.o.Conn.connectSQL(ctx, w.to.host); err != nil {
			return SlotState{}, err
		}
	}
	s, err = ReadSlotState(ctx, w.conn, w.r.o.Slot)
	if err != nil && !isSlotAnswer(err) {
		w.hangUp()
	}
	return s, err
}

// isSlotAnswer says that the server has answered, and how the slot is.
func isSlotAnswer(err error) bool {
	return errors.Is(err, ErrSlotMissing) || errors.Is(err, ErrSlotLogical)
}

func (w *slotWatch) hangUp() {
	if w.conn != nil {
		HangUp(w.conn)
		w.conn = nil
	}
}

// log tells when answers cease while the server streams, and when they come again.
func (w *slotWatch) log(err error) {
	unanswered := err != nil && !isSlotAnswer(err)
	switch {
	case unanswered && !w.silent && w.streaming:
		w.silent = true
		w.r.log.Warn("the state of the replication slot is not known: the server does not tell it over an ordinary connection; "+
			"see that pg_hba.conf lets the role into the database "+sqlDatabase, "slot", w.r.o.Slot, "error", err)
	case !unanswered && w.silent:
		w.silent = false
		w.r.log.Info("the state of the replication slot is known again", "slot", w.r.o.Slot)
	}
}
