package push

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/pgdata"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
)

// checkTimeline makes sure that the archive knows the timeline of a file, and that
// it is the same one. A history that the server has and the archive has not is
// archived first, under the rules for histories.
func (c *call) checkTimeline(ctx context.Context) error {
	t := c.file.timeline
	if t == 1 {
		return nil
	}
	ours, err := c.localHistory(t)
	if err != nil {
		return err
	}
	theirs, err := c.archivedHistory(ctx, t)
	switch {
	case err != nil:
		return err
	case theirs == nil && ours == nil:
		return fmt.Errorf("neither the archive nor the server's pg_wal has %s, which says where %s came from: %w",
			segment.HistoryName(t), c.file.base, segment.ErrBranch)
	case theirs == nil:
		theirs = ours
		err = c.putHistory(ctx, t, ours)
	case ours != nil && !bytes.Equal(ours, theirs):
		err = c.try(ctx, func(ctx context.Context) error { return c.archive.PutHistory(ctx, t, ours) })
	}
	if err != nil {
		return err
	}
	return c.checkPlace(t, theirs)
}

// checkPlace refuses a segment that lies before the beginning of its timeline.
func (c *call) checkPlace(t segment.TimelineID, content []byte) error {
	h, err := segment.ParseHistory(t, content)
	if err != nil {
		return err
	}
	name, err := c.segmentName()
	if err != nil {
		return err
	}
	begin, _, _ := h.Bounds(t)
	if name.End(c.archive.Identity().SegmentSize) <= begin {
		return fmt.Errorf("%s lies before %s, where timeline %d begins according to the archive: %w",
			c.file.base, begin, uint32(t), segment.ErrBranch)
	}
	return nil
}

// localHistory reads the history file beside the file; nil without one.
func (c *call) localHistory(t segment.TimelineID) ([]byte, error) {
	content, err := vfs.ReadFile(c.o.FS, filepath.Join(filepath.Dir(c.path), segment.HistoryName(t)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return content, err
}

// archivedHistory reads a history file of the archive; nil without one.
func (c *call) archivedHistory(ctx context.Context, t segment.TimelineID) (content []byte, err error) {
	err = c.try(ctx, func(ctx context.Context) (err error) {
		content, err = c.archive.History(ctx, t)
		if errors.Is(err, fs.ErrNotExist) {
			content, err = nil, nil
		}
		return err
	})
	return content, err
}

// putHistory archives a history file. One that is new to the archive must continue
// what that holds.
func (c *call) putHistory(ctx context.Context, t segment.TimelineID, content []byte) error {
	h, err := pgdata.ParseHistory(t, content)
	if err != nil {
		return err
	}
	there, err := c.archivedHistory(ctx, t)
	if err != nil {
		return err
	}
	if there == nil {
		if err := c.admit(ctx, h); err != nil {
			return err
		}
	}
	return c.try(ctx, func(ctx context.Context) error { return c.archive.PutHistory(ctx, t, content) })
}

// admit lets a timeline in, or refuses it, and archives the histories of its
// ancestors that the archive does not have: recovery looks for timelines one by one.
func (c *call) admit(ctx context.Context, h segment.History) error {
	var held *archive.Listing
	err := c.try(ctx, func(ctx context.Context) (err error) {
		held, err = c.archive.Listing(ctx)
		return err
	})
	if err != nil {
		return err
	}
	if !c.o.AcceptBranch {
		if err := c.checkBranch(ctx, h, held); err != nil {
			return err
		}
	}
	for _, e := range h.Entries {
		if e.Timeline == 1 {
			continue
		}
		if err := c.admitAncestor(ctx, h, e.Timeline, held); err != nil {
			return err
		}
	}
	return nil
}

// admitAncestor makes sure that the archive's history of an ancestor is that of h's.
// Two servers can have taken the same number for two timelines.
func (c *call) admitAncestor(ctx context.Context, h segment.History, t segment.TimelineID, held *archive.Listing) error {
	var content []byte
	var err error
	if held.HasHistory(t) {
		content, err = c.archivedHistory(ctx, t)
	} else {
		content, err = c.localHistory(t)
	}
	if err != nil || content == nil {
		return err
	}
	ancestor, err := segment.ParseHistory(t, content)
	if err != nil {
		return err
	}
	if !h.Continues(ancestor) {
		return fmt.Errorf("timeline %d came to be in another way than timeline %d, which descends from it, says: %w",
			uint32(t), uint32(h.Timeline), segment.ErrBranch)
	}
	if held.HasHistory(t) {
		return nil
	}
	return c.try(ctx, func(ctx context.Context) error { return c.archive.PutHistory(ctx, t, content) })
}

// checkBranch refuses a timeline that does not continue what the archive holds.
func (c *call) checkBranch(ctx context.Context, h segment.History, l *archive.Listing) error {
	size := c.archive.Identity().SegmentSize
	held := segment.NewHeld()
	for _, t := range l.Timelines() {
		held.Newest = max(held.Newest, t)
		if l.HasHistory(t) {
			held.AddHistory(t)
		}
		held.Archived[t] = archivedEnd(l, t, size)
	}
	if h.Timeline < held.Newest {
		return c.checkLate(ctx, h, l)
	}
	if err := segment.CheckBranch(h, size, held); err != nil {
		return fmt.Errorf("%w; %s", err, c.wayOut(h.Timeline))
	}
	return nil
}

// archivedEnd is the end of what the archive has of a timeline, in complete segments
// and in the tail, over holes.
func archivedEnd(l *archive.Listing, t segment.TimelineID, size segment.Size) (end segment.LSN) {
	if ranges := l.Ranges(t); len(ranges) > 0 {
		end = segment.Name{Timeline: t, Number: ranges[len(ranges)-1].Last}.End(size)
	}
	for _, n := range l.Tails(t) {
		end = max(end, l.TailEnd(n))
	}
	return end
}

// checkLate lets in a timeline below the newest one if a later one, which was let
// in, descends from it.
func (c *call) checkLate(ctx context.Context, h segment.History, l *archive.Listing) error {
	for _, t := range slices.Backward(l.Histories()) {
		if t <= h.Timeline {
			break
		}
		content, err := c.archivedHistory(ctx, t)
		if err != nil || content == nil {
			return err
		}
		later, err := segment.ParseHistory(t, content)
		if err == nil && later.Continues(h) {
			return nil
		}
	}
	return fmt.Errorf("the archive holds a timeline after %d that does not descend from it: %w; %s",
		uint32(h.Timeline), segment.ErrBranch, c.wayOut(h.Timeline))
}

func (c *call) wayOut(t segment.TimelineID) string {
	return fmt.Sprintf("if this server is the one to be kept, archive %s once with walrecv push --accept-branch", segment.HistoryName(t))
}
