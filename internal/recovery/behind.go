package recovery

import (
	"context"
	"fmt"

	"github.com/walrecv/walrecv/segment"
)

// Behind says what a recovery to the end of a plan's WAL would have had to replay
// behind the position where it ended: a complete record, or one that is damaged, where
// PostgreSQL takes the log to end. It is empty if there is nothing but perhaps the
// beginning of a record. Only what was there when the archive was surveyed counts.
func (s *Survey) Behind(ctx context.Context, p *Plan, at segment.LSN) (string, error) {
	l, err := s.line(p.Timeline)
	if err != nil {
		return "", err
	}
	r, err := s.measured(ctx, s.run(l, s.size.Number(p.Backup.StartLSN)))
	if err != nil {
		return "", err
	}
	found := ""
	err = s.read(ctx, r, &seer{
		from: at, to: min(p.End, r.end),
		see: func(rec *segment.Record) bool {
			found = fmt.Sprintf("a record from %s to %s", rec.LSN, rec.End)
			return false
		},
		fault: func(f segment.Fault) { found = f.Error() },
	})
	return found, err
}
