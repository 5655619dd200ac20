package recovery

import (
	"fmt"

	"github.com/walrecv/walrecv/internal/backup"
)

// Unsound says why no recovery that starts from a good base backup gets as far as to its
// end, whatever timeline it goes to; "" if one does. No segment is read for it.
func (s *Survey) Unsound(e backup.Entry) (why string) {
	if len(e.Lacks) > 0 {
		return e.Lacks[0]
	}
	b := e.Backup
	why = fmt.Sprintf("no timeline leads over %s on timeline %d", b.EndLSN, uint32(b.EndTimeline))
	for i := range s.chain.Branches {
		t := s.chain.Branches[i].Timeline
		l, err := s.line(t)
		switch {
		case err != nil && t == b.EndTimeline:
			why = err.Error()
		case err != nil || !l.leads(b):
		default:
			r := s.run(l, s.size.Number(b.StartLSN))
			if r.end >= b.EndLSN {
				return ""
			}
			why = fmt.Sprintf("it needs the WAL from %s to %s: %s", b.StartLSN, b.EndLSN, r.cause())
		}
	}
	return why
}
