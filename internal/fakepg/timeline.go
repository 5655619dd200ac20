package fakepg

import (
	"fmt"
	"strings"
)

// Fork says where a timeline ended and the next one began.
type Fork struct {
	Timeline uint32
	End      uint64
}

// Timeline returns the server's timeline.
func (s *Server) Timeline() uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.timeline
}

// Promote ends the server's timeline at the given position and continues on the
// next one; a standby becomes a primary. Streams of the old timeline end there.
// The new timeline's WAL ends at the same position until it is moved.
func (s *Server) Promote(timeline uint32, at uint64) {
	s.update(func() {
		s.history = append(s.history, Fork{Timeline: s.timeline, End: at})
		s.timeline = timeline
		s.end = at
		s.standby = false
	})
}

// HistoryFile returns the name and content of a timeline's history file, and
// whether the server has one: for its own timeline and its ancestors, but never
// for a timeline without ancestors.
func (s *Server) HistoryFile(timeline uint32) (name, content string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name = fmt.Sprintf("%08X.history", timeline)
	if content, replaced := s.config.Histories[timeline]; replaced {
		return name, content, content != ""
	}
	var text strings.Builder
	for _, fork := range s.history {
		if fork.Timeline >= timeline {
			break
		}
		fmt.Fprintf(&text, "%d\t%s\tno recovery target specified\n\n", fork.Timeline, FormatLSN(fork.End))
	}
	_, known := s.limitLocked(timeline)
	return name, text.String(), known && text.Len() > 0
}

// limitLocked returns where a timeline of the server's history ends: the fork,
// or the end of the flushed WAL for its own timeline.
func (s *Server) limitLocked(timeline uint32) (end uint64, known bool) {
	if timeline == s.timeline {
		return s.end, true
	}
	for _, fork := range s.history {
		if fork.Timeline == timeline {
			return fork.End, true
		}
	}
	return 0, false
}

// nextLocked returns the timeline that followed an ancestor.
func (s *Server) nextLocked(timeline uint32) uint32 {
	for i, fork := range s.history {
		if fork.Timeline == timeline && i+1 < len(s.history) {
			return s.history[i+1].Timeline
		}
	}
	return s.timeline
}

// writerLocked returns the timeline that wrote the byte at lsn of a timeline's
// files, and the position up to which it wrote.
func (s *Server) writerLocked(timeline uint32, lsn uint64) (writer uint32, until uint64) {
	for _, fork := range s.history {
		if fork.Timeline >= timeline {
			break
		}
		if lsn < fork.End {
			return fork.Timeline, fork.End
		}
	}
	return timeline, ^uint64(0)
}

// ReadWAL fills p with the bytes of a timeline's files at the given position,
// whether or not the server's end is before it.
func (s *Server) ReadWAL(timeline uint32, at uint64, p []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readWALLocked(timeline, at, p)
}

func (s *Server) readWALLocked(timeline uint32, at uint64, p []byte) {
	for len(p) > 0 {
		writer, until := s.writerLocked(timeline, at)
		n := min(uint64(len(p)), until-at)
		if s.config.WAL != nil {
			s.config.WAL(writer, at, p[:n])
		} else {
			s.pages(writer, at, p[:n])
		}
		at += n
		p = p[n:]
	}
}
