package restore

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/walrecv/walrecv/internal/pgdata"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
)

// noteFile is where a standby's note is, in the data directory.
const noteFile = "walrecv.restore.json"

const noteFormat = 1

// freshFor is how long what was found out about an outage, or about one file, is
// taken for still true, so that the next calls need not wait for it again.
const freshFor = 15 * time.Second

// note is what the calls of a standby tell the later ones. It is only ever used
// by one call at a time: PostgreSQL makes one after the other.
type note struct {
	Format int `json:"format"`

	// Unknown are the files that were answered with 1 without a proof.
	Unknown []noted `json:"unknown,omitempty"`

	// Failed is when a place last gave no answer, and Waited when a call last
	// waited for one as long as it may.
	Failed time.Time `json:"failed,omitzero"`
	Waited time.Time `json:"waited,omitzero"`

	// Told is when the operator was last told of it.
	Told time.Time `json:"told,omitzero"`

	// Promotion is the server that was seen to be about to be promoted.
	Promotion pgdata.Postmaster `json:"promotion,omitzero"`

	// All says that an earlier note could not be read: anything may have been
	// in it.
	All bool `json:"all,omitempty"`

	changed bool
}

// noted is one file of a note.
type noted struct {
	File  string    `json:"file"`
	Since time.Time `json:"since"` // when it was first unknown
	Last  time.Time `json:"last"`
}

// readNote reads the note of a data directory. One that cannot be read, or that
// a later version wrote, is replaced by one of everything.
func readNote(d *pgdata.Dir) *note {
	data, err := vfs.ReadFile(d.FS, d.File(noteFile))
	if errors.Is(err, fs.ErrNotExist) {
		return &note{}
	}
	n := &note{}
	if err == nil {
		err = json.Unmarshal(data, n)
	}
	if err != nil || n.Format != noteFormat {
		return &note{All: true, changed: true}
	}
	return n
}

// empty tells whether a note says nothing. One that is not there does not.
func (n *note) empty() bool {
	return n == nil || len(n.Unknown) == 0 && n.Failed.IsZero() && n.Promotion == (pgdata.Postmaster{}) && !n.All
}

// save makes the note durable, or removes it when it says nothing any more. The
// removal is not made durable: a note that a crash brings back is merely a reason
// to look once more.
func (n *note) save(d *pgdata.Dir, running pgdata.Postmaster) error {
	if n.Promotion != running {
		n.Promotion, n.changed = pgdata.Postmaster{}, true
	}
	if !n.changed {
		return nil
	}
	if n.empty() {
		err := d.FS.Remove(d.File(noteFile))
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return err
	}
	n.Format = noteFormat
	data, err := json.Marshal(n)
	if err != nil {
		return err
	}
	if err := vfs.WriteFile(d.FS, d.File(noteFile), 0o600, append(data, '\n')); err != nil {
		return fmt.Errorf("leave a note in the data directory: %w", err)
	}
	return nil
}

// add notes that a file is unknown.
func (n *note) add(file string, now time.Time) {
	n.changed = true
	for i := range n.Unknown {
		if n.Unknown[i].File == file {
			n.Unknown[i].Last = now
			return
		}
	}
	n.Unknown = append(n.Unknown, noted{File: file, Since: now, Last: now})
}

// settle forgets a file: it was delivered, or proven to be absent.
func (n *note) settle(file string) {
	n.remove(func(u noted) bool { return u.File == file })
}

// passed forgets the segments that the server has left behind when it is given
// segment at: those up to it, of its timeline and its ancestors. PostgreSQL does
// not go back to them, except after a restart, and then it asks for all again.
func (n *note) passed(at segment.Name, size segment.Size) {
	n.remove(func(u noted) bool {
		m, err := segment.ParseName(u.File, size)
		return err == nil && m.Timeline <= at.Timeline && m.Number <= at.Number
	})
}

func (n *note) remove(which func(noted) bool) {
	before := len(n.Unknown)
	n.Unknown = slices.DeleteFunc(n.Unknown, which)
	n.changed = n.changed || len(n.Unknown) != before
}

// answered notes that the places gave an answer.
func (n *note) answered() {
	if !n.Failed.IsZero() || !n.Waited.IsZero() {
		n.Failed, n.Waited, n.changed = time.Time{}, time.Time{}, true
	}
}

// failed notes that they gave none, after a call waited or only had a look.
func (n *note) failed(now time.Time, waited bool) {
	n.Failed, n.changed = now, true
	if waited {
		n.Waited = now
	}
}

// down tells whether a call was without an answer just now.
func (n *note) down(now time.Time) bool { return fresh(n.Failed, now, freshFor) }

// recent tells whether this file was unknown just now.
func (n *note) recent(file string, now time.Time) bool {
	return slices.ContainsFunc(n.Unknown, func(u noted) bool {
		return u.File == file && fresh(u.Last, now, freshFor)
	})
}

// fresh tells whether a time is less than d ago. One in the future is of a clock
// that was set back.
func fresh(at, now time.Time, d time.Duration) bool {
	since := now.Sub(at)
	return !at.IsZero() && since >= 0 && since < d
}

// has tells whether a file is noted.
func (n *note) has(file string) bool {
	return slices.ContainsFunc(n.Unknown, func(u noted) bool { return u.File == file })
}

// histories are the timelines whose history files are noted.
func (n *note) histories() []segment.TimelineID {
	var timelines []segment.TimelineID
	for _, u := range n.Unknown {
		if t, err := segment.ParseHistoryName(u.File); err == nil {
			timelines = append(timelines, t)
		}
	}
	return timelines
}

// before are the noted segments that have to be settled before segment at can be
// delivered: of a later timeline, with its number or a lower one.
func (n *note) before(at segment.Name, size segment.Size) []segment.Name {
	var names []segment.Name
	for _, u := range n.Unknown {
		m, err := segment.ParseName(u.File, size)
		if err == nil && m.Timeline > at.Timeline && m.Number <= at.Number {
			names = append(names, m)
		}
	}
	return names
}
