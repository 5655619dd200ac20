package segment

import (
	"errors"
	"fmt"
)

// ErrBranch is wrapped by refusals of a server whose history is not a
// continuation of what is held.
var ErrBranch = errors.New("not a continuation of the WAL that is held")

// Position is a place in the WAL of a cluster.
type Position struct {
	Timeline TimelineID
	LSN      LSN
}

func (p Position) String() string {
	return fmt.Sprintf("%s on timeline %d", p.LSN, uint32(p.Timeline))
}

// Held is the WAL that spool and archive have between them.
type Held struct {
	Sealed   map[Name]struct{} // complete segments
	Partials []Partial         // begun ones, in the spool only
	Newest   TimelineID        // highest timeline seen; 0 with nothing held
	Gaps     []Gap             // what is missing by consent
	Unsure   bool              // there may be more: the archive did not answer

	// Archived is the end of the archive's sealed WAL on each timeline, and
	// Histories the timelines whose history is held: once let in, a branch is
	// not asked about again.
	Archived  map[TimelineID]LSN
	Histories map[TimelineID]struct{}
}

// Partial is a segment that was begun.
type Partial struct {
	Name Name
	End  LSN // end of the last byte that is not zero
}

// NewHeld returns a Held with nothing in it.
func NewHeld() Held {
	return Held{
		Sealed:    map[Name]struct{}{},
		Archived:  map[TimelineID]LSN{},
		Histories: map[TimelineID]struct{}{},
	}
}

// Empty says that there is no WAL at all.
func (h Held) Empty() bool { return len(h.Sealed) == 0 && len(h.Partials) == 0 }

// AddSealed adds a complete segment.
func (h *Held) AddSealed(n Name) {
	h.Sealed[n] = struct{}{}
	h.Newest = max(h.Newest, n.Timeline)
}

// AddPartial adds a segment that was begun.
func (h *Held) AddPartial(p Partial) {
	h.Partials = append(h.Partials, p)
	h.Newest = max(h.Newest, p.Name.Timeline)
}

// AddHistory adds the history of a timeline.
func (h *Held) AddHistory(t TimelineID) {
	h.Histories[t] = struct{}{}
	h.Newest = max(h.Newest, t)
}

// AddArchived adds a complete segment that the archive has.
func (h *Held) AddArchived(n Name, size Size) {
	h.AddSealed(n)
	h.Archived[n.Timeline] = max(h.Archived[n.Timeline], n.End(size))
}

func (h Held) has(n Name) bool {
	_, ok := h.Sealed[n]
	return ok
}

// Resume finds where streaming has to start: the furthest point on the server's
// history below which held has no hole but accepted gaps, always the start of a
// segment. WAL of an abandoned branch does not count: neither a timeline that is
// not in the history, nor a segment that ends beyond its timeline's fork. ok is
// false if nothing of the history is held, and then the caller has to know
// better.
func Resume(server History, size Size, held Held) (start Position, ok bool) {
	number, ok := firstMissing(server, size, held)
	if !ok {
		number, ok = firstPartial(server, size, held)
	}
	if !ok {
		number, ok = firstFork(server, size, held)
	}
	if !ok {
		return Position{}, false
	}
	for more := true; more; {
		number, more = held.skipGap(server, size, number)
	}
	return Position{Timeline: startTimeline(server, size, held, number), LSN: size.Start(number)}, true
}

// firstMissing is the number after the run of segments that begins with the
// oldest one on the history.
func firstMissing(server History, size Size, held Held) (uint64, bool) {
	on := make(map[uint64]struct{}, len(held.Sealed))
	var oldest uint64
	for n := range held.Sealed {
		if !completeOn(server, size, n) {
			continue
		}
		if len(on) == 0 || n.Number < oldest {
			oldest = n.Number
		}
		on[n.Number] = struct{}{}
	}
	if len(on) == 0 {
		return 0, false
	}
	number := oldest
	for {
		if _, have := on[number]; have {
			number++
			continue
		}
		behind, ok := held.skipGap(server, size, number)
		if !ok {
			return number, true
		}
		number = behind
	}
}

// skipGap is the number of the segment behind the gap that covers a segment. What
// the gap has beyond the fork at which the server left its timeline is of another
// branch, and says nothing about the server's.
func (h Held) skipGap(server History, size Size, number uint64) (behind uint64, ok bool) {
	for _, g := range h.Gaps {
		_, fork, ok := server.Bounds(g.Timeline)
		to := min(size.Number(g.To), size.Number(fork))
		if ok && size.Number(g.From) <= number && number < to {
			return to, true
		}
	}
	return number, false
}

// firstPartial is the first of the run of begun segments that ends with the
// highest one. Those below a hole are left-overs: what was complete in between
// was taken away.
func firstPartial(server History, size Size, held Held) (number uint64, found bool) {
	on := map[uint64]bool{}
	for _, p := range held.Partials {
		begin, end, ok := server.Bounds(p.Name.Timeline)
		if !ok || p.Name.Start(size) >= end || p.Name.End(size) <= begin {
			continue
		}
		on[p.Name.Number] = true
		number, found = max(number, p.Name.Number), true
	}
	for found && number > 0 && on[number-1] {
		number--
	}
	return number, found
}

// firstFork is for a spool that holds only WAL beyond a fork: abandoned, but the
// history was followed up to the fork, and goes on there.
func firstFork(server History, size Size, held Held) (number uint64, found bool) {
	for _, e := range server.Entries {
		if held.EndOn(e.Timeline, size) > e.End {
			return size.Number(e.End), true
		}
	}
	return 0, false
}

// completeOn says whether a complete segment lies on the history to its last
// byte. Its first bytes may be an ancestor's: a fork inside a segment is copied
// into the new timeline's file.
func completeOn(server History, size Size, n Name) bool {
	begin, end, ok := server.Bounds(n.Timeline)
	return ok && n.End(size) <= end && n.End(size) > begin
}

// startTimeline chooses the timeline to ask for a segment with. The oldest one
// that reaches into it is first, so that its last segment is kept up to the
// fork as well; but not where it was streamed to its end already, nor where that
// name is taken by a complete segment, which then holds abandoned WAL beyond the
// fork.
func startTimeline(server History, size Size, held Held, number uint64) TimelineID {
	timelines := server.Segment(number, size)
	for i, t := range timelines[:len(timelines)-1] {
		_, left := held.Histories[timelines[i+1]] // kept only once t was streamed to its end
		if !left && !held.has(Name{Timeline: t, Number: number}) {
			return t
		}
	}
	return timelines[len(timelines)-1]
}

// CheckBranch refuses, with an error that wraps ErrBranch, a server whose
// history leaves what is held behind: the newest timeline held is not in it, or
// a fork lies more than one segment below the end of what the archive has of
// the parent, as it does for a restored clone. Less than that is an ordinary
// failover, in which the old primary had sent WAL that the new one never got.
func CheckBranch(server History, size Size, held Held) error {
	if held.Newest != 0 && !server.Contains(held.Newest) {
		return fmt.Errorf("timeline %d is held, but the server on timeline %d does not descend from it: %w",
			uint32(held.Newest), uint32(server.Timeline), ErrBranch)
	}
	for i, e := range server.Entries {
		child := server.Timeline
		if i+1 < len(server.Entries) {
			child = server.Entries[i+1].Timeline
		}
		if _, known := held.Histories[child]; known {
			continue
		}
		if end := held.Archived[e.Timeline]; end > e.End+LSN(size) {
			return fmt.Errorf("timeline %d is archived up to %s, but the server left it for timeline %d at %s, so that it lacks %d bytes of it: a restored clone, or a failover that lost them: %w",
				uint32(e.Timeline), end, uint32(child), e.End, uint64(end-e.End), ErrBranch)
		}
	}
	return nil
}

// EndOn is the end of the WAL held on one timeline, 0 for none.
func (h Held) EndOn(t TimelineID, size Size) LSN {
	var end LSN
	for n := range h.Sealed {
		if n.Timeline == t {
			end = max(end, n.End(size))
		}
	}
	for _, p := range h.Partials {
		if p.Name.Timeline == t {
			end = max(end, p.End)
		}
	}
	return end
}
