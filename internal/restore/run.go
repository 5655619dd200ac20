package restore

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/walrecv/walrecv/internal/pgdata"
	"github.com/walrecv/walrecv/segment"
)

// Run is one call of restore_command. It returns one of the codes of this
// package, also when it panics. It ends within Options.RetryFor and a moment,
// unless a file is being transferred and goes on coming; no place can hold it
// longer. A goroutine that a place does not let go stays behind.
//
// Only one call for a target, and one for a data directory, may run at a time,
// which is what PostgreSQL does.
func Run(ctx context.Context, o Options) (answer Answer) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	defer func() {
		if r := recover(); r != nil {
			o.Logger.Error("restore has panicked", "file", o.File, "panic", r, "stack", string(debug.Stack()))
			answer = Answer{CodeUnknown, oneLine(o.File, fmt.Errorf("internal error: %v", r))}
		}
	}()
	c, err := newCall(o)
	if err != nil {
		return decide(o.File, judge(err))
	}
	return c.run(ctx)
}

// call is one call of restore_command.
type call struct {
	o      Options
	log    *slog.Logger
	req    request
	target string
	dir    pgdata.Dir
	places []*openPlace
	note   *note // nil but on a standby
	ahead  *ahead

	system uint64       // of the cluster; 0 while nobody knows
	size   segment.Size // of its segments; 0 while nobody knows
	whole  bool         // what was delivered is a segment to its last byte
}

func newCall(o Options) (*call, error) {
	if err := o.check(); err != nil {
		return nil, &problem{misconfigured, err}
	}
	req, err := parseRequest(o.File)
	if err != nil {
		return nil, err
	}
	target := o.target()
	if o.Keys != nil {
		o.Keys = sync.OnceValues(o.Keys)
	}
	dir, err := pgdata.Find(o.FS, target, o.WorkDir)
	if err != nil {
		return nil, err
	}
	return &call{
		o: o, log: o.Logger.With("file", o.File), req: req, target: target, dir: dir,
		places: places(&o), system: o.SystemID,
	}, nil
}

func (c *call) run(ctx context.Context) Answer {
	if c.req.history == 1 {
		// Timeline 1 has no ancestors and so no history.
		return decide(c.req.file, finding{verdict: absent})
	}
	if c.dir.Standby {
		return c.onStandby(ctx)
	}
	return c.inRecovery(ctx)
}

// inRecovery is a call of a server that recovers to a target or to the end: what
// cannot be found out ends the recovery, loudly.
func (c *call) inRecovery(ctx context.Context) Answer {
	return decide(c.req.file, c.insist(ctx))
}

// insist looks for as long as a recovery does.
func (c *call) insist(ctx context.Context) finding {
	retry := c.o.retryFor(false)
	p := patience{until: time.Now().Add(retry), stall: min(retry, stallRecovery)}
	f := c.try(ctx, p)
	if f.verdict == unknown {
		f.err = fmt.Errorf("no answer within %s: %w", retry, f.err)
	}
	return f
}

// try looks until the answer is known, or the patience is over.
func (c *call) try(ctx context.Context, p patience) finding {
	wait, stop := c.limit(ctx, p)
	defer stop()
	begin := time.Now()
	var b backoff
	var before finding
	for tries := 1; ; tries++ {
		f := c.look(&attempt{base: ctx, ctx: wait, stall: p.stall})
		if f.verdict == unknown && wait.Err() != nil && tries > 1 {
			return before // what the time did not suffice for tells nothing new
		}
		if p.until.IsZero() || c.final(f, tries, time.Since(begin)) {
			return f
		}
		if tries == 2 && f.verdict == unknown && !c.dir.Standby {
			c.log.Warn("not known yet, trying again", "reason", flatten(f.err), "until", p.until)
		}
		if !pause(wait, b.next()) {
			return f
		}
		before = f
	}
}

// limit is the context of the waiting: until the patience is over, and on a
// standby until it is to be promoted.
func (c *call) limit(ctx context.Context, p patience) (context.Context, context.CancelFunc) {
	if p.until.IsZero() {
		return context.WithCancel(ctx)
	}
	wait, cancel := context.WithDeadlineCause(ctx, p.until, errOver)
	if !c.dir.Standby {
		return wait, cancel
	}
	wait, promote := context.WithCancelCause(wait)
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		for pause(wait, watchEvery) {
			if c.dir.Promoting() {
				promote(errPromote)
			}
		}
	}()
	return wait, func() {
		cancel()
		<-watching
	}
}

// pause waits for a while; false says that ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// final tells whether another try could not make the answer better.
func (c *call) final(f finding, tries int, since time.Duration) bool {
	switch f.verdict {
	case delivered, absent, misconfigured, withheld:
		return true
	}
	if c.dir.Standby {
		return false
	}
	switch f.verdict {
	case noIdentity, locked:
		return true
	case damaged:
		return tries > 1
	case hole:
		return since >= settle
	}
	return false
}

// look is one try.
func (c *call) look(a *attempt) finding {
	defer c.forget()
	c.sweep()
	if err := c.learnSystem(); err != nil {
		return judge(err)
	}
	if c.req.history != 0 {
		return c.lookHistory(a)
	}
	return c.lookSegment(a)
}

// learnSystem finds out which cluster the data directory is of.
func (c *call) learnSystem() error {
	id, err := c.dir.SystemID()
	if err != nil || id == 0 {
		return err
	}
	if c.system != 0 && c.system != id {
		return problemf(misconfigured, "the data directory %s is of the cluster with system identifier %d, not of %d", c.dir.Path, id, c.system)
	}
	c.system = id
	return nil
}
