package recovery

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/backup"
	"github.com/walrecv/walrecv/segment"
)

// Windows lists what can be reached from an archive, with no segment downloaded. backups
// are as [backup.List] gives them.
func Windows(ctx context.Context, a *archive.Archive, backups []backup.Entry) ([]Window, error) {
	s, err := Look(ctx, a, archive.Pause)
	if err != nil {
		return nil, err
	}
	return s.Windows(backups), nil
}

// Windows lists what can be reached: by timeline, and then by position. A timeline
// without a base backup on the way to it has no window, and several where WAL is
// missing. The times leave out what only the tail has.
func (s *Survey) Windows(backups []backup.Entry) []Window {
	var windows []Window
	for i := range s.chain.Branches {
		l, err := s.line(s.chain.Branches[i].Timeline)
		if err != nil {
			continue
		}
		windows = append(windows, s.windowsOn(l, backups)...)
	}
	return windows
}

// windowsOn lists the windows of one timeline. Backups with the same WAL behind them
// are in the same one.
func (s *Survey) windowsOn(l *line, backups []backup.Entry) []Window {
	var windows []Window
	for _, e := range backups {
		b := e.Backup
		if !e.Whole() || !l.leads(b) {
			continue
		}
		r := s.run(l, s.size.Number(b.StartLSN))
		if r.end < b.EndLSN {
			continue
		}
		if n := len(windows) - 1; n >= 0 && windows[n].End == r.end && windows[n].Start <= b.EndLSN {
			windows[n].Backups = append(windows[n].Backups, b.ID)
			continue
		}
		windows = append(windows, s.window(r, b))
	}
	return windows
}

// window is what can be reached with a backup.
func (s *Survey) window(r run, b *backup.Backup) Window {
	w := Window{Timeline: r.line.timeline, Start: b.EndLSN, End: r.end, TimedUntil: b.EndLSN, Backups: []string{b.ID}}
	w.StartTime, w.sure = s.settledAt(r, b)
	for name, n := range s.notesOn(r.line, s.size.Number(b.EndLSN), s.size.Number(r.end-1)) {
		if commit := n.latest(); name.Start(s.size) >= b.EndLSN && commit.After(w.StartTime) && commit.After(w.EndTime) {
			w.EndTime = commit
		}
		if n.record >= b.EndLSN {
			w.last = n.record
		}
		w.TimedUntil = min(name.End(s.size), w.End)
	}
	return w
}

// settledAt is a time at which all transactions had ended that a backup has in it: that
// of the last commit in its segments. sure is that time, and zero if it is not known. at
// is a better one, by another clock: more can follow where the backup ends, so there it
// is when the server had said that it ends, if that lies between the segment's commits.
func (s *Survey) settledAt(r run, b *backup.Backup) (at, sure time.Time) {
	first, last := s.size.Number(b.StartLSN), s.size.Number(b.EndLSN-1)
	known := true
	next := first
	for name, n := range s.notesOn(r.line, first, last) {
		known = known && n.known && name.Number == next
		next = name.Number + 1
		commit := n.latest()
		if commit.After(sure) {
			sure = commit
		}
		if name.Number == last && !n.first.After(b.Finished) && !commit.Before(b.Finished) {
			commit = b.Finished
		}
		if commit.After(at) {
			at = commit
		}
	}
	switch {
	case !known || next <= last:
		sure = time.Time{}
		if b.Finished.After(at) {
			at = b.Finished
		}
	case sure.IsZero():
		sure = s.before(r.line, first, b)
		at = sure
	}
	return at, sure
}

// usualDisorder is how far, at most, the time of a commit can be behind that of the last one of
// its segment, with a server whose clock is not turned.
const usualDisorder = time.Second

// Random picks a point of the window that can be reached: a position or, if two times
// are known in it, a time, each about as often. Which one depends on rng only. ok is
// false if nothing is known to be behind the window's start.
func (w Window) Random(rng *rand.Rand) (t Target, ok bool) {
	t.Timeline = Timeline(w.Timeline)
	from := w.sure.Add(usualDisorder)
	span := w.EndTime.Sub(from).Microseconds()
	timed := !w.EndTime.IsZero() && !w.sure.IsZero() && span > 0
	switch {
	case timed && (w.last <= w.Start || rng.IntN(2) == 0):
		t.Kind, t.Time = Time, from.Add(time.Duration(rng.Int64N(span))*time.Microsecond)
	case w.last > w.Start:
		t.Kind, t.LSN = LSN, w.Start+segment.LSN(rng.Uint64N(uint64(w.last-w.Start)+1))
	default:
		return Target{}, false
	}
	return t, true
}
