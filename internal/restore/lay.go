package restore

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"

	"github.com/walrecv/walrecv/internal/pgdata"
	"github.com/walrecv/walrecv/segment"
)

// layers is how many segments are fetched at a time.
const layers = 8

// Route is the WAL that a server needs to come from a base backup to the end of
// what there is.
type Route struct {
	Cluster segment.Identity
	History segment.History // of the timeline to go along
	From    segment.LSN     // where the backup's WAL begins
}

// Laid is what [Lay] has put into pg_wal.
type Laid struct {
	Segments int
	First    string // file name of the first segment, and of the last one
	Last     string
	// Resume is where the last segment begins: the furthest position from which the
	// server may ask its primary for WAL, and from which that must still have it.
	Resume segment.LSN
}

// Lay puts all WAL of a route into pg_wal of a data directory whose server does not
// run, for a server that has no restore_command: what a restore_command would have
// given it, the histories first and the newest, unfinished segment padded with
// zeros. Of a segment with a fork it is the newest timeline's copy, and the
// ancestor's only up to the fork, where there is nothing newer yet.
//
// o.SystemID, File, Path and WorkDir do not matter. Files belong to who o.FS gives them to. On
// nil all of it is durable. What cannot be found out is tried again for o.RetryFor;
// that, damage and holes are errors, and what was laid stays. A route without a
// single segment is an error, too.
func Lay(ctx context.Context, o Options, dataDir string, route Route) (Laid, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	l := &layer{o: o, dir: pgdata.Dir{FS: o.FS, Path: dataDir, Found: true}, cluster: route.Cluster}
	if err := l.histories(ctx, route.History); err != nil {
		return Laid{}, err
	}
	if err := l.segments(ctx, route); err != nil {
		return Laid{}, err
	}
	if len(l.names) == 0 {
		return Laid{}, fmt.Errorf("lay WAL: there is none from %s on, timeline %d", route.From, uint32(route.History.TimelineAt(route.From)))
	}
	if err := l.sync(); err != nil {
		return Laid{}, fmt.Errorf("lay WAL: %w", err)
	}
	size := l.cluster.Size
	last := l.names[len(l.names)-1]
	return Laid{
		Segments: len(l.names), First: l.names[0].Format(size), Last: last.Format(size), Resume: last.Start(size),
	}, nil
}

// layer is one call of Lay.
type layer struct {
	o       Options
	dir     pgdata.Dir
	cluster segment.Identity
	calls   [layers]*call  // kept, for what they know of the places
	names   []segment.Name // laid, in order
	files   []string       // all of them, histories too
}

// get asks for one file as a recovering server would, in the i-th of several calls
// at a time.
func (l *layer) get(ctx context.Context, i int, file string) (bool, error) {
	req, err := parseRequest(file)
	if err != nil {
		return false, err
	}
	c := l.calls[i]
	if c == nil {
		c = &call{o: l.o, dir: l.dir, places: places(&l.o), system: l.cluster.SystemID, size: l.cluster.Size}
		l.calls[i] = c
	}
	c.whole = false
	c.req, c.target, c.log = req, l.dir.WAL(file), l.o.Logger.With("file", file)
	f := c.insist(ctx)
	if f.verdict == delivered || f.verdict == absent {
		return f.verdict == delivered, nil
	}
	return false, fmt.Errorf("lay %s: %w", file, f.err)
}

// histories lays the histories of a timeline, which has all of its ancestors' in it and
// says where the segments of these end, and of the ancestors as far as they are there.
func (l *layer) histories(ctx context.Context, h segment.History) error {
	for _, t := range append([]segment.TimelineID{h.Timeline}, ancestors(h)...) {
		if t == 1 {
			continue // it has none
		}
		file := segment.HistoryName(t)
		there, err := l.get(ctx, 0, file)
		if err == nil && !there && t == h.Timeline {
			err = fmt.Errorf("lay %s: it is not there", file)
		}
		if err != nil {
			return err
		}
		if there {
			l.files = append(l.files, file)
		}
	}
	return nil
}

func ancestors(h segment.History) []segment.TimelineID {
	var all []segment.TimelineID
	for _, e := range h.Entries {
		all = append(all, e.Timeline)
	}
	return all
}

// segments lays segments until one is not there, or not whole; several at a time.
func (l *layer) segments(ctx context.Context, route Route) error {
	for number := l.cluster.Size.Number(route.From); ; number += layers {
		var found [layers]copied
		var errs [layers]error
		var all sync.WaitGroup
		for i := range layers {
			all.Go(func() { found[i], errs[i] = l.segment(ctx, i, route.History, number+uint64(i)) })
		}
		all.Wait()
		if i := slices.IndexFunc(errs[:], func(err error) bool { return err != nil }); i >= 0 {
			return errs[i]
		}
		for i, f := range found {
			if f.there {
				l.names = append(l.names, f.name)
				l.files = append(l.files, f.name.Format(l.cluster.Size))
			}
			if !f.whole {
				return l.remove(found[i+1:])
			}
		}
	}
}

// copied is a segment that was laid, perhaps.
type copied struct {
	name  segment.Name
	there bool
	whole bool // to its end, so that the next one goes on from it
}

// segment lays the segment with a number, in the copy of the newest timeline that has
// it.
func (l *layer) segment(ctx context.Context, i int, h segment.History, number uint64) (copied, error) {
	for _, t := range slices.Backward(h.Segment(number, l.cluster.Size)) {
		n := segment.Name{Timeline: t, Number: number}
		there, err := l.get(ctx, i, n.Format(l.cluster.Size))
		if there || err != nil {
			return copied{n, there, l.calls[i].whole}, err
		}
	}
	return copied{}, nil
}

// remove takes away what was laid behind the end: what came into the archive after
// the segments before it had been looked for. The server could not use it.
func (l *layer) remove(beyond []copied) error {
	for _, f := range beyond {
		if !f.there {
			continue
		}
		if err := l.o.FS.Remove(l.dir.WAL(f.name.Format(l.cluster.Size))); err != nil {
			return fmt.Errorf("lay WAL: %w", err)
		}
	}
	return nil
}

// sync makes everything durable. For a restore_command the server does.
func (l *layer) sync() error {
	for _, file := range l.files {
		f, err := l.o.FS.OpenWrite(l.dir.WAL(file))
		if err != nil {
			return err
		}
		err = f.Sync()
		f.Close() // what counts is synced
		if err != nil {
			return err
		}
	}
	return l.o.FS.SyncDir(filepath.Dir(l.dir.WAL("x")))
}
