package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"time"

	"github.com/walrecv/walrecv/internal/pgdata"
	"github.com/walrecv/walrecv/internal/prefetch"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
)

const (
	// helperIdle is how long a helper stays of which nothing new is asked, and from which
	// nothing is to be had.
	helperIdle = 30 * time.Second

	// helperLook is how often it looks whether its server is still there, and at most
	// whether there is something where nothing was.
	helperLook = time.Second

	// helperEnd is how long it waits for what it has begun, which it cannot stop when a
	// disk does not answer.
	helperEnd = 5 * time.Second

	// maxAheadBytes bounds what is staged, however large the segments are.
	maxAheadBytes = 1 << 30

	// helperMemory is what the helper uses for reading segments. What does not fit in
	// waits, so that it can do with 64 MB in all.
	helperMemory = 28 << 20

	// roomFor is how often what is to be staged must fit on the disk: WAL that waits
	// must not take the room of the server's own.
	roomFor = 2
)

// Why a helper ends.
var (
	errIdle     = errors.New("nothing was asked for a while")
	errServer   = errors.New("the server is gone")
	errLost     = errors.New("the directory for prefetched segments is gone")
	errAdopted  = errors.New("the server would have to reap this process")
	errNoServer = errors.New("no server runs on the data directory")
)

// Help is the helper of the calls for one data directory: it fetches the segments that
// the server will ask for next, from the one that o names on, until nobody needs it any
// more. parent gives the number of the process that has become the parent of this one
// once the call that started it has ended. What is to be known of it is in a log in the
// directory, o.Logger is not used.
//
// It asks nothing of the places unless a new segment was asked for.
func Help(ctx context.Context, o Options, parent <-chan int) error {
	o.Logger = slog.New(slog.DiscardHandler)
	h, err := newHelper(o)
	if err != nil {
		return err
	}
	if err := h.dir.Make(); err != nil {
		return err
	}
	lock, err := o.FS.Lock(h.dir.Path)
	if errors.Is(err, vfs.ErrLocked) {
		return nil // there is one
	}
	if err != nil {
		return err
	}
	defer lock.Close() // nothing to lose by then
	h.dir.Reset()      // what another one left when it was killed
	h.log = slog.New(slog.NewTextHandler(h.dir.Logger(), nil))
	return h.run(ctx, parent)
}

// helper is one run of Help. Everything but fetching is done by one goroutine.
type helper struct {
	*ahead
	server pgdata.Postmaster
	log    *slog.Logger

	places  []*helperPlace
	fetcher *fetcher // nil: no place is open yet
	memory  *memory
	backoff backoff // since a fetch failed
	wait    time.Time
	failed  bool // one has, since a segment was asked for

	line    string // what was asked for, as it was said
	asked   segment.Name
	before  segment.Name // asked for before that
	again   segment.Name // staged although it was asked for, see ended
	way     segment.History
	wayRead time.Time // zero: there may be other histories now

	staged map[uint64]segment.Name // by number
	flying map[uint64]*fetching    // on their way

	running int         // how much is done besides
	done    chan func() // what is to be done after it
	left    chan struct{}

	end      uint64    // the lowest number of which nothing was there; 0: none is known
	endAsked time.Time // when the places were asked for that
}

// helperPlace is a place that the helper opens.
type helperPlace struct {
	*openPlace
	open, opening bool
	backoff       backoff // since that failed
	wait          time.Time
}

// fetching is a fetch.
type fetching struct {
	cancel  context.CancelFunc
	stopped bool // nobody wants it any more
}

func (f *fetching) stop() {
	f.stopped = true
	f.cancel()
}

// fetched is what came of one fetch.
type fetched struct {
	number uint64
	name   segment.Name
	err    error // fs.ErrNotExist: there is none
}

func newHelper(o Options) (*helper, error) {
	c, err := newCall(o)
	if err == nil {
		err = c.learnSystem()
	}
	if err != nil {
		return nil, err
	}
	p := c.prefetching()
	if p == nil {
		return nil, errors.New("this call prefetches nothing")
	}
	h := &helper{
		ahead: p, server: c.dir.Postmaster(),
		staged: map[uint64]segment.Name{}, flying: map[uint64]*fetching{},
		done: make(chan func()), left: make(chan struct{}),
		memory: newMemory(helperMemory),
	}
	for _, place := range c.places {
		h.places = append(h.places, &helperPlace{openPlace: place})
	}
	if !h.serves() {
		return nil, errNoServer
	}
	return h, nil
}

// serves tells whether the server is still there that the helper was started for.
func (h *helper) serves() bool {
	d := &h.call.dir
	return h.server.PID > 1 && d.Postmaster() == h.server && !d.Stopping() && h.system.Alive(h.server.PID)
}

func (h *helper) run(ctx context.Context, parent <-chan int) error {
	bell, err := h.system.Listen(h.dir.Bell())
	if err != nil {
		h.log.Warn("nothing is prefetched, each segment is fetched when it is asked for: correct what the error says", "error", flatten(err))
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	err = h.listen(ctx, bell, parent)
	cancel(err)
	bell.Close() // before anything is removed: from now on nobody relies on it
	h.leave()
	if bell.Lost() {
		return errLost // whatever is there is another helper's
	}
	if !errors.Is(err, errIdle) && !errors.Is(err, errServer) && !errors.Is(err, context.Canceled) {
		h.log.Warn("prefetching has ended, until a segment is asked for again", "error", flatten(err))
	}
	h.dir.End()
	if errors.Is(err, errAdopted) {
		return errors.Join(err, h.dir.Make(), h.dir.SetCalls(h.server))
	}
	return err
}

// beside does something while the helper goes on, which then does what comes after it.
func (h *helper) beside(do func() (after func())) {
	h.running++
	go func() {
		after := do()
		select {
		case h.done <- after:
		case <-h.left:
		}
	}()
}

// leave waits for what is done besides, if that comes to its end.
func (h *helper) leave() {
	defer close(h.left)
	timer := time.NewTimer(helperEnd)
	defer timer.Stop()
	for ; h.running > 0; h.running-- {
		select {
		case <-h.done:
		case <-timer.C:
			return
		}
	}
}

// listen fetches what comes after what is asked for.
func (h *helper) listen(ctx context.Context, bell prefetch.Listener, parent <-chan int) (err error) {
	defer recovered(&err) // so that what is staged is removed
	look := time.NewTicker(helperLook)
	defer look.Stop()
	idle := time.NewTimer(helperIdle)
	defer idle.Stop()
	h.ask(ctx, h.call.req.file)
	for {
		select {
		case line := <-bell.Lines():
			if h.ask(ctx, line) {
				idle.Reset(helperIdle)
			}
		case after := <-h.done:
			h.running--
			if bell.Lost() {
				return errLost
			}
			after()
		case <-look.C:
			if bell.Lost() {
				return errLost
			}
			if !h.serves() {
				return errServer
			}
		case pid := <-parent:
			if pid == h.server.PID {
				return errAdopted
			}
			parent = nil
		case <-idle.C:
			// A replay may need longer than that for a segment, and would have all that
			// waits for it fetched again.
			if !h.waits() || !h.call.dir.Recovering() {
				return errIdle
			}
			idle.Reset(helperIdle)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// waits tells whether something is staged that was not asked for yet.
func (h *helper) waits() bool {
	for number := range h.staged {
		if number > h.asked.Number {
			return true
		}
	}
	return false
}

// ask takes in what a call was asked for, and tells whether that is news: a standby asks
// for its newest segment again and again.
func (h *helper) ask(ctx context.Context, line string) bool {
	if line == tellHistories {
		h.wayRead = time.Time{}
		return false
	}
	h.line = line
	h.open(ctx)
	if h.fetcher == nil {
		return false
	}
	n, err := segment.ParseName(line, h.fetcher.cluster.Size)
	if err != nil || n == h.asked {
		return false
	}
	if n.Number < h.asked.Number && n != h.again {
		h.empty() // of what was staged since, some was taken
	}
	h.before, h.asked = h.asked, n
	h.again, h.failed = segment.Name{}, false
	h.look()
	h.forget()
	if h.end == n.Number {
		h.ended(ctx)
	}
	if h.end != 0 && h.end < n.Number {
		// It came meanwhile, or in chunks: look for one more only.
		h.end, h.endAsked = n.Number+1, time.Time{}
	}
	h.fetch(ctx)
	return true
}

// ended is called where the asked segment is not there, complete. That is the end of a
// recovery, which asks for the segment before once more.
func (h *helper) ended(ctx context.Context) {
	if h.call.dir.Standby || h.before.Number+1 != h.asked.Number {
		return
	}
	h.again = h.before
	h.start(ctx, h.before.Number, []segment.Name{h.before})
}

// open opens the places. One that fails is tried again when something is asked for; the
// others do until then.
func (h *helper) open(ctx context.Context) {
	for _, p := range h.places {
		if p.open || p.opening || time.Now().Before(p.wait) {
			continue
		}
		p.opening = true
		// A call of its own, for what it learns of the cluster.
		c := &call{o: h.call.o, log: h.log, system: h.call.system}
		h.beside(func() func() {
			err := c.tryOpen(ctx, p.openPlace)
			return func() { h.opened(ctx, p, c.size, err) }
		})
	}
}

// tryOpen does not panic.
func (c *call) tryOpen(ctx context.Context, p *openPlace) (err error) {
	defer recovered(&err)
	_, err = c.source(&attempt{base: ctx, ctx: ctx, stall: stallQuick}, p)
	return err
}

// opened takes in what came of opening a place.
func (h *helper) opened(ctx context.Context, p *helperPlace, size segment.Size, err error) {
	p.opening = false
	if f := h.fetcher; err == nil && f != nil && f.cluster.Size != size {
		err = fmt.Errorf("it has segments of %s, the other place of %s", size, f.cluster.Size)
	}
	if err != nil {
		if p.backoff == (backoff{}) {
			h.log.Warn("nothing is prefetched from a place, and it is tried again", "place", p.String(), "error", flatten(err))
		}
		p.wait = time.Now().Add(p.backoff.next())
		return
	}
	p.open = true
	c, first := h.call, h.fetcher == nil
	h.fetcher = &fetcher{
		o: c.o, data: c.dir, staging: h.dir,
		cluster: segment.Identity{SystemID: c.system, Size: size},
		memory:  h.memory,
	}
	for _, p := range h.places {
		if p.open {
			h.fetcher.places = append(h.fetcher.places, p.openPlace)
		}
	}
	if first {
		h.ask(ctx, h.line)
		return
	}
	h.end = 0
	h.fetch(ctx)
}

// trouble notes that a fetch failed: nothing more is fetched until something is asked
// for, and not at once then.
func (h *helper) trouble(err error) {
	if h.backoff == (backoff{}) {
		h.log.Warn("prefetching has stopped, until a segment is asked for again", "error", flatten(err))
	}
	h.failed, h.wait = true, time.Now().Add(h.backoff.next())
}

// well notes that something was fetched.
func (h *helper) well() {
	if h.backoff != (backoff{}) {
		h.log.Info("prefetching goes on")
	}
	h.backoff, h.wait = backoff{}, time.Time{}
}

// last is the number of the last segment that is fetched.
func (h *helper) last() uint64 {
	return h.asked.Number + h.window(h.fetcher.cluster.Size)
}

// wanted tells whether a segment may still be asked for.
func (h *helper) wanted(n segment.Name) bool {
	return n == h.again || n.Number >= h.asked.Number && n.Number <= h.last() &&
		slices.Contains(h.candidates(n.Number), n)
}

func (h *helper) candidates(number uint64) []segment.Name {
	return candidates(h.way, h.asked.Timeline, number, h.fetcher.cluster.Size)
}

// forget removes what the server has passed, and what is not on its way any more.
func (h *helper) forget() {
	for _, n := range h.staged {
		if !h.wanted(n) {
			h.drop(n)
		}
	}
	for number, f := range h.flying {
		if number < h.asked.Number || number > h.last() {
			f.stop()
		}
	}
}

// look reads the histories in pg_wal again, if there may be others.
func (h *helper) look() {
	if time.Since(h.wayRead) < helperLook && h.way.Contains(h.asked.Timeline) {
		return
	}
	local, _ := h.call.dir.Histories(h.asked.Timeline) // the call itself says what is wrong
	before := h.way.Timeline
	h.way, h.wayRead = way(h.asked.Timeline, local), time.Now()
	if h.way.Timeline != before {
		h.turn()
	}
}

// turn removes what is not the server's first choice on another way: it was not looked
// for.
func (h *helper) turn() {
	for number, n := range h.staged {
		if first := h.candidates(number); len(first) == 0 || first[0] != n {
			h.drop(n)
		}
	}
	for _, f := range h.flying {
		f.stop()
	}
}

// empty removes all that is staged.
func (h *helper) empty() {
	for _, n := range h.staged {
		h.drop(n)
	}
}

func (h *helper) drop(n segment.Name) {
	h.dir.Drop(n.Format(h.fetcher.cluster.Size))
	delete(h.staged, n.Number)
}

// fetch begins to fetch what comes next and is neither here nor on its way.
func (h *helper) fetch(ctx context.Context) {
	if h.failed || time.Now().Before(h.wait) {
		return
	}
	for number := h.asked.Number + 1; number <= h.last(); number++ {
		if h.end != 0 && (number > h.end || number == h.end && time.Since(h.endAsked) < helperLook) {
			return
		}
		_, here := h.staged[number]
		if _, flies := h.flying[number]; here || flies {
			continue
		}
		if err := h.room(h.last()-h.asked.Number, h.fetcher.cluster.Size); err != nil {
			h.trouble(err)
			return
		}
		h.start(ctx, number, h.candidates(number))
	}
}

// start fetches the first of some segments with a number.
func (h *helper) start(ctx context.Context, number uint64, names []segment.Name) {
	if _, flies := h.flying[number]; flies {
		return
	}
	fetch, cancel := context.WithCancel(ctx)
	h.flying[number] = &fetching{cancel: cancel}
	f := h.fetcher
	h.beside(func() func() {
		r := fetched{number: number}
		r.name, r.err = f.first(fetch, names)
		return func() { h.arrived(ctx, r) }
	})
}

// arrived takes in what came of a fetch.
func (h *helper) arrived(ctx context.Context, r fetched) {
	f := h.flying[r.number]
	f.cancel()
	delete(h.flying, r.number)
	switch {
	case f.stopped && r.err != nil:
	case r.err == nil && !f.stopped && h.wanted(r.name):
		h.staged[r.number] = r.name
		h.well()
		if r.number == h.end {
			h.end = 0
		}
	case r.err == nil:
		h.drop(r.name)
	case errors.Is(r.err, fs.ErrNotExist) && r.number == h.asked.Number:
		h.ended(ctx)
	case errors.Is(r.err, fs.ErrNotExist):
		if r.number > h.asked.Number && (h.end == 0 || r.number <= h.end) {
			h.end, h.endAsked = r.number, time.Now()
		}
	default:
		h.trouble(r.err)
	}
	h.fetch(ctx)
}
