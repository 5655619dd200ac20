package check

import (
	"context"
	"errors"
	"io/fs"

	"github.com/walrecv/walrecv/receiver"
	"github.com/walrecv/walrecv/segment"
)

// continuity tells whether the server's WAL continues what the archive holds, and
// whether the slot keeps what follows. The receiver's directory, which may hold
// more, is not looked at: it may be on another host.
func continuity(ctx context.Context, w *world) []Line {
	history, err := w.history(ctx)
	if err != nil {
		return fault("see the server's log", "the history of the server's timeline cannot be had: %s", err)
	}
	held, err := w.held(ctx)
	if err != nil {
		return storeFault("read", err)
	}
	if err := segment.CheckBranch(history, w.server.SegmentSize, held); err != nil {
		if !w.o.AcceptBranch {
			return fault("connect to the server that the archive is of, or use another --archive; --accept-branch follows this one all the same", "%s", err)
		}
		return warning("take --accept-branch away once it is followed", "%s; --accept-branch follows it all the same", err)
	}
	if lines := w.serverBehind(ctx, held); lines != nil {
		return lines
	}
	next, any := segment.Resume(history, w.server.SegmentSize, held)
	switch {
	case !any:
		return ok("the archive holds no WAL yet")
	case w.slotUser && w.slot.User.PID == 0 && w.slot.RestartLSN >= next.LSN+segment.LSN(w.server.SegmentSize):
		return warning("start the receiver with the directory that it had; if that is lost, streaming goes on if the server still has the WAL",
			"the archive ends in the segment at %s, and the slot holds WAL back from %s on: what is between is in the receiver's directory, or on the server by chance", next, w.slot.RestartLSN)
	}
	return ok("the server's WAL continues what the archive holds, at the segment at %s", next)
}

// history is that of the server's timeline.
func (w *world) history(ctx context.Context) (segment.History, error) {
	t := w.server.Timeline
	_, content, err := receiver.TimelineHistory(ctx, w.conn, t)
	if err != nil && (t != 1 || !errors.Is(err, fs.ErrNotExist)) {
		return segment.History{}, err
	}
	return segment.ParseHistory(t, content)
}

// held is what the archive holds, as a receiver sees it.
func (w *world) held(ctx context.Context) (segment.Held, error) {
	held := segment.NewHeld()
	for name := range w.listing.Segments() {
		held.AddArchived(name, w.server.SegmentSize)
	}
	for _, t := range w.listing.Histories() {
		held.AddHistory(t)
	}
	var err error
	held.Gaps, err = w.archive.Gaps(ctx)
	return held, err
}

// serverBehind is for a server that ends before what is archived.
func (w *world) serverBehind(ctx context.Context, held segment.Held) []Line {
	end := held.EndOn(w.server.Timeline, w.server.SegmentSize)
	if end > w.server.End { // it has written meanwhile, and a receiver has archived
		if now, err := receiver.Identify(ctx, w.conn); err == nil {
			w.server = now
		}
	}
	switch {
	case w.server.InRecovery && (end > w.server.End || w.server.Timeline < held.Newest):
		return warning("wait until it has caught up; a receiver does", "the standby is at %s, and the archive is further", w.position(w.server.End))
	case end > w.server.End:
		return fault("connect to the server that the archive is of; one that was put back to an older state needs an archive of its own",
			"the server ends at %s, and the archive holds WAL up to %s", w.position(w.server.End), end)
	}
	return nil
}
