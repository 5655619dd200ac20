package receiver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walrecv/walrecv/segment"
)

// session is the life of one connection. A nil error means that the receiver has
// done what it was asked for.
func (r *Receiver) session(ctx context.Context) error {
	s, err := r.open(ctx)
	if err != nil {
		return err
	}
	defer closeConn(s.conn)
	defer func() {
		if s.streamed {
			r.lastStream = time.Now()
		}
	}()
	start, err := s.acceptGap(ctx, s.startPosition())
	if err != nil {
		return err
	}
	start = s.repeat(start)
	s.tellForks()
	if err := s.keepHistories(2, start.Timeline); err != nil {
		return err
	}
	err = s.follow(ctx, start)
	if sqlState(err) == codeObjectInUse && !s.streamed && !r.o.NoLoop {
		return s.awaitSlot(ctx, err)
	}
	return err
}

// closeConn says goodbye without waiting long for a server that is not there.
func closeConn(conn *pgconn.PgConn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx) // nothing depends on a connection that is given up
}

// session is what is known of the server and of ourselves for one connection.
type session struct {
	r    *Receiver
	conn *pgconn.PgConn

	server    Server
	slot      Slot
	history   segment.History // of the server's timeline
	histories map[segment.TimelineID][]byte
	held      segment.Held

	slotCreated bool // by this session
	slotWasLost bool // before that
	streamed    bool // on this connection
	repeating   bool // what is streamed first is held already, and came damaged
	lag         bool // it is a standby that has not come as far as what is held
}

// prepare learns what is needed to decide where to start, and refuses what must
// not be streamed from.
func (s *session) prepare(ctx context.Context) error {
	var err error
	if s.server, err = Identify(ctx, s.conn); err != nil {
		return err
	}
	h, _ := serverOf(s.conn)
	s.r.progress.connected(s.server, h)
	if err := s.r.keeper.Identify(ctx, s.cluster()); err != nil {
		return local(err)
	}
	if err := s.lagging(); err != nil {
		return err
	}
	if s.held, err = s.r.keeper.Held(ctx); err != nil {
		return local(err)
	}
	if err := s.fetchHistories(ctx); err != nil {
		return err
	}
	if err := s.checkBranch(ctx); err != nil {
		return err
	}
	s.warnSettings(ctx)
	return s.checkSlot(ctx)
}

// cluster is what the server says of what its WAL belongs to.
func (s *session) cluster() segment.Cluster {
	return segment.Cluster{
		Identity: segment.Identity{SystemID: s.server.SystemID, Size: s.server.SegmentSize},
		Major:    s.server.Major,
		FileMode: s.server.FileMode,
	}
}

// fetchHistories gets the history files of all timelines, not only of those
// that are streamed: recovery looks for the newest timeline one by one, and
// stops at the first history file that is missing.
func (s *session) fetchHistories(ctx context.Context) error {
	s.histories = map[segment.TimelineID][]byte{}
	for t := segment.TimelineID(2); t <= s.server.Timeline; t++ {
		content, err := s.fetchHistory(ctx, t)
		if errors.Is(err, fs.ErrNotExist) && t != s.server.Timeline {
			continue
		}
		if err != nil {
			return err
		}
		s.histories[t] = content
	}
	var err error
	s.history, err = segment.ParseHistory(s.server.Timeline, s.histories[s.server.Timeline])
	return err
}

func (s *session) fetchHistory(ctx context.Context, t segment.TimelineID) ([]byte, error) {
	_, content, err := TimelineHistory(ctx, s.conn, t)
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", segment.HistoryName(t), err)
	}
	return content, nil
}

// keepHistories stores the history files of a range of timelines. One that is
// ahead of the stream has to wait until the stream gets there: its presence
// says that everything before its fork is kept.
func (s *session) keepHistories(from, to segment.TimelineID) error {
	for t := from; t <= to; t++ {
		content, ok := s.histories[t]
		if !ok {
			continue
		}
		if err := s.r.keeper.PutHistory(t, content); err != nil {
			return local(err)
		}
	}
	return nil
}

// checkBranch refuses a server whose WAL does not continue what is held.
func (s *session) checkBranch(ctx context.Context) error {
	if s.server.InRecovery && s.server.Timeline < s.held.Newest {
		return s.mustFollow(s.held.Newest, 0)
	}
	if !s.r.o.AcceptBranch {
		if err := segment.CheckBranch(s.history, s.server.SegmentSize, s.held); err != nil {
			return local(fmt.Errorf("%w; --accept-branch follows it all the same", err))
		}
	}
	end := s.held.EndOn(s.server.Timeline, s.server.SegmentSize)
	if end > s.server.End {
		// The server goes on writing, and another receiver archiving, between
		// the two looks: only a position that is younger than held counts.
		if err := s.server.identifySystem(ctx, s.conn); err != nil {
			return err
		}
	}
	if end <= s.server.End {
		return nil
	}
	if s.server.InRecovery {
		return s.mustFollow(s.server.Timeline, end)
	}
	return local(fmt.Errorf("the server ends at %s on timeline %d, where WAL up to %s is held: was it restored from a snapshot? %w",
		s.server.End, uint32(s.server.Timeline), end, segment.ErrBranch))
}

// startPosition is where streaming begins. The slot counts only where nothing
// is held: its position says what the server keeps, not what was received.
func (s *session) startPosition() segment.Position {
	size := s.server.SegmentSize
	if start, ok := segment.Resume(s.history, size, s.held); ok {
		if start == s.r.gone {
			start.Timeline = s.newest(start.LSN)
		}
		s.r.log.Debug("going on where the held WAL ends", "position", start.String())
		return start
	}
	lsn := s.server.End
	if s.slot.RestartLSN != 0 {
		lsn = s.slot.RestartLSN
	}
	start := segment.Position{Timeline: s.newest(size.Floor(lsn)), LSN: size.Floor(lsn)}
	if start != s.r.toldStart {
		s.r.toldStart = start
		s.r.log.Info("nothing is held yet", "starting_at", start.String())
	}
	return start
}

// newest is the newest timeline with a byte in the segment that begins at lsn.
func (s *session) newest(lsn segment.LSN) segment.TimelineID {
	timelines := s.history.Segment(s.server.SegmentSize.Number(lsn), s.server.SegmentSize)
	return timelines[len(timelines)-1]
}

// follow streams from a position on, timeline after timeline.
func (s *session) follow(ctx context.Context, at segment.Position) error {
	sink, err := s.r.keeper.Open(at)
	if err != nil {
		return local(err)
	}
	defer sink.Close()
	for {
		end, err := s.stream(ctx, sink, at)
		if err != nil || end.stopped {
			return err
		}
		if at, err = s.switchTimeline(ctx, sink, at, end); err != nil {
			return err
		}
	}
}

// stream streams one timeline.
func (s *session) stream(ctx context.Context, sink Sink, at segment.Position) (ending, error) {
	st := &stream{
		conn: s.conn, sink: sink, o: s.r.o, timeline: at.Timeline, pos: at.LSN, size: s.server.SegmentSize,
		live:     func() { s.live(at) },
		progress: &s.r.progress, verifier: s.r.verifier, pace: s.r.pace,
		begin: verifyBegin{at: at, cluster: s.cluster(), history: s.historyOf(at.Timeline)},
	}
	end, err := st.run(ctx, startQuery(s.r.o.Slot, at))
	return end, s.explain(err, segment.Position{Timeline: at.Timeline, LSN: st.pos})
}

// tellForks tells of forks that are met for the first time, and of WAL that was
// received beyond one: the old primary sent it, and the new one never had it.
func (s *session) tellForks() {
	for i, e := range s.history.Entries {
		child := s.server.Timeline
		if i+1 < len(s.history.Entries) {
			child = s.history.Entries[i+1].Timeline
		}
		end := s.held.EndOn(e.Timeline, s.server.SegmentSize)
		if _, known := s.held.Histories[child]; known || end == 0 {
			continue
		}
		fork := []any{"timeline", uint32(e.Timeline), "next", uint32(child), "at", e.End.String(), "held_until", end.String()}
		s.r.log.Warn("the server has left the timeline that is held for another one, as after a failover; "+
			"a restored clone does the same, and must not be received into this place", fork...)
		if end > e.End {
			s.r.log.Warn("WAL that was received is not part of the server's timeline: it was promoted without it. "+
				"It is kept, and can be recovered along the old timeline", append(fork, "bytes", uint64(end-e.End))...)
		}
	}
}

// historyOf is the history of a timeline that the server descends from.
func (s *session) historyOf(t segment.TimelineID) segment.History {
	h := segment.History{Timeline: t}
	for _, e := range s.history.Entries {
		if e.Timeline < t {
			h.Entries = append(h.Entries, e)
		}
	}
	return h
}

// repeat moves the start back to where the verifier wants WAL once more.
func (s *session) repeat(start segment.Position) segment.Position {
	again, ok := s.r.verifier.repeatFrom()
	if !ok {
		return start
	}
	_, end, known := s.history.Bounds(again.Timeline)
	if !known || again.LSN >= end || again.LSN > start.LSN || again.Timeline > start.Timeline {
		s.r.verifier.cannotRepeat() // the server was promoted without it, or it comes anyway
		return start
	}
	s.repeating = again != start
	return again
}

// live notes that the server really streams: CopyBothResponse alone does not
// say so, errors may follow it.
func (s *session) live(at segment.Position) {
	s.r.progress.streams(at, s.r.streamed && !s.streamed)
	s.r.o.changed()
	s.r.streamed, s.streamed, s.r.slotUser = true, true, ""
	args := []any{"from", at.String(), "server_version", s.server.Version}
	if !s.r.lastStream.IsZero() {
		args = append(args, "after", time.Since(s.r.lastStream).Round(time.Millisecond).String())
		s.r.lastStream = time.Time{}
	}
	s.r.log.Info("streaming", args...)
}

// startQuery is the command that starts streaming. pglogrepl's own insists on a
// slot and does not quote its name.
func startQuery(slot string, at segment.Position) string {
	if slot != "" {
		slot = "SLOT " + quoteIdent(slot) + " "
	}
	return fmt.Sprintf("START_REPLICATION %sPHYSICAL %s TIMELINE %d", slot, at.LSN, uint32(at.Timeline))
}

// explain recognises the failures to start that mean lost WAL.
func (s *session) explain(err error, at segment.Position) error {
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) {
		return err
	}
	if s.repeating && pgErr.Code == codeUndefinedFile {
		return fmt.Errorf("damaged WAL cannot be had again from %s on, the server has removed it: %w", at, err)
	}
	// Servers from 18 on refuse a slot that was invalidated.
	refused := pgErr.Code == codeNotInPrerequisiteState && s.slot.Known && s.slot.RestartLSN == 0 && s.r.o.Slot != ""
	switch {
	case pgErr.Code == codeObjectInUse, pgErr.Code == codeUndefinedObject && s.r.o.Slot != "":
		return s.explainSlot(slotError("use", s.r.o.Slot, err))
	case s.held.Empty() && refused:
		return slotLost(s.r.o.Slot)
	case !s.held.Empty() && (refused || pgErr.Code == codeUndefinedFile):
		return s.missing(err, at, refused)
	}
	return err
}

// missing decides whether WAL that the server does not have is a gap.
func (s *session) missing(err error, at segment.Position, refused bool) error {
	atStart := s.server.SegmentSize.Offset(at.LSN) == 0
	if newest := s.newest(at.LSN); newest > at.Timeline && atStart && s.r.gone != at {
		// A server that was promoted twice in one segment looks for it under the
		// name of the timeline in between, which it has renamed. Its own file
		// holds the bytes of all of them.
		s.r.gone = at
		return fmt.Errorf("%s is not on the server, trying timeline %d: %w", at, uint32(newest), err)
	}
	if s.held.Unsure { // the archive may have it
		return fmt.Errorf("%s is not on the server, and the archive does not answer: %w", at, err)
	}
	gap := &GapError{At: at, Reason: s.gapReason(at, refused), Err: err}
	if s.r.o.AcceptGap && !refused && atStart {
		s.r.gap = gap
		return fmt.Errorf("%w: %w", errGapAccepted, gap.Err)
	}
	return gap
}

const (
	codeUndefinedFile          = "58P01"
	codeNotInPrerequisiteState = "55000"
)

// switchTimeline moves the sink to the timeline that follows.
func (s *session) switchTimeline(ctx context.Context, sink Sink, at segment.Position, end ending) (segment.Position, error) {
	if end.next <= at.Timeline {
		return at, fmt.Errorf("timeline %d ended, and the server names timeline %d as the next", uint32(at.Timeline), uint32(end.next))
	}
	content, ok := s.histories[end.next]
	if !ok {
		var err error
		if content, err = s.fetchHistory(ctx, end.next); err != nil {
			return at, err
		}
		s.histories[end.next] = content
	}
	history, err := segment.ParseHistory(end.next, content)
	if err != nil {
		return at, err
	}
	if _, fork, ok := history.Bounds(at.Timeline); !ok || fork != end.fork {
		return at, fmt.Errorf("the server ended timeline %d at %s, which is not what %s says",
			uint32(at.Timeline), end.fork, segment.HistoryName(end.next))
	}
	if err := sink.Switch(end.next, end.fork, content); err != nil {
		return at, local(err)
	}
	if err := s.keepHistories(at.Timeline+1, end.next-1); err != nil {
		return at, err
	}
	s.r.log.Info("the timeline ended, going on with the next",
		"timeline", uint32(at.Timeline), "next", uint32(end.next), "at", end.fork.String())
	return segment.Position{Timeline: end.next, LSN: s.server.SegmentSize.Floor(end.fork)}, nil
}
