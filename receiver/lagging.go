package receiver

import (
	"fmt"
	"time"

	"github.com/walrecv/walrecv/segment"
)

// lagFor is how long it is good to know that a standby has to follow, without
// another look at what is held, which may take a listing of a whole archive.
const lagFor = 30 * time.Second

// lag is why a standby was not streamed from: it had not come as far as what was
// held. What is held only grows, so as long as it has not, it is still behind.
type lag struct {
	found    time.Time          // when; the zero value: there is none
	timeline segment.TimelineID // that has to be reached
	end      segment.LSN        // and the position on it; 0: any
}

func (l lag) Error() string {
	if l.end == 0 {
		return fmt.Sprintf("timeline %d is held already: waiting for the standby to follow to it", uint32(l.timeline))
	}
	return fmt.Sprintf("WAL up to %s on timeline %d is held already: waiting for the standby to follow", l.end, uint32(l.timeline))
}

// lags says that a server has not come as far.
func (l lag) lags(s Server) bool {
	return s.InRecovery && (s.Timeline < l.timeline || s.Timeline == l.timeline && s.End < l.end)
}

// lagging tells, from what was found out a moment ago, that the server is a
// standby that still has to follow.
func (s *session) lagging() error {
	l := s.r.lag
	if l.found.IsZero() || time.Since(l.found) > lagFor || !l.lags(s.server) {
		return nil
	}
	s.lag = true
	return fmt.Errorf("the standby is at %s on timeline %d, and %w", s.server.End, uint32(s.server.Timeline), l)
}

// mustFollow notes that a standby is behind.
func (s *session) mustFollow(timeline segment.TimelineID, end segment.LSN) error {
	s.r.lag = lag{found: time.Now(), timeline: timeline, end: end}
	return s.lagging()
}
