package verify

import (
	"fmt"

	"github.com/walrecv/walrecv/segment"
)

// maxFaults is how many faults of one segment are told one by one.
const maxFaults = 3

// follower follows the records of a timeline, segment by segment, and notes what
// is wrong in the one that it reads. It is the Visitor of its Reader.
type follower struct {
	reader *segment.Reader
	size   segment.Size
	fork   segment.LSN // where the timeline left its parent, 0 if it is not known
	deaf   bool        // what the Reader tells is of no interest

	now, atStart state // and as it was where the segment begins
	tally        tally
}

// state is what the next record depends on.
type state struct {
	cold    bool // what is before was not read
	faulted bool // what is before is damaged
	forking bool // the first record of the timeline is to come
}

// tally is what was found in one segment.
type tally struct {
	records   int64
	unchecked int64
	faults    []segment.Fault
	more      int // that are not in faults
	dark      []place
	fork      string // what is wrong where the timeline begins
	forkAt    segment.LSN
}

// place is a range of bytes.
type place struct{ from, to segment.LSN }

func newFollower(o segment.ReaderOptions, fork segment.LSN) (*follower, error) {
	f := &follower{size: o.Identity.Size, fork: fork, now: state{cold: true}}
	var err error
	f.reader, err = segment.NewReader(o, f)
	return f, err
}

// begin begins a segment, for the first time or again.
func (f *follower) begin(n segment.Name, again bool) {
	if again {
		f.forget()
		f.now = f.atStart
	}
	start := n.Start(f.size)
	if f.reader.Position() != start {
		f.now = state{cold: true}
	}
	if f.fork != 0 && f.size.Floor(f.fork) == start {
		f.now.forking = true
	}
	f.atStart = f.now
	f.tally = tally{}
}

// forget ends the reading of what was begun.
func (f *follower) forget() {
	f.deaf = true
	f.reader.Finish()
	f.deaf = false
}

// lose says that the rest of the segment was not read.
func (f *follower) lose() {
	f.forget()
	f.now = state{cold: true}
}

// Segment implements [segment.Visitor].
func (f *follower) Segment(segment.LSN) {}

// Record implements [segment.Visitor].
func (f *follower) Record(r *segment.Record) {
	f.tally.records++
	if f.now.forking && r.End > f.fork {
		f.now.forking = false
		if !f.now.faulted {
			f.first(r)
		}
	}
	f.now.cold, f.now.faulted = false, false
}

// Fault implements [segment.Visitor].
func (f *follower) Fault(fault segment.Fault) {
	f.now.faulted = true
	if f.deaf {
		return
	}
	if len(f.tally.faults) == maxFaults {
		f.tally.more++
		return
	}
	f.tally.faults = append(f.tally.faults, fault)
}

// Unchecked implements [segment.Visitor].
func (f *follower) Unchecked(from, to segment.LSN) {
	if f.deaf {
		return
	}
	f.tally.unchecked += int64(to - from)
	if !f.now.cold && !f.now.faulted {
		f.tally.dark = append(f.tally.dark, place{from, to})
	}
}

// The kinds of records with which a timeline can begin, all of the resource
// manager XLOG: a shutdown checkpoint, a change of full_page_writes, the end of
// recovery, and that a record was abandoned.
const managerXLOG segment.ResourceManager = 0

var firstKinds = map[uint8]bool{0x00: true, 0x80: true, 0x90: true, 0xD0: true}

// first looks at the first record that does not end before the fork: a server
// that was promoted has written it, exactly there, and says so.
func (f *follower) first(r *segment.Record) {
	f.tally.forkAt = f.fork
	switch {
	case r.LSN < f.fork:
		f.tally.fork = fmt.Sprintf("the record from %s to %s goes over it", r.LSN, r.End)
	case r.LSN != f.fork && !behindHeader(r.LSN, f.fork):
		f.tally.fork = fmt.Sprintf("the next record begins at %s", r.LSN)
	case r.Manager != managerXLOG || !firstKinds[r.Info&0xF0]:
		f.tally.fork = "the record there is none that a promoted server begins with"
	}
}

// behindHeader tells whether l is the first position for a record behind a page
// border.
func behindHeader(l, border segment.LSN) bool {
	const shortestPage = 1 << 10
	return border%shortestPage == 0 && (l == border+shortHeader || l == border+longHeader)
}
