package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/walrecv/walrecv/internal/pgdata"
	"github.com/walrecv/walrecv/internal/prefetch"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
)

const (
	// flightStall is how long a call waits for a segment that is on its way to it while
	// nothing of it comes. Then it fetches the segment itself.
	flightStall = 2 * time.Second

	// flightQuick is the same where the call should not wait.
	flightQuick = flightStall / 4

	// flightSync is the same for a segment that is there and is synced, by a disk that
	// may have much to do.
	flightSync = 15 * time.Second

	// lifeSign is how often what comes shows, if it does not by itself.
	lifeSign = flightQuick / 10

	// flightLook is how often it looks.
	flightLook = 2 * time.Millisecond
)

// tellHistories is what a call for a history file says to the helper: there may be
// other histories in pg_wal now.
const tellHistories = "histories"

// ahead is what a call has to do with prefetching.
type ahead struct {
	call   *call
	dir    *prefetch.Dir
	system prefetch.System
	helped bool // there is a helper, and it knows what was asked for
	begun  bool // the helper was started, or what takes its place
	beside *beside
}

// prefetching is nil for a call that has nothing to do with prefetching: by hand, by
// pg_rewind, which asks for a segment under its own name, or on a standby of which
// something is noted, since then the note decides what it may have. The cluster must be
// known.
func (c *call) prefetching() *ahead {
	base := filepath.Base(c.target)
	if c.o.Prefetch.Ahead == 0 || c.o.PrefetchDir == nil || !c.dir.Found || c.system == 0 ||
		base != "RECOVERYXLOG" && base != "RECOVERYHISTORY" || !c.note.empty() {
		return nil
	}
	parent, err := c.o.PrefetchDir(c.dir.WAL(""))
	if err != nil {
		c.log.Debug("nothing is prefetched", "error", err)
		return nil
	}
	p := &ahead{call: c, dir: c.o.stagingDir(parent, c.dir.Path, c.system), system: c.o.Prefetch.System}
	if p.system == nil {
		p.system = prefetch.OS()
	}
	return p
}

// stagingDir is where the segments for a data directory wait.
func (o *Options) stagingDir(parent, dataDir string, system uint64) *prefetch.Dir {
	return prefetch.For(o.FS, parent, system, dataDir, o.Archive.Location, o.Spool.Location)
}

// tell says to the helper what was asked for, if there is one.
func (p *ahead) tell(line string) {
	if p != nil {
		p.helped = p.system.Ring(p.dir.Bell(), line)
	}
}

// begin has what comes behind segment n fetched, which st is about to bring, if nobody
// does that yet: by a helper, or by this call. What comes of it never is an
// answer.
func (p *ahead) begin(ctx context.Context, n segment.Name, st *stream) {
	if p == nil || p.helped || p.begun {
		return
	}
	p.begun = true
	if err := p.beginAs(ctx, n, st, p.call.dir.Postmaster()); err != nil {
		p.call.log.Debug("nothing is prefetched", "error", err)
	}
}

// prepare has a helper ready when the server asks for its first segment, which it does
// after it has asked for histories: starting, and finding out whose archive it is, take
// as long as a few segments from far away.
func (p *ahead) prepare() {
	if p == nil || p.helped || p.begun || !p.call.dir.Beginning() ||
		!slices.ContainsFunc(p.call.places, func(place *openPlace) bool { return place.Far }) {
		return
	}
	p.begun = true
	if err := p.prepareFor(p.call.dir.Postmaster()); err != nil {
		p.call.log.Debug("nothing is prefetched", "error", err)
	}
}

func (p *ahead) prepareFor(server pgdata.Postmaster) (err error) {
	defer recovered(&err)
	if p.call.o.Prefetch.Start == nil || server.PID <= firstProcess || !p.system.Alive(server.PID) || p.dir.ByCalls(server) {
		return nil
	}
	if err := p.dir.Make(); err != nil || p.dir.Busy() {
		return err
	}
	return p.call.o.Prefetch.Start()
}

// The first process of a container reaps whatever loses its parent, and a server takes
// that for one of its own.
const firstProcess = 1

func (p *ahead) beginAs(ctx context.Context, n segment.Name, st *stream, server pgdata.Postmaster) (err error) {
	defer recovered(&err)
	o := &p.call.o.Prefetch
	byCalls := p.dir.ByCalls(server)
	if server.PID < firstProcess || !p.system.Alive(server.PID) || !byCalls && o.Start == nil {
		return nil
	}
	if err := p.dir.Make(); err != nil || p.dir.Busy() {
		return err
	}
	switch {
	case !byCalls && server.PID != firstProcess:
		return o.Start()
	case !byCalls:
		p.dir.Reset()
		if err := p.dir.SetCalls(server); err != nil {
			return err
		}
	}
	p.dir.Clear() // of calls that were killed
	if !p.call.dir.Promoting() {
		p.beside, err = p.fetchBeside(ctx, n, st)
	}
	return err
}

// window is how many segments may wait, however large they are.
func (p *ahead) window(size segment.Size) uint64 {
	return uint64(min(int64(p.call.o.Prefetch.Ahead), max(1, maxAheadBytes/int64(size))))
}

// room finds out whether the disk has room for so many segments.
func (p *ahead) room(segments uint64, size segment.Size) error {
	free, err := p.system.Free(p.dir.Path)
	need := roomFor * int64(segments) * int64(size)
	if err == nil && free < need {
		err = fmt.Errorf("%s has %d MiB left, and %d are wanted", p.dir.Path, free>>20, need>>20)
	}
	return err
}

// end ends what the call itself fetches.
func (p *ahead) end(delivered bool) {
	if p != nil && p.beside != nil {
		p.beside.end(delivered)
		p.beside = nil
	}
}

// missed tells whether there is a helper that has not found what was asked for.
func (p *ahead) missed() bool { return p != nil && p.helped }

// sweep removes what calls have staged and nobody has asked for: histories are asked for
// where there are no more segments.
func (p *ahead) sweep() {
	if p != nil && !p.helped && p.dir.ByCalls(p.call.dir.Postmaster()) {
		p.dir.Sweep()
	}
}

// deliver delivers the asked segment if it is there, or on its way. done says that
// there is nothing more to look for. Places are not asked: only complete segments are
// staged, each after all checks, and of these an archive has one only.
func (p *ahead) deliver(a *attempt) (f finding, done bool) {
	if p == nil {
		return finding{}, false
	}
	file := p.call.req.file
	if !p.helped && !p.dir.ByCalls(p.call.dir.Postmaster()) {
		return finding{}, false
	}
	for w := (flight{ahead: p, file: file, begun: time.Now()}); ; {
		staged, err := p.call.o.FS.OpenWrite(p.dir.Segment(file))
		if err == nil {
			return p.hand(a, staged)
		}
		if !p.helped || !w.goesOn(a) {
			return finding{}, false
		}
	}
}

// hand gives PostgreSQL a staged segment, up to where the server leaves its timeline.
// A file that is not what it should be is no answer.
func (p *ahead) hand(a *attempt, staged vfs.File) (f finding, done bool) {
	defer staged.Close() // it was only read
	c := p.call
	length, err := staged.Size()
	var page [pageHeader]byte
	if err == nil {
		_, err = staged.ReadAt(page[:], 0)
	}
	size := segment.Size(length)
	if err != nil || size.Valid() != nil || c.size != 0 && c.size != size {
		return finding{}, false
	}
	n, err := segment.ParseName(c.req.file, size)
	if err != nil || segment.CheckFirstPage(page[:], n, segment.Identity{SystemID: c.system, Size: size}) != nil {
		return finding{}, false
	}
	c.size = size
	limit, f := c.leaves(a, n)
	switch {
	case f.err != nil:
		return f, true
	case limit <= n.Start(size):
		return finding{verdict: absent}, true
	}
	cut := int64(min(limit, n.End(size)) - n.Start(size))
	if err := p.pass(staged, cut); err != nil {
		if !errors.Is(err, fs.ErrNotExist) { // the helper has ended, and taken it along
			c.log.Warn("a prefetched segment cannot be used; it is fetched now", "error", err)
		}
		return finding{}, false
	}
	c.passed(n, cut)
	return finding{verdict: delivered}, true
}

// pass renames the file, or copies its first cut bytes where they are not all of it,
// and where it is on another file system. It is not blanked where it lies: a call that
// is killed would leave a segment with a hole.
func (p *ahead) pass(staged vfs.File, cut int64) error {
	c := p.call
	name := p.dir.Segment(c.req.file)
	if cut == int64(c.size) {
		err := vfs.Move(c.o.FS, nil, name, c.target)
		if !errors.Is(err, syscall.EXDEV) {
			return err
		}
	}
	s, err := c.stage(0, int64(c.size), name)
	if err != nil {
		return err
	}
	if _, err := s.fill(io.NewSectionReader(staged, 0, cut), cut); err != io.EOF {
		s.discard()
		return err
	}
	if err := s.deliver(c.target); err != nil {
		return err
	}
	p.dir.Drop(c.req.file)
	return nil
}

// flight watches a segment on its way.
type flight struct {
	ahead *ahead
	file  string
	seen  map[string]prefetch.Flight // what was on its way when something came last
	begun time.Time
	since time.Time // when something came last
	moved bool      // something came since the watch began
}

// stall is how long nothing of a segment needs to come, so that there is time left to
// fetch it.
func (w *flight) stall(a *attempt, f prefetch.Flight) time.Duration {
	deadline, waits := a.ctx.Deadline()
	left := deadline.Sub(w.begun) / 2
	switch {
	case !waits:
		return flightQuick
	case f.Syncing:
		return min(flightSync, left)
	}
	return min(flightStall, left)
}

// goesOn waits a moment, and tells whether to look for the segment again. Once something
// of it has come, only the end of the call ends the waiting, as with a transfer of its
// own.
func (w *flight) goesOn(a *attempt) bool {
	now := w.ahead.dir.Flying()
	f, flying := now[w.file]
	before, was := w.seen[w.file]
	switch {
	case !flying:
		// It has arrived, or will not; also if it did between the two first looks.
		first := w.seen == nil
		w.seen = now
		return first || was
	case !was || f != before:
		w.moved = w.moved || was
		w.seen, w.since = now, time.Now()
	case time.Since(w.since) >= w.stall(a, f):
		if time.Since(w.since) >= flightStall {
			w.giveUp(now)
		}
		return false
	}
	ctx := a.ctx
	if w.moved {
		ctx = a.base
	}
	return pause(ctx, flightLook)
}

// giveUp takes away what does not come, so that no call waits for it any more, if the
// helper hangs. While anything comes, it is the asked segment alone that does not, and
// what the next calls need stays.
func (w *flight) giveUp(now map[string]prefetch.Flight) {
	for file, f := range now {
		if f.Syncing || f != w.seen[file] {
			return
		}
	}
	for _, f := range now {
		w.ahead.dir.GiveUp(f)
	}
}
