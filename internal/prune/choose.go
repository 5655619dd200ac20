package prune

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/backup"
	"github.com/walrecv/walrecv/segment"
)

// slack is how much the clocks of hosts may differ before it is told.
const slack = time.Hour

// facts are what a choice depends on.
type facts struct {
	size    segment.Size
	entries []backup.Entry
	broken  map[string]string // why a good base backup cannot be restored, by its ID
	current segment.History   // of the newest timeline
	newest  segment.LSN       // start of the newest segment on the way there; 0: there is none
	holes   []archive.Hole    // that nobody accepted

	newestName segment.Name // of the newest segment, the zero Name if there is none
}

// choice is what becomes of the base backups, and where the WAL begins that stays.
type choice struct {
	facts
	rule Rule
	now  time.Time

	verdicts map[string]*Verdict
	start    segment.LSN // segment.MaxLSN until something is known that needs WAL
	notes    []string
	problems []string
}

// choose applies a rule.
func choose(f facts, rule Rule, now time.Time) *choice {
	c := &choice{facts: f, rule: rule, now: now, verdicts: map[string]*Verdict{}, start: segment.MaxLSN}
	for _, e := range f.entries {
		c.verdicts[e.ID] = &Verdict{Entry: e}
	}
	good := c.good()
	c.keepGood(good)
	c.limit(good)
	c.judgeOthers()
	return c
}

// good lists the base backups that can be restored, newest first.
func (c *choice) good() (good []*backup.Backup) {
	for _, e := range c.entries {
		if e.State != backup.Good {
			continue
		}
		if why := c.broken[e.ID]; why != "" {
			c.problem("%s cannot be restored and does not count: %s", e.ID, why)
			continue
		}
		if e.Backup.Finished.After(c.now.Add(slack)) {
			c.problem("%s ended at %s, which is later than now: is a clock wrong?", e.ID, stamp(e.Backup.Finished))
		}
		good = append(good, e.Backup)
	}
	slices.SortFunc(good, newestFirst)
	return good
}

// newestFirst orders backups. A later timeline comes later, whatever clocks say.
func newestFirst(a, b *backup.Backup) int {
	return cmp.Or(cmp.Compare(b.EndTimeline, a.EndTimeline), cmp.Compare(b.EndLSN, a.EndLSN), cmp.Compare(b.ID, a.ID))
}

// keepGood chooses among those, newest first.
func (c *choice) keepGood(good []*backup.Backup) {
	line := c.onTheWay(good)
	for _, some := range [][]*backup.Backup{good, line} {
		if len(some) > 0 {
			c.keep(some[0], "the newest")
		}
	}
	if c.rule.Keep > 0 {
		for _, b := range good[:min(len(good), c.rule.Keep)] {
			c.keep(b, fmt.Sprintf("one of the newest %d", c.rule.Keep))
		}
	}
	if c.rule.Window > 0 {
		c.keepWindow(good, line)
	}
}

// keepWindow keeps what ended within the window, and of what ended before the newest on
// the way to the newest timeline: without it the window's first moments could not be
// reached.
func (c *choice) keepWindow(good, line []*backup.Backup) {
	from := c.now.Add(-c.rule.Window)
	older := func(b *backup.Backup) bool { return b.Finished.Before(from) }
	for _, b := range good {
		if !older(b) {
			c.keep(b, "it ended within the window")
		}
	}
	for _, some := range [][]*backup.Backup{line, good} {
		if i := slices.IndexFunc(some, older); i >= 0 {
			c.keep(some[i], "the beginning of the window needs it")
			return
		}
	}
}

// onTheWay are those of some backups of which a recovery gets to the end of the newest
// timeline.
func (c *choice) onTheWay(some []*backup.Backup) []*backup.Backup {
	return slices.DeleteFunc(slices.Clone(some), func(b *backup.Backup) bool {
		_, end, ok := c.current.Bounds(b.EndTimeline)
		return !ok || b.EndLSN > end
	})
}

// keep keeps a good backup; the first reason is told.
func (c *choice) keep(b *backup.Backup, why string) {
	if v := c.verdicts[b.ID]; !v.Keep {
		v.Keep, v.Why = true, why
	}
}

// limit finds where the WAL begins that stays.
func (c *choice) limit(good []*backup.Backup) {
	if c.rule.byPlace() {
		c.start = c.size.Floor(c.rule.Before)
		c.holdNewest(good)
	} else {
		c.holdKept(good)
	}
	for _, e := range c.entries {
		switch {
		case e.State == backup.Running:
			c.hold(e.StartLSN, fmt.Sprintf("%s, which is being taken, begins there", e.ID))
		case c.unknown(e):
			c.hold(e.StartLSN, fmt.Sprintf("%s, of which only a later version knows what it needs, begins there or later", e.ID))
		case c.mendable(e) && e.StartLSN != 0:
			c.hold(e.StartLSN, fmt.Sprintf("%s, which is not older than the window and cannot be restored now, begins there", e.ID))
		}
	}
	if c.start > c.newest {
		c.hold(c.newest, "the newest segment is never removed")
	}
	if !c.rule.byPlace() {
		return
	}
	c.showHoles()
	for _, b := range good {
		v := c.verdicts[b.ID]
		if v.Keep = b.StartLSN >= c.start; v.Keep {
			v.Why = fmt.Sprintf("it begins at %s or later", c.start)
		} else {
			v.Why = fmt.Sprintf("it begins before %s", c.start)
		}
	}
}

// holdKept holds the WAL of what is kept.
func (c *choice) holdKept(good []*backup.Backup) {
	for _, b := range good {
		if c.verdicts[b.ID].Keep {
			c.start = min(c.start, c.size.Floor(b.StartLSN))
		}
	}
	if c.start == segment.MaxLSN {
		c.start = 0 // nothing says how far back somebody wants to go
		c.note("no base backup can be restored: all WAL stays")
	}
}

// holdNewest holds the WAL of the newest base backups: on the way to the newest timeline
// and at all, of those that can be restored and of all, since what one lacks may come
// back.
func (c *choice) holdNewest(good []*backup.Backup) {
	var all []*backup.Backup
	for _, e := range c.entries {
		if e.State == backup.Good {
			all = append(all, e.Backup)
		}
	}
	slices.SortFunc(all, newestFirst)
	for _, some := range [][]*backup.Backup{all, c.onTheWay(all), good, c.onTheWay(good)} {
		if len(some) > 0 {
			c.hold(some[0].StartLSN, fmt.Sprintf("%s, the newest base backup, begins there", some[0].ID))
		}
	}
}

// showHoles moves the cut before holes that it would lie in: they could not be told from
// what was removed. The segment before a hole shows that more was there.
func (c *choice) showHoles() {
	for moved := true; moved; {
		moved = false
		for _, h := range c.holes {
			if at := c.size.Number(c.start); h.First > 0 && h.First <= at && at <= h.Last {
				missing := segment.Name{Timeline: h.Timeline, Number: h.First}
				c.hold(c.size.Start(h.First-1), fmt.Sprintf("%s and what follows it is missing, and would not be missed any more without the segment before", missing.Format(c.size)))
				moved = true
			}
		}
	}
}

// hold says that the WAL from a position on stays, and why.
func (c *choice) hold(from segment.LSN, why string) {
	if from = c.size.Floor(from); from < c.start {
		c.start = from
		c.note("the WAL from %s on stays: %s", from, why)
	}
}

// mendable tells whether a base backup cannot be restored and is not older than the
// window: what it lacks may come back before it would have gone anyway.
func (c *choice) mendable(e backup.Entry) bool {
	when := e.LastAdded
	switch {
	case e.State == backup.Good && c.broken[e.ID] != "":
		when = e.Backup.Finished
	case e.State != backup.Damaged:
		return false
	}
	return c.rule.Window > 0 && !when.Before(c.now.Add(-c.rule.Window))
}

// unknown tells whether a later version made a base backup: it can be good.
func (c *choice) unknown(e backup.Entry) bool {
	var format *archive.FormatError
	return e.State == backup.Damaged && errors.As(e.Damage, &format)
}

// judgeOthers judges what is not good. What is damaged goes with the WAL that it
// needed: until then somebody can mend it.
func (c *choice) judgeOthers() {
	for _, e := range c.entries {
		v := c.verdicts[e.ID]
		switch {
		case e.State == backup.Running:
			v.Keep, v.Why = true, "it is being taken, or was abandoned less than "+hours(backup.Patience)+" ago"
		case e.State == backup.Abandoned:
			v.Why = "it was never completed"
		case c.unknown(e):
			v.Keep, v.Why = true, "a later version made it"
			c.problem("%s is kept: %v", e.ID, e.Damage)
		case e.State == backup.Damaged && c.outdated(e):
			v.Why = "it is damaged, and what is kept begins later"
		case e.State == backup.Damaged:
			v.Keep, v.Why = true, "it is damaged, and not older than what is kept"
			c.problem("%s is damaged: %v", e.ID, e.Damage)
		case c.broken[e.ID] != "" && e.StartLSN < c.start:
			v.Why = "it cannot be restored, and what is kept begins later"
		case c.broken[e.ID] != "":
			v.Keep, v.Why = true, "it cannot be restored, and is not older than what is kept"
		case !v.Keep && v.Why == "":
			v.Why = "nothing that is kept needs it"
		}
	}
}

// outdated tells whether what is known of a damaged backup says that it is older than
// what is kept. Where it began is known, or else when something was added to it last.
func (c *choice) outdated(e backup.Entry) bool {
	if c.mendable(e) {
		return false
	}
	if e.StartLSN != 0 {
		return e.StartLSN < c.start
	}
	if e.LastAdded.IsZero() || c.now.Sub(e.LastAdded) < backup.Patience {
		return false
	}
	kept := 0
	for _, v := range c.verdicts {
		if v.Keep && v.State == backup.Good {
			kept++
			if !e.LastAdded.Before(v.Started) {
				return false
			}
		}
	}
	return kept > 0
}

func (c *choice) note(format string, args ...any) {
	c.notes = append(c.notes, fmt.Sprintf(format, args...))
}

func (c *choice) problem(format string, args ...any) {
	c.problems = append(c.problems, fmt.Sprintf(format, args...))
}

// stamp writes a time for people.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

func hours(d time.Duration) string { return fmt.Sprintf("%d hours", int(d.Hours())) }
