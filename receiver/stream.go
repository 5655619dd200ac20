package receiver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/walrecv/walrecv/segment"
)

var (
	errServerStopped = errors.New("the server ended the stream: it is shutting down")
	errSilence       = fmt.Errorf("nothing was heard from the server for %s", receiveTimeout)
)

// stream is one START_REPLICATION: the copy phase of one timeline.
type stream struct {
	conn     *pgconn.PgConn
	in       *inbound  // under conn
	commits  *readable // nil where no commit waits for a sync alone
	sink     Sink
	o        Options
	timeline segment.TimelineID
	pos      segment.LSN // end of what was written
	next     segment.LSN // end of the message that comes in parts, as far as it came
	server   segment.LSN // how far the server was with its last WAL
	size     segment.Size
	deadline deadline
	feedback *feedback
	live     func() // called at the first sign that WAL comes and is taken
	progress *progress
	verifier *verifier
	pace     *intervals
	begin    verifyBegin
	status   [copyStatusLen]byte
}

// ending says how a timeline's stream ended without an error.
type ending struct {
	stopped bool               // as asked for: by ctx or by the end position
	next    segment.TimelineID // else the timeline that follows
	fork    segment.LSN        // and where it begins
}

// run streams one timeline from s.pos on, until it ends or is to stop.
func (s *stream) run(ctx context.Context, query string) (ending, error) {
	s.deadline.conn = s.conn.Conn()
	copying, end, err := s.start(ctx, query)
	if err != nil || !copying {
		return end, err
	}
	s.deadline.reset()
	wake := context.AfterFunc(ctx, s.deadline.expire)
	defer wake()
	s.in = inboundOf(s.conn)
	s.in.stream(s.verifier.blocks)
	if s.o.Synchronous && s.o.Acknowledger == nil {
		s.commits = readableOf(s.conn.Conn(), soon)
	}
	s.feedback = startFeedback(s, s.pos)
	s.verifier.begin(s.begin, s.feedback.failed)
	stop, err := s.copyLoop(ctx)
	s.verifier.ended()
	if failure := s.feedback.close(); failure != nil {
		err = failure
	}
	if err != nil {
		return ending{}, s.afterFailure(err)
	}
	if stop {
		return ending{stopped: true}, s.finish()
	}
	return s.endOfTimeline()
}

// afterFailure syncs what came before a connection broke. Its own failure is
// the more serious one.
func (s *stream) afterFailure(err error) error {
	if isFinal(err) {
		return err
	}
	flushed, failure := s.sink.Sync()
	if failure != nil {
		return local(failure)
	}
	s.progress.flushed(flushed)
	s.feedback.isDurable(flushed)
	return err
}

// start sends START_REPLICATION. copying is false if the server answered that
// the timeline ends just where we would begin.
func (s *stream) start(ctx context.Context, query string) (copying bool, end ending, err error) {
	s.deadline.reset()
	wake := context.AfterFunc(ctx, s.deadline.expire)
	defer wake()
	s.conn.Frontend().SendQuery(&pgproto3.Query{String: query})
	if err := s.conn.Frontend().Flush(); err != nil {
		return false, ending{}, fmt.Errorf("start streaming: %w", err)
	}
	for {
		s.deadline.extend(receiveTimeout)
		msg, err := s.conn.ReceiveMessage(context.Background())
		if err != nil {
			return false, ending{}, fmt.Errorf("start streaming: %w", err)
		}
		switch m := msg.(type) {
		case *pgproto3.CopyBothResponse:
			return true, ending{}, nil
		case *pgproto3.DataRow:
			if end, err = parseNextTimeline(m.Values); err != nil {
				return false, ending{}, err
			}
		case *pgproto3.ErrorResponse:
			return false, ending{}, fmt.Errorf("start streaming: %w", pgconn.ErrorResponseToPgError(m))
		case *pgproto3.ReadyForQuery:
			if end.next == 0 {
				return false, ending{}, errors.New("start streaming: the server sent neither WAL nor a next timeline")
			}
			return false, end, nil
		}
	}
}

// copyLoop reads until the timeline ends (false), or until it has to stop
// (true).
func (s *stream) copyLoop(ctx context.Context) (stop bool, err error) {
	silent := 0
	for {
		if s.mayStop(ctx) {
			return true, nil
		}
		switch ended, err := s.receive(ctx); {
		case errors.Is(err, errStopWaiting):
			return true, nil
		case errors.Is(err, errNothingCame):
		case ended || err != nil:
			return false, err
		default:
			silent = 0
			continue
		}
		switch {
		case ctx.Err() != nil:
			continue
		case s.feedback.failure() != nil:
			return false, s.feedback.failure()
		}
		if silent++; silent > 1 {
			return false, errSilence
		}
		s.feedback.askForLife()
	}
}

// receive takes one message, or a part of it; ended means that the timeline has.
// What was written is synced once all was taken that had come already: mostly by
// write, and here if no WAL came last.
func (s *stream) receive(ctx context.Context) (ended bool, err error) {
	if !s.in.buffered() {
		if err := s.feedback.wroteAll(s.pos); err != nil {
			return false, err
		}
	}
	if !s.in.buffered() {
		s.commits.wait()
	}
	s.deadline.extend(receiveTimeout / 2) // behind the sync, which may have been slow
	within := s.in.rest > 0
	data, ok, err := s.in.next()
	switch {
	case err != nil:
		return false, notRead(err)
	case within:
		return false, s.walData(ctx, s.next, data)
	case ok:
		return false, s.copyData(ctx, data)
	}
	msg, err := s.conn.ReceiveMessage(context.Background())
	if err != nil {
		return false, notRead(err)
	}
	return s.message(msg)
}

// errNothingCame: the deadline of the socket has passed, or somebody woke the reader.
// Only what reads may say so. The errors of a disk, and of a status that could not be
// sent, can be timeouts as well, and nothing goes on after them.
var errNothingCame = errors.New("nothing came")

func notRead(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errNothingCame
	}
	return fmt.Errorf("connection to the server lost: %w", err)
}

// mayStop says whether the receiver was stopped, or has what it was asked for.
func (s *stream) mayStop(ctx context.Context) bool {
	return ctx.Err() != nil || s.o.EndPos != 0 && s.pos > s.o.EndPos
}

// message handles a message of the copy phase that is not CopyData; ended means
// that the timeline has.
func (s *stream) message(msg pgproto3.BackendMessage) (ended bool, err error) {
	switch m := msg.(type) {
	case *pgproto3.CopyDone:
		return true, nil
	case *pgproto3.CommandComplete:
		return false, errServerStopped
	case *pgproto3.ErrorResponse:
		return false, pgconn.ErrorResponseToPgError(m)
	case *pgproto3.NoticeResponse, *pgproto3.ParameterStatus:
		return false, nil
	default:
		return false, fmt.Errorf("unexpected %T while streaming", msg)
	}
}

// copyData handles a message, or the beginning of one that is WAL.
func (s *stream) copyData(ctx context.Context, data []byte) error {
	switch data[0] {
	case pglogrepl.XLogDataByteID:
		m, err := pglogrepl.ParseXLogData(data[1:])
		if err != nil {
			return err
		}
		s.server = segment.LSN(m.ServerWALEnd)
		return s.walData(ctx, segment.LSN(m.WALStart), m.WALData)
	case pglogrepl.PrimaryKeepaliveMessageByteID:
		m, err := pglogrepl.ParsePrimaryKeepaliveMessage(data[1:])
		if err != nil {
			return err
		}
		s.heard(segment.LSN(m.ServerWALEnd))
		if m.ReplyRequested {
			s.feedback.wrote(s.pos, false)
			s.feedback.replyAsked()
		}
		return nil
	default:
		return fmt.Errorf("unknown message type %q while streaming", data[0])
	}
}

func (s *stream) heard(server segment.LSN) {
	if s.live != nil {
		s.live()
		s.live = nil
		s.feedback.streams()
	}
	s.progress.heard(server, time.Now())
}

// walData writes WAL that has to begin exactly where the last ended, segment by
// segment.
func (s *stream) walData(ctx context.Context, at segment.LSN, p []byte) error {
	if at != s.pos {
		return fmt.Errorf("the server sent WAL at %s where %s follows", at, s.pos)
	}
	s.next = at + segment.LSN(len(p))
	for len(p) > 0 {
		off := s.size.Offset(s.pos)
		if off == 0 {
			if err := s.room(ctx); err != nil {
				return err
			}
		}
		n := min(int64(len(p)), int64(s.size)-off)
		if err := s.write(p[:n]); err != nil {
			return err
		}
		p = p[n:]
	}
	s.heard(s.server) // with a full disk there is WAL, but no streaming
	return nil
}

// write writes WAL of one segment.
func (s *stream) write(p []byte) error {
	at, end := s.pos, s.pos+segment.LSN(len(p))
	s.progress.received(end, len(p))
	name := segment.Name{Timeline: s.timeline, Number: s.size.Number(at)}
	s.verifier.expect(name, at, len(p), s.size) // before it can be sealed
	if err := s.sink.Append(at, p); err != nil {
		return local(err)
	}
	s.pos = end
	s.progress.written(end)
	var err error
	switch {
	case s.size.Offset(end) == 0:
		s.feedback.wrote(end, true)
	case !s.in.buffered() || s.verifier.busy(): // reading it as WAL may have to wait
		err = s.feedback.wroteAll(end)
	}
	s.verifier.feed(at, p, s.in.block)
	return err
}

// synced tells others of a sync.
func (s *stream) synced(flushed segment.LSN, took time.Duration) {
	s.progress.flushed(flushed)
	if s.o.OnSync != nil {
		s.o.OnSync(took)
	}
}

// finish syncs, tells the server the exact position, and says goodbye. The
// server is given a moment for its part, and no more: nothing depends on it.
func (s *stream) finish() error {
	flushed, err := s.sink.Sync()
	if err != nil {
		return local(err)
	}
	s.progress.flushed(flushed)
	until := time.Now().Add(finishTimeout)
	flushed = s.feedback.farewell(flushed, finishTimeout/2)
	if s.live != nil {
		flushed = 0 // see startFeedback
	}
	s.deadline.settle(time.Until(until))
	if s.sendStatus(s.pos, flushed, false) == nil && s.sendCopyDone() == nil {
		_, _ = s.drain()
	}
	return nil
}

// endOfTimeline answers the server's CopyDone and takes the next timeline from
// the row that follows.
func (s *stream) endOfTimeline() (ending, error) {
	s.deadline.settle(receiveTimeout)
	if err := s.sendCopyDone(); err != nil {
		return ending{}, fmt.Errorf("end of timeline: %w", err)
	}
	end, err := s.drain()
	if err != nil {
		return ending{}, fmt.Errorf("end of timeline: %w", err)
	}
	if end.next == 0 {
		return ending{}, errServerStopped
	}
	return end, nil
}

func (s *stream) sendCopyDone() error {
	s.conn.Frontend().Send(&pgproto3.CopyDone{})
	return s.conn.Frontend().Flush()
}

// drain reads up to ReadyForQuery, past WAL that nobody wants any more, and
// keeps the row that names the next timeline. There is more than one
// CommandComplete, and on the day of a promotion ParameterStatus in between. It
// ends by the settled deadline at the latest.
func (s *stream) drain() (ending, error) {
	var end ending
	for {
		msg, err := s.conn.ReceiveMessage(context.Background())
		if err != nil {
			return ending{}, err
		}
		switch m := msg.(type) {
		case *pgproto3.DataRow:
			if end, err = parseNextTimeline(m.Values); err != nil {
				return ending{}, err
			}
		case *pgproto3.ErrorResponse:
			return ending{}, pgconn.ErrorResponseToPgError(m)
		case *pgproto3.ReadyForQuery:
			return end, nil
		}
	}
}

// parseNextTimeline reads the row next_tli, next_tli_startpos.
func parseNextTimeline(row [][]byte) (ending, error) {
	if len(row) < 2 {
		return ending{}, fmt.Errorf("end of timeline: a row of %d columns", len(row))
	}
	tli, err := strconv.ParseUint(string(row[0]), 10, 32)
	if err != nil || tli == 0 {
		return ending{}, fmt.Errorf("end of timeline: next timeline %q", row[0])
	}
	fork, err := segment.ParseLSN(string(row[1]))
	if err != nil {
		return ending{}, fmt.Errorf("end of timeline: %w", err)
	}
	return ending{next: segment.TimelineID(tli), fork: fork}, nil
}

// sendStatus is called by one goroutine at a time: see [feedback.report].
func (s *stream) sendStatus(write, flush segment.LSN, reply bool) error {
	encodeStatus(&s.status, write, flush, time.Now(), reply)
	if err := s.deadline.forWrite(receiveTimeout); err != nil {
		return fmt.Errorf("send status: %w", err)
	}
	if err := s.conn.Frontend().SendUnbufferedEncodedCopyData(s.status[:]); err != nil {
		return fmt.Errorf("send status: %w", err)
	}
	return nil
}
