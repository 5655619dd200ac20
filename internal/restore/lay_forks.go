package restore

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/walrecv/walrecv/internal/pgdata"
	"github.com/walrecv/walrecv/segment"
)

// LayForks puts the ancestors' copies of the segments with the forks of a route into
// pg_wal, each up to its fork, with the histories that say where that is. A recovery over
// a fork replays the child's copy and never asks for the other one; but for a transaction
// that was prepared in that segment and is not finished at the fork it looks into the
// ancestor's, in pg_wal only, and ends with "requested WAL segment ... has already been
// removed" if it is not there. What the archive does not have is left out.
//
// Options, durability and errors are as with [Lay].
func LayForks(ctx context.Context, o Options, dataDir string, route Route) error {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	names := forked(route)
	if len(names) == 0 {
		return nil
	}
	l := &layer{o: o, dir: pgdata.Dir{FS: o.FS, Path: dataDir, Found: true}, cluster: route.Cluster}
	if err := l.histories(ctx, route.History); err != nil {
		return err
	}
	for _, n := range names {
		file := n.Format(route.Cluster.Size)
		there, err := l.get(ctx, 0, file)
		if err != nil {
			return err
		}
		if there {
			l.files = append(l.files, file)
		}
	}
	if err := l.sync(); err != nil {
		return fmt.Errorf("lay WAL: %w", err)
	}
	return nil
}

// forked are the ancestors' segments that end in a fork, of those that a route needs.
func forked(route Route) (names []segment.Name) {
	size := route.Cluster.Size
	begin := segment.LSN(0)
	for _, e := range route.History.Entries {
		if e.End > route.From && e.End > begin && size.Offset(e.End) > 0 {
			names = append(names, segment.Name{Timeline: e.Timeline, Number: size.Number(e.End)})
		}
		begin = e.End
	}
	return names
}
