package archive

import (
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
)

// Asking names the requests that an [Archive] makes of its store, so that they can be
// begun before they are made, see [storage.Early]. It needs no identity to be known.
type Asking struct {
	System uint64
	Keys   Keys
}

// Identity is what [Open] asks.
func (q Asking) Identity() storage.Request {
	return storage.OpenRequest(Identity{SystemID: q.System}.key())
}

// Segment is what [Archive.OpenSegment] asks for the segment with a file name: in the
// form that it looks for first, and in the other one.
func (q Asking) Segment(t segment.TimelineID, file string) (first, other storage.Request) {
	o := Object{System: q.System, Kind: KindSegment, Timeline: t, Segment: file}
	plain := storage.OpenRequest(o.Key())
	o.Encrypted = true
	encrypted := storage.OpenRequest(o.Key())
	if len(q.Keys.Identities) == 0 {
		encrypted = storage.StatRequest(o.Key())
	}
	if q.Keys.encryptedFirst() {
		return encrypted, plain
	}
	return plain, encrypted
}

// Chunks is what [Archive.Chunks] asks.
func (q Asking) Chunks(file string) storage.Request {
	return storage.ListRequest(chunksPrefix(q.System, file))
}

// Partials is what [Archive.Partials] asks.
func (q Asking) Partials(t segment.TimelineID, file string) storage.Request {
	return storage.ListRequest(partialsPrefix(Object{System: q.System, Kind: KindSegment, Timeline: t, Segment: file}))
}

// History is what [Archive.History] asks.
func (q Asking) History(t segment.TimelineID) storage.Request {
	return storage.OpenRequest(Object{System: q.System, Kind: KindHistory, Timeline: t}.Key())
}

// Later is what [Archive.Later] asks, one after the other: of a timeline from a segment
// on, or, if file is empty, of all of it.
func (q Asking) Later(t segment.TimelineID, file string) []storage.Request {
	var list []storage.Request
	for _, dir := range laterDirs(q.System) {
		list = append(list, storage.ListFromRequest(dir.path, dir.begin(t, file)))
	}
	return list
}

// Pruned is what [Archive.Pruned] asks.
func (q Asking) Pruned() storage.Request { return storage.ListRequest(prunedPrefix(q.System)) }
