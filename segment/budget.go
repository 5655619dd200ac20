package segment

import (
	"log/slog"
	"sync"
	"time"
)

// minBudget is how many segments a spool needs room for at least: the one that is
// written, the newest complete one, which stays, the newest one of a branch that
// was left, which stays too, and one that is on its way to the archive.
const minBudget = 4

// budget is how much of the disk the segments of a spool may take. It counts the
// segments that are being written, with the full size that they have from the
// start, and complete ones until they are removed. What stays in a spool whatever
// is archived does not count, or there would be less and less room: files that
// were set aside, partials of timelines that were left, histories, gaps, marks.
//
// A spool that waits for room would say so with every segment as long as the
// archive takes less than the server writes. So it is said that there is room
// again only when a quarter of the budget is free, and two segments at least.
type budget struct {
	log *slog.Logger

	mu      sync.Mutex
	max     int64 // bytes; 0: no limit
	segment int64 // size of one, once it is known
	writing int64 // bytes of partials that are being written
	sealed  int64 // bytes of complete segments
	full    time.Time
	freed   chan struct{} // closed when a segment has room; nil: nobody waits
}

// limit raises the budget to what segments of a size need.
func (b *budget) limit(size Size) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.segment = int64(size)
	b.raise()
}

// raise does so, once the size of a segment is known.
func (b *budget) raise() {
	least := minBudget * b.segment
	if b.max == 0 || b.max >= least {
		return
	}
	b.log.Warn("the limit of the spool is too low for segments of this size, and is raised; set --spool-max to that at least",
		"spool_max", Size(b.max).String(), "segment_size", Size(b.segment).String(), "raised_to", Size(least).String())
	b.max = least
}

// room returns nil if another segment has room, else what is closed when it is
// worth asking again.
func (b *budget) room() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.max == 0 || b.fits() {
		return nil
	}
	if b.full.IsZero() {
		b.full = time.Now()
		b.log.Warn("the spool is full: WAL is read from the server only as fast as the archive takes it; the server keeps the rest: see that the archive takes WAL, or raise --spool-max",
			"segments_bytes", b.used(), "spool_max", Size(b.max).String())
	}
	if b.freed == nil {
		b.freed = make(chan struct{})
	}
	return b.freed
}

// spare tells whether another segment has room.
func (b *budget) spare() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.max == 0 || b.fits()
}

func (b *budget) used() int64 { return b.writing + b.sealed }

func (b *budget) fits() bool { return b.used()+b.segment <= b.max }

// add changes what is being written and what is complete by so many bytes.
func (b *budget) add(writing, sealed int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.writing += writing
	b.sealed += sealed
	b.changed()
}

// measured sets what is complete.
func (b *budget) measured(files []File) {
	sealed := int64(0)
	for _, f := range files {
		sealed += f.Size
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sealed = sealed
	b.changed()
}

// changed tells who waits, and the log.
func (b *budget) changed() {
	if b.freed != nil && b.fits() {
		close(b.freed)
		b.freed = nil
	}
	if !b.full.IsZero() && b.max-b.used() >= max(b.max/4, 2*b.segment) {
		b.log.Info("the spool has room again", "after", time.Since(b.full).Round(time.Millisecond).String(),
			"segments_bytes", b.used(), "spool_max", Size(b.max).String())
		b.full = time.Time{}
	}
}

// Max is how many bytes the segments of the spool may take, 0 without a limit. It
// may be called from any goroutine.
func (s *Spool) Max() int64 {
	s.budget.mu.Lock()
	defer s.budget.mu.Unlock()
	return s.budget.max
}

// SetMax changes how many bytes the segments of a spool that has a limit may take. It
// may be called from any goroutine.
func (s *Spool) SetMax(bytes int64) {
	s.budget.mu.Lock()
	defer s.budget.mu.Unlock()
	s.budget.max = bytes
	s.budget.raise()
	s.budget.changed()
}

// Remove deletes a complete segment that View has listed, while it does. The
// deletion is not synced.
func (s *Spool) Remove(base string) error {
	file, err := s.fsys.OpenRead(s.path(base))
	if err != nil {
		return err
	}
	size, err := file.Size()
	file.Close() // nothing was written through it
	if err == nil {
		err = s.fsys.Remove(s.path(base))
	}
	if err == nil {
		s.budget.add(0, -size)
	}
	return err
}
