package fakepg

import (
	"errors"
	"io"

	"github.com/jackc/pgx/v5/pgproto3"
)

// Message is one WAL message about to be sent.
type Message struct {
	Start uint64 // position of the first byte of Data
	End   uint64 // end of WAL as the server reports it
	Data  []byte
}

// Fault is something that a real server does only on a bad day, done to one
// stream. Make one with the functions of this package.
type Fault struct {
	// needsMessage: the fault is about a message, so it waits for one.
	needsMessage bool
	// do acts on the stream; m is the next message, nil if there is none. It
	// returns nil if m is to be sent as it now is.
	do func(st *stream, m *Message) error
}

type injected struct {
	after uint64
	fault Fault
}

// Inject arms a fault: it happens once, on the first stream that has sent that
// many bytes of WAL since its START_REPLICATION; the message before it is cut
// so that it happens exactly there. Faults happen in the order of the calls,
// each on the stream it finds, so that the second can wait for the reconnect
// after the first.
func (s *Server) Inject(after uint64, fault Fault) {
	s.update(func() { s.faults = append(s.faults, injected{after, fault}) })
}

// FaultsHit returns how many of the injected faults have happened.
func (s *Server) FaultsHit() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.faultsHit
}

// errEndStream is returned by a fault that ended the stream in an orderly way:
// the connection waits for the next command.
var errEndStream = errors.New("stream ended")

// errCut ends a connection at once, errBye after the client has read what was
// sent.
var (
	errCut = errors.New("connection cut")
	errBye = errors.New("connection closed")
)

// Cut closes the connection without a word.
func Cut() Fault {
	return Fault{do: func(*stream, *Message) error { return errCut }}
}

// CutInside sends the first n bytes of the next message as it is on the wire
// (its header is 5 + 25 bytes), then closes the connection.
func CutInside(n int) Fault {
	return Fault{needsMessage: true, do: func(st *stream, m *Message) error {
		wire := st.encode(m)
		if err := st.c.Write(wire[:min(n, len(wire))]); err != nil {
			return err
		}
		return errBye
	}}
}

// StallInside sends the first n bytes of the next message on the wire, and the
// rest when release is closed. The server does not answer meanwhile, but what
// the client sends is read.
func StallInside(n int, release <-chan struct{}) Fault {
	return Fault{needsMessage: true, do: func(st *stream, m *Message) error {
		wire := st.encode(m)
		n := min(n, len(wire))
		if err := st.c.Write(wire[:n]); err != nil {
			return err
		}
		select {
		case <-release:
		case <-st.c.gone:
			return errCut
		}
		st.advance(m) // before the rest: the client may confirm it at once
		if err := st.c.Write(wire[n:]); err != nil {
			return err
		}
		return errContinue
	}}
}

// errContinue is returned by a fault that has sent the message itself.
var errContinue = errors.New("message was sent")

// Shift moves the next message's start position by delta bytes, its WAL not.
func Shift(delta int64) Fault {
	return Fault{needsMessage: true, do: func(_ *stream, m *Message) error {
		m.Start += uint64(delta)
		return nil
	}}
}

// Repeat sends the next message twice.
func Repeat() Fault {
	return Fault{needsMessage: true, do: func(st *stream, m *Message) error {
		st.c.server.update(func() { st.c.sent = m.Start + uint64(len(m.Data)) })
		return st.c.Write(st.encode(m))
	}}
}

// Skip leaves out the next message, as if it had been sent.
func Skip() Fault {
	return Fault{needsMessage: true, do: func(st *stream, m *Message) error {
		st.advance(m)
		return errContinue
	}}
}

// Alter lets the test change the next message. Its length must stay.
func Alter(change func(m *Message)) Fault {
	return Fault{needsMessage: true, do: func(_ *stream, m *Message) error {
		change(m)
		return nil
	}}
}

// Fail sends an error inside the copy stream, and ReadyForQuery if it is not
// fatal.
func Fail(e Error) Fault {
	return Fault{do: func(st *stream, _ *Message) error {
		if err := st.c.Fail(e); err != nil {
			return err
		}
		return errEndStream
	}}
}

// EndWithoutCopyDone ends the stream as a server does at its shutdown: a
// CommandComplete inside copy mode, then the connection is closed.
func EndWithoutCopyDone() Fault {
	return Fault{do: func(st *stream, _ *Message) error {
		if err := st.c.Send(&pgproto3.CommandComplete{CommandTag: []byte("COPY 0")}); err != nil {
			return err
		}
		return errBye
	}}
}

// Silence sends nothing more on the stream, not even answers, until the client
// hangs up.
func Silence() Fault {
	return Fault{do: func(st *stream, _ *Message) error {
		<-st.c.gone
		return io.EOF
	}}
}

// Send sends any messages inside the copy stream, which then goes on.
func Send(messages ...pgproto3.BackendMessage) Fault {
	return Fault{do: func(st *stream, _ *Message) error {
		return st.c.Send(messages...)
	}}
}

// Raw sends any bytes inside the copy stream, which then goes on.
func Raw(wire []byte) Fault {
	return Fault{do: func(st *stream, _ *Message) error { return st.c.Write(wire) }}
}

// dueLocked says when the next fault is due: room is how many bytes may be sent
// before it; now is true if it is to happen before anything else. haveMessage
// tells whether there is WAL to send.
func (st *stream) dueLocked(haveMessage bool) (room uint64, now bool) {
	faults := st.c.server.faults
	if len(faults) == 0 {
		return ^uint64(0), false
	}
	next := faults[0]
	if st.sentBytes < next.after {
		return next.after - st.sentBytes, false
	}
	if next.fault.needsMessage && !haveMessage {
		return ^uint64(0), false
	}
	return ^uint64(0), true
}

// takeLocked removes the next fault from the list.
func (st *stream) takeLocked() Fault {
	s := st.c.server
	fault := s.faults[0].fault
	s.faults = s.faults[1:]
	s.faultsHit++
	s.notifyLocked()
	return fault
}
