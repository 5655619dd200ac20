package fakepg

import (
	"encoding/binary"
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

// magics are the first two bytes of a page, by major version.
var magics = map[int]uint16{13: 0xD106, 14: 0xD10D, 15: 0xD110, 16: 0xD113, 17: 0xD116, 18: 0xD118}

// pages is the WAL of a server that was given no other.
func (s *Server) pages(writer uint32, at uint64, p []byte) {
	for i := 0; i < len(p); {
		lsn := at + uint64(i)
		offset := int(lsn % PageSize)
		header := s.pageHeader(writer, lsn-uint64(offset))
		if offset < len(header) {
			i += copy(p[i:], header[offset:])
			continue
		}
		n := min(len(p)-i, PageSize-offset)
		fillPattern(writer, lsn, p[i:i+n])
		i += n
	}
}

// pageHeader makes the header of the page at start: a long one at the beginning
// of a segment.
func (s *Server) pageHeader(timeline uint32, start uint64) []byte {
	const (
		shortLength = 24
		longLength  = 40
		longFlag    = 0x0002
	)
	h := make([]byte, shortLength, longLength)
	binary.LittleEndian.PutUint16(h, magics[s.major])
	binary.LittleEndian.PutUint32(h[4:], timeline)
	binary.LittleEndian.PutUint64(h[8:], start)
	if start%s.config.SegmentSize != 0 {
		return h
	}
	binary.LittleEndian.PutUint16(h[2:], longFlag)
	h = binary.LittleEndian.AppendUint64(h, s.config.SystemID)
	h = binary.LittleEndian.AppendUint32(h, uint32(s.config.SegmentSize))
	return binary.LittleEndian.AppendUint32(h, PageSize)
}

// fillPattern writes bytes that depend on the timeline and the position only.
// None of them is zero, so that a byte which was never written shows.
func fillPattern(timeline uint32, lsn uint64, p []byte) {
	for i := range p {
		at := lsn + uint64(i)
		word := (at>>3 + uint64(timeline)<<56) * 0x9E3779B97F4A7C15
		word ^= word >> 29
		p[i] = byte(word>>(at&7*8)) | 1
	}
}
