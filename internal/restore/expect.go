package restore

import (
	"context"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
)

// expected begins requests that a call is about to make, so that they are on their way
// together. The look goes on as without it, and believes the same answers. What keeps its
// order is what the proof of an absence rests on, see the package's documentation.
type expected struct {
	archive.Asking
	early *storage.Early // nil: nothing is begun
	ctx   context.Context
	known bool // the identity is
}

// expect is for what is to be asked of an archive far away. Two places are asked one
// after the other: what moves between them must not be missed. So is everything while a
// standby's note says what has to be found out first.
func (c *call) expect(a *attempt) expected {
	if len(c.places) != 1 || !c.places[0].Far || c.system == 0 || !c.note.empty() {
		return expected{}
	}
	p := c.places[0]
	keys, err := c.keys()
	if err == nil {
		err = c.open(a, p)
	}
	if err != nil {
		return expected{} // whoever asks finds out
	}
	return expected{archive.Asking{System: c.system, Keys: keys}, p.store, a.base, p.src != nil}
}

// begin begins a request, and each of the others behind the one before.
func (e expected) begin(requests ...storage.Request) {
	if e.early != nil {
		e.early.Begin(e.ctx, requests...)
	}
}

// look is for the first look for a file.
func (e expected) look(r storage.Request) {
	if !e.known {
		e.begin(e.Identity())
	}
	e.begin(r)
}

// segment is for the first look for a segment.
func (e expected) segment(r request) {
	first, _ := e.Segment(r.timeline, r.file)
	e.look(first)
}

// noSegment is for the first look for a segment that is probably not there.
func (e expected) noSegment(r request) {
	e.segment(r)
	_, other := e.Segment(r.timeline, r.file)
	e.begin(other)
	e.tail(r)
}

// tail is for the chunks of a segment, and for what comes later, chunks first.
func (e expected) tail(r request) {
	e.begin(e.Chunks(r.file))
	e.begin(e.Later(r.timeline, r.file)...)
}

// again is for what chunks become, once they are listed.
func (e expected) again(r request) {
	e.begin(e.Partials(r.timeline, r.file))
	first, other := e.Segment(r.timeline, r.file)
	e.begin(first)
	e.begin(other)
}

// history is for the look for a history file.
func (e expected) history(t segment.TimelineID) {
	e.look(e.History(t))
	e.begin(e.Later(t, "")...)
}

// forget ends what was begun in vain.
func (c *call) forget() {
	for _, p := range c.places {
		if p.store != nil {
			p.store.End()
		}
	}
}
