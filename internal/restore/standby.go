package restore

import (
	"context"
	"errors"
	"time"

	"github.com/walrecv/walrecv/internal/pgdata"
	"github.com/walrecv/walrecv/segment"
)

// fullWaitEvery is how often a call waits as long as it may although others have
// waited in vain: a store that answers, but slowly, must not stay unused.
const fullWaitEvery = time.Minute

// tellEvery is how often the operator is told of the same trouble.
const tellEvery = 30 * time.Second

// errDown stands for the look that a call spared itself.
var errDown = errors.New("no answer a moment ago")

// onStandby is a call of a standby. While it lasts the server neither streams nor
// can it be promoted, and a code above 125 would end it. So what is unknown is 1
// after a short while, and leaves a note.
func (c *call) onStandby(ctx context.Context) Answer {
	c.note = readNote(&c.dir)
	now := time.Now()
	w := c.weigh(now)
	if w.down && (w.own || w.hurried) {
		return c.unanswered(finding{unknown, errDown}, w)
	}
	f := c.try(ctx, c.standbyPatience(w, now))
	switch f.verdict {
	case delivered, absent:
		c.settled(f, w)
	case misconfigured:
	default:
		return c.unanswered(f, w)
	}
	return decide(c.req.file, f)
}

// weights are what decides how long a standby's call may wait.
type weights struct {
	running pgdata.Postmaster
	own     bool // pg_wal has a copy, so a 1 cannot lead to an ancestor's
	hurried bool // a promotion is under way
	down    bool // the places gave no answer a moment ago
	recent  bool // this file was unknown a moment ago
	first   bool // it was not unknown before
	overdue bool // nobody has waited in full for a while
}

func (c *call) weigh(now time.Time) weights {
	n := c.note
	system, err := c.dir.SystemID()
	if err != nil || system == 0 {
		system = c.o.SystemID
	}
	own := hasCopy(&c.dir, c.req, system)
	w := weights{
		running: c.dir.Postmaster(),
		own:     own,
		hurried: c.dir.Promoting(),
		down:    n.down(now),
		recent:  n.recent(c.req.file, now),
		first:   !own && !n.has(c.req.file),
		overdue: !n.Failed.IsZero() && !fresh(n.Waited, now, fullWaitEvery),
	}
	if n.Promotion != (pgdata.Postmaster{}) && n.Promotion == w.running {
		w.hurried = true
	}
	return w
}

// waits tells whether a call waits as long as it may.
func (w weights) waits() bool {
	return !w.hurried && !w.down && !w.recent && (!w.own || w.overdue)
}

// standbyPatience is for one look only where a 1 does no harm or waiting does
// more.
func (c *call) standbyPatience(w weights, now time.Time) patience {
	retry := c.o.retryFor(true)
	switch {
	case !w.waits():
		return patience{stall: min(retry, stallQuick)}
	case w.own:
		return patience{stall: retry}
	}
	return patience{until: now.Add(retry), stall: retry}
}

// settled ends a call that has an answer: what was noted of the file is over.
func (c *call) settled(f finding, w weights) {
	c.note.answered()
	c.note.settle(c.req.file)
	if f.verdict == delivered && c.req.history == 0 {
		if n, err := segment.ParseName(c.req.file, c.size); err == nil {
			c.note.passed(n, c.size)
		}
	}
	if err := c.note.save(&c.dir, w.running); err != nil {
		// A note too many is only a reason to look once more.
		c.log.Warn("could not update the note of an outage: correct what the error says, or a promotion may have to wait for the archive", "error", err)
	}
}

// unanswered ends a call that has no answer.
func (c *call) unanswered(f finding, w weights) Answer {
	now := time.Now()
	switch {
	case errors.Is(f.err, errDown):
	case f.verdict == unknown || f.verdict == noIdentity:
		c.note.failed(now, w.waits())
	default:
		c.note.answered()
	}
	if c.dir.Promoting() && w.running != (pgdata.Postmaster{}) {
		c.note.Promotion, c.note.changed = w.running, true
	}
	if !w.own {
		c.note.add(c.req.file, now)
	}
	c.warn(f, w, now)
	if err := c.note.save(&c.dir, w.running); err != nil && !w.own {
		// Without a note the next answers could lead to the wrong branch.
		return decide(c.req.file, finding{unknown, errors.Join(f.err, err)})
	}
	return Answer{Code: CodeAbsent}
}

// warn tells the operator what PostgreSQL cannot be told, but not at every call:
// PostgreSQL makes several a second while it waits.
func (c *call) warn(f finding, w weights, now time.Time) {
	if errors.Is(f.err, errDown) || !w.first && fresh(c.note.Told, now, tellEvery) {
		return
	}
	c.note.Told, c.note.changed = now, true
	log := c.log.Warn
	if f.verdict != unknown && f.verdict != withheld {
		log = c.log.Error
	}
	log("the archive's answer is unknown; the server is told to use other sources",
		"reason", flatten(f.err), "own_copy", w.own)
}
