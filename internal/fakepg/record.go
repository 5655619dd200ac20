package fakepg

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
)

// Status is a standby status update as the server received it. Positions that
// were sent as zero are zero.
type Status struct {
	Conn           int    // number of the connection
	Timeline       uint32 // of the stream
	Write          uint64
	Flush          uint64
	Apply          uint64
	ReplyRequested bool
}

// Statuses returns all status updates so far, in order of arrival.
func (s *Server) Statuses() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.statuses)
}

// WaitStatus waits for a status update that satisfies accept, among those that
// have arrived already and those to come.
func (s *Server) WaitStatus(ctx context.Context, accept func(Status) bool) (Status, error) {
	var found Status
	seen := 0
	err := s.wait(ctx, func() bool {
		for ; seen < len(s.statuses); seen++ {
			if accept(s.statuses[seen]) {
				found = s.statuses[seen]
				return true
			}
		}
		return false
	})
	if err != nil {
		return Status{}, fmt.Errorf("no such status among %d: %w", seen, err)
	}
	return found, nil
}

// WaitFlush waits until a stream of the timeline has reported lsn or more as
// flushed.
func (s *Server) WaitFlush(ctx context.Context, timeline uint32, lsn uint64) error {
	_, err := s.WaitStatus(ctx, func(st Status) bool { return st.Timeline == timeline && st.Flush >= lsn })
	return err
}

// Commands returns all commands so far, in order, as the clients sent them.
func (s *Server) Commands() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.commands)
}

// WaitCommand waits until n commands have arrived that satisfy accept.
func (s *Server) WaitCommand(ctx context.Context, n int, accept func(string) bool) error {
	return s.wait(ctx, func() bool {
		count := 0
		for _, command := range s.commands {
			if accept(command) {
				count++
			}
		}
		return count >= n
	})
}

// Startups returns the start-up parameters of every connection so far.
func (s *Server) Startups() []map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.startups)
}

// Connections returns how many connections sent a start-up message so far.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.startups)
}

// WaitConnections waits until n connections have sent a start-up message.
func (s *Server) WaitConnections(ctx context.Context, n int) error {
	return s.wait(ctx, func() bool { return len(s.startups) >= n })
}

// WaitFaults waits until n of the injected faults have happened.
func (s *Server) WaitFaults(ctx context.Context, n int) error {
	return s.wait(ctx, func() bool { return s.faultsHit >= n })
}

// WaitStreaming waits until a stream of the timeline has sent everything up to
// lsn.
func (s *Server) WaitStreaming(ctx context.Context, timeline uint32, lsn uint64) error {
	return s.wait(ctx, func() bool {
		for c := range s.conns {
			if c.timeline == timeline && c.sent >= lsn {
				return true
			}
		}
		return false
	})
}

// Problems returns what clients did that a receiver must never do: a position
// reported that was not sent on this stream, a flushed position beyond the
// written one or going backwards, an applied position, an unknown message.
func (s *Server) Problems() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.problems)
}

func (s *Server) problem(format string, args ...any) {
	s.update(func() { s.problems = append(s.problems, fmt.Sprintf(format, args...)) })
}

const (
	statusLength = 34
	maxProblems  = 100
)

// copyData takes in what the client sent inside copy mode. It returns what is
// wrong with the message if it is none that a walsender knows.
func (s *Server) copyData(c *Conn, data []byte) (problem string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.notifyLocked()
	if c.timeline == 0 {
		return "" // a report that crossed the end of the stream: ignored
	}
	if len(data) != statusLength || data[0] != 'r' {
		return fmt.Sprintf("copy data of %d bytes that starts with %q", len(data), data[:min(1, len(data))])
	}
	status := Status{
		Conn:           c.Number,
		Timeline:       c.timeline,
		Write:          binary.BigEndian.Uint64(data[1:]),
		Flush:          binary.BigEndian.Uint64(data[9:]),
		Apply:          binary.BigEndian.Uint64(data[17:]),
		ReplyRequested: data[33] != 0,
	}
	s.checkStatusLocked(c, status)
	s.statuses = append(s.statuses, status)
	c.last = status
	if c.slot != nil && status.Flush != 0 {
		c.slot.RestartLSN = status.Flush
	}
	if status.ReplyRequested {
		c.keepalives++
	}
	return ""
}

func (s *Server) checkStatusLocked(c *Conn, status Status) {
	wrong := ""
	switch {
	case status.Apply != 0:
		wrong = "an applied position"
	case status.Write > c.sent:
		wrong = "a written position that was not sent"
	case status.Flush > status.Write:
		wrong = "a flushed position beyond the written one"
	case status.Write < c.last.Write:
		wrong = "a written position that went backwards"
	case status.Flush < c.last.Flush:
		wrong = "a flushed position that went backwards"
	}
	if wrong != "" && len(s.problems) < maxProblems {
		s.problems = append(s.problems, fmt.Sprintf("connection %d reports %s: write %s flush %s apply %s, sent %s, before write %s flush %s",
			c.Number, wrong, FormatLSN(status.Write), FormatLSN(status.Flush), FormatLSN(status.Apply),
			FormatLSN(c.sent), FormatLSN(c.last.Write), FormatLSN(c.last.Flush)))
	}
}
