package fakepg

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// stream is one START_REPLICATION.
type stream struct {
	c         *Conn
	timeline  uint32
	position  uint64 // everything before it was sent
	sentBytes uint64
	asked     int       // status reports seen when the last reply was asked for, -1: never
	askedAt   time.Time // last message of the client when the time-out made us ask
}

// start answers START_REPLICATION.
func (c *Conn) start(timeline uint32, position uint64) error {
	s := c.server
	s.mu.Lock()
	limit, known := s.limitLocked(timeline)
	historic := timeline != s.timeline
	end := s.end
	s.mu.Unlock()
	switch {
	case !known || historic && position > limit:
		return c.Fail(Error{Code: "XX000", Message: fmt.Sprintf(
			"requested starting point %s on timeline %d is not in this server's history", FormatLSN(position), timeline)})
	case historic && position == limit:
		return c.endStream(timeline) // nothing to copy, so no copy mode
	}
	// Before the answer: the client may report as soon as it has it.
	s.update(func() {
		c.timeline, c.sent, c.last = timeline, position, Status{}
		c.keepalives, c.keepaliveReply = 0, false
	})
	defer s.update(func() { c.timeline = 0 })
	if err := c.Send(&pgproto3.CopyBothResponse{}); err != nil {
		return err
	}
	if !historic && position > end {
		return c.Fail(Error{Code: "XX000", Message: fmt.Sprintf(
			"requested starting point %s is ahead of the WAL flush position of this server %s", FormatLSN(position), FormatLSN(end))})
	}
	st := &stream{c: c, timeline: timeline, position: position, asked: -1}
	err := st.run()
	if errors.Is(err, errEndStream) {
		return nil
	}
	return err
}

// act is what a stream does next.
type act int

const (
	actWait act = iota
	actFault
	actRemoved // the WAL asked for is gone
	actKeepalive
	actSend
	actEndTimeline
	actAsk  // shutting down: ask for a reply
	actStop // shutting down: everything is confirmed
	actHangUp
)

// plan is an act with what it needs, taken under the lock.
type plan struct {
	act     act
	fault   Fault
	message *Message
	reply   bool
	changed <-chan struct{}
	timer   <-chan time.Time
}

// run sends until the stream ends. Its error is errEndStream if the connection
// can take another command.
func (st *stream) run() error {
	for {
		select {
		case m := <-st.c.messages:
			return st.clientEnds(m)
		default:
		}
		p := st.next()
		switch p.act {
		case actWait:
			select {
			case m := <-st.c.messages:
				return st.clientEnds(m)
			case <-st.c.gone:
				return errCut
			case <-p.changed:
			case <-p.timer:
			}
			continue
		case actEndTimeline:
			return st.endTimeline()
		}
		if err := st.perform(p); err != nil && !errors.Is(err, errContinue) {
			return err
		}
	}
}

func (st *stream) perform(p plan) error {
	switch p.act {
	case actFault:
		if err := p.fault.do(st, p.message); err != nil {
			return err
		}
		if !p.fault.needsMessage {
			return nil
		}
		return st.send(p.message)
	case actSend:
		return st.send(p.message)
	case actKeepalive, actAsk:
		return st.keepalive(p.reply)
	case actRemoved:
		err := st.c.Fail(Error{Code: "58P01", Message: "requested WAL segment has already been removed"})
		return errors.Join(err, errEndStream)
	case actStop:
		err := st.c.Send(&pgproto3.CommandComplete{CommandTag: []byte("COPY 0")})
		return errors.Join(err, errBye)
	default:
		return errCut
	}
}

// next decides what to do, and takes what it needs for that.
func (st *stream) next() plan {
	s := st.c.server
	s.mu.Lock()
	defer s.mu.Unlock()
	limit, _ := s.limitLocked(st.timeline)
	pending := st.position < limit
	room, faultNow := st.dueLocked(pending)
	switch {
	case faultNow:
		p := plan{act: actFault, fault: st.takeLocked()}
		if p.fault.needsMessage {
			room, _ = st.dueLocked(pending) // the fault after this one cuts the message too
			p.message = st.messageLocked(limit, room)
		}
		return p
	case st.c.keepalives > 0:
		p := plan{act: actKeepalive, reply: st.c.keepaliveReply}
		st.c.keepalives--
		st.c.keepaliveReply = st.c.keepaliveReply && st.c.keepalives > 0
		return p
	case st.removedLocked():
		return plan{act: actRemoved}
	case pending:
		return plan{act: actSend, message: st.messageLocked(limit, room)}
	case st.timeline != s.timeline:
		return plan{act: actEndTimeline}
	case s.stopping:
		return st.shutdownLocked()
	}
	return st.idleLocked()
}

// removedLocked tells whether the segment to be read is gone, or was never
// written on this timeline.
func (st *stream) removedLocked() bool {
	s := st.c.server
	segment := st.position / s.config.SegmentSize
	if segment < s.begin/s.config.SegmentSize {
		return true
	}
	for _, fork := range s.history {
		if fork.Timeline < st.timeline && segment < fork.End/s.config.SegmentSize {
			return true
		}
	}
	return false
}

// messageLocked makes the next message: at most a chunk and room bytes long,
// ending on a page unless it reaches the limit.
func (st *stream) messageLocked(limit, room uint64) *Message {
	s := st.c.server
	end := limit
	if chunk := uint64(s.config.Chunk); limit-st.position > chunk {
		end = st.position + chunk
		if page := end - end%PageSize; page > st.position {
			end = page
		}
	}
	if end-st.position > room {
		end = st.position + room
	}
	m := &Message{Start: st.position, End: limit, Data: make([]byte, end-st.position)}
	s.readWALLocked(st.timeline, m.Start, m.Data)
	return m
}

// shutdownLocked compares what the client confirmed with what was sent.
func (st *stream) shutdownLocked() plan {
	confirmed := st.c.last.Flush
	if confirmed == 0 {
		confirmed = st.c.last.Write
	}
	if confirmed == st.position {
		return plan{act: actStop}
	}
	if seen := len(st.c.server.statuses); st.asked != seen {
		st.asked = seen
		return plan{act: actAsk, reply: true}
	}
	return plan{act: actWait, changed: st.c.server.changed}
}

// idleLocked waits, no longer than wal_sender_timeout allows.
func (st *stream) idleLocked() plan {
	s := st.c.server
	timeout := s.config.SenderTimeout
	p := plan{act: actWait, changed: s.changed}
	if timeout == 0 {
		return p
	}
	last := st.c.lastMessage
	silent := s.now().Sub(last)
	switch {
	case silent >= timeout:
		return plan{act: actHangUp}
	case silent >= timeout/2 && !st.askedAt.Equal(last):
		st.askedAt = last
		return plan{act: actAsk, reply: true}
	case silent >= timeout/2:
		p.timer = time.After(timeout - silent)
	default:
		p.timer = time.After(timeout/2 - silent)
	}
	return p
}

// send sends a message; whatever its Start says, the stream moves by its length.
func (st *stream) send(m *Message) error {
	wire := st.encode(m)
	st.advance(m)
	return st.c.Write(wire)
}

// advance counts a message as sent.
func (st *stream) advance(m *Message) {
	n := uint64(len(m.Data))
	st.position += n
	st.sentBytes += n
	st.c.server.update(func() { st.c.sent = st.position })
}

// encode makes the message as it is on the wire.
func (st *stream) encode(m *Message) []byte {
	const headerLength = 25
	data := make([]byte, headerLength, headerLength+len(m.Data))
	data[0] = 'w'
	binary.BigEndian.PutUint64(data[1:], m.Start)
	binary.BigEndian.PutUint64(data[9:], m.End)
	binary.BigEndian.PutUint64(data[17:], st.c.server.microseconds())
	wire, err := (&pgproto3.CopyData{Data: append(data, m.Data...)}).Encode(nil)
	if err != nil {
		panic(err) // only a message above 1 GiB cannot be encoded
	}
	return wire
}

func (st *stream) keepalive(reply bool) error {
	const length = 18
	data := make([]byte, length)
	data[0] = 'k'
	binary.BigEndian.PutUint64(data[1:], st.position)
	binary.BigEndian.PutUint64(data[9:], st.c.server.microseconds())
	if reply {
		data[17] = 1
	}
	return st.c.Send(&pgproto3.CopyData{Data: data})
}

// microseconds is the time as messages carry it: since the year 2000.
func (s *Server) microseconds() uint64 {
	const epoch = 946684800000000
	return uint64(s.now().UnixMicro() - epoch)
}

// clientEnds answers the client's CopyDone; any other message is the end of the
// connection.
func (st *stream) clientEnds(m clientMessage) error {
	switch m.kind {
	case 'c':
		if err := st.c.Send(&pgproto3.CopyDone{}); err != nil {
			return err
		}
		return errors.Join(st.c.endStream(st.timeline), errEndStream)
	case 'X':
		return errCut
	}
	st.c.server.problem("connection %d: unexpected %q %s in copy mode", st.c.Number, m.kind, m.text)
	return st.c.Fail(Error{"FATAL", "08P01", "unexpected message type in copy mode"})
}

// endTimeline ends the copy stream because the timeline ended.
func (st *stream) endTimeline() error {
	if err := st.c.Send(&pgproto3.CopyDone{}); err != nil {
		return err
	}
	select {
	case m := <-st.c.messages:
		if m.kind != 'c' {
			return st.clientEnds(m)
		}
		return errors.Join(st.c.endStream(st.timeline), errEndStream)
	case <-st.c.gone:
		return errCut
	}
}

// endStream sends what follows the copy stream: where the timeline went on, if
// it ended, two completions, and what changed meanwhile.
func (c *Conn) endStream(timeline uint32) error {
	s := c.server
	s.mu.Lock()
	limit, _ := s.limitLocked(timeline)
	next := s.nextLocked(timeline)
	historic := timeline != s.timeline
	s.mu.Unlock()
	if historic {
		err := c.Rows([]string{"next_tli", "next_tli_startpos"}, []*string{Text("%d", next), Text("%s", FormatLSN(limit))})
		if err != nil {
			return err
		}
	}
	messages := []pgproto3.BackendMessage{
		&pgproto3.CommandComplete{CommandTag: []byte("START_STREAMING")},
		&pgproto3.CommandComplete{CommandTag: []byte("START_REPLICATION")},
	}
	if historic && s.major >= 14 {
		messages = append(messages, &pgproto3.ParameterStatus{Name: "in_hot_standby", Value: s.parameters()["in_hot_standby"]})
	}
	return c.Send(append(messages, &pgproto3.ReadyForQuery{TxStatus: 'I'})...)
}
