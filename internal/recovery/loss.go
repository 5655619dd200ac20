package recovery

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/walrecv/walrecv/internal/backup"
)

// Loss says what could not be recovered any more without a base backup, "" if nothing:
// the end of the newest timeline that has a base backup, and, if since is not zero, what
// is from that time on. backups are as [backup.List] gives them. The last whole one is
// always a loss: its WAL may be somewhere else.
func (s *Survey) Loss(backups []backup.Entry, id string, since time.Time) string {
	others := slices.DeleteFunc(slices.Clone(backups), func(e backup.Entry) bool { return e.ID == id })
	if !slices.ContainsFunc(others, isWhole) && slices.ContainsFunc(backups, isWhole) {
		return "nothing could be restored"
	}
	before, after := s.Windows(backups), s.Windows(others)
	if len(before) == 0 {
		return ""
	}
	newest := before[len(before)-1]
	if _, ok := startOf(after, newest); !ok {
		return fmt.Sprintf("nothing could be recovered up to %s on timeline %d", newest.End, uint32(newest.Timeline))
	}
	for _, w := range before {
		behind := w.End != newest.End && cmp.Or(w.EndTime, w.StartTime).Before(since)
		if since.IsZero() || w.Timeline != newest.Timeline || behind {
			continue
		}
		from := w.StartTime
		if from.Before(since) {
			from = since
		}
		if start, ok := startOf(after, w); !ok || start.After(from) {
			return "nothing could be recovered to " + from.UTC().Format("2006-01-02 15:04:05 UTC")
		}
	}
	return ""
}

func isWhole(e backup.Entry) bool { return e.Whole() }

// startOf is from when on the end of a window can be reached within others.
func startOf(others []Window, w Window) (start time.Time, ok bool) {
	for _, o := range others {
		if o.Timeline == w.Timeline && o.End == w.End && (!ok || o.StartTime.Before(start)) {
			start, ok = o.StartTime, true
		}
	}
	return start, ok
}
