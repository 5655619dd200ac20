package fakepg

import (
	"fmt"
	"strings"
)

// End returns the end of the server's flushed WAL.
func (s *Server) End() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end
}

// SetEnd moves the end of the server's flushed WAL; streams send up to it.
func (s *Server) SetEnd(lsn uint64) {
	s.update(func() { s.end = lsn })
}

// Append moves the end of the flushed WAL by n bytes and returns it.
func (s *Server) Append(n int) uint64 {
	var end uint64
	s.update(func() {
		s.end += uint64(n)
		end = s.end
	})
	return end
}

// SetBegin removes the WAL of the segments before lsn's.
func (s *Server) SetBegin(lsn uint64) {
	s.update(func() { s.begin = lsn })
}

// Slot returns a copy of a slot, and whether there is one of that name.
func (s *Server) Slot(name string) (Slot, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	slot, ok := s.slots[name]
	if !ok {
		return Slot{}, false
	}
	return *slot, true
}

// SetSlot makes or replaces a slot.
func (s *Server) SetSlot(name string, slot Slot) {
	s.update(func() { s.slots[name] = &slot })
}

// Keepalive sends a keepalive message on every stream.
func (s *Server) Keepalive(replyRequested bool) {
	s.update(func() {
		for c := range s.conns {
			c.keepalives++
			c.keepaliveReply = c.keepaliveReply || replyRequested
		}
	})
}

// parameters returns what the server reports of itself, under the names of
// ParameterStatus and SHOW.
func (s *Server) parameters() map[string]string {
	onOff := map[bool]string{true: "on", false: "off"}
	s.mu.Lock()
	defer s.mu.Unlock()
	p := map[string]string{
		"server_version":        s.config.Version,
		"server_encoding":       "UTF8",
		"client_encoding":       "UTF8",
		"integer_datetimes":     "on",
		"data_directory_mode":   s.config.DirMode,
		"wal_segment_size":      formatSize(s.config.SegmentSize),
		"transaction_read_only": onOff[s.standby],
	}
	if s.major >= 14 {
		p["in_hot_standby"] = onOff[s.standby]
		p["default_transaction_read_only"] = "off"
	}
	for name, value := range s.config.Parameters {
		p[name] = value
	}
	return p
}

func formatSize(size uint64) string {
	const gib = 1 << 30
	if size >= gib {
		return fmt.Sprintf("%dGB", size/gib)
	}
	return fmt.Sprintf("%dMB", size>>20)
}

// FormatLSN writes a position as PostgreSQL does.
func FormatLSN(lsn uint64) string {
	return fmt.Sprintf("%X/%X", lsn>>32, uint32(lsn))
}

// parseLSN reads a position; strict, since a client must not send anything odd.
func parseLSN(text string) (uint64, error) {
	var high, low uint32
	_, err := fmt.Sscanf(text, "%X/%X", &high, &low)
	lsn := uint64(high)<<32 | uint64(low)
	if err != nil || !strings.EqualFold(FormatLSN(lsn), text) {
		return 0, fmt.Errorf("invalid position %q", text)
	}
	return lsn, nil
}
