package receiver

import "github.com/walrecv/walrecv/segment"

// border is between the segment that was held at the start and the stream, where
// a server that was put back to an older state shows: its first record points
// back to another one than the last that is held. The zero value is no border.
type border struct {
	at   segment.LSN // where the stream begins
	last segment.LSN // the record that the first one of the stream has to point back to

	alone *segment.Reader // reads the stream as if nothing were known of what is in front
	first firstRecord     // that it found
	fault string          // why the stream does not continue what is held; it came twice
}

// firstRecord is a visitor that keeps the first record, unless something is wrong
// in front of it.
type firstRecord struct {
	found, damaged bool
	prev           segment.LSN
}

func (*firstRecord) Segment(segment.LSN)        {}
func (f *firstRecord) Fault(segment.Fault)      { f.damaged = f.damaged || !f.found }
func (*firstRecord) Unchecked(_, _ segment.LSN) {}
func (f *firstRecord) Record(r *segment.Record) {
	if !f.found {
		f.found, f.prev = true, r.Prev
	}
}

// begins prepares for a stream, which may be the same once more.
func (b *border) begins(v verifyBegin) {
	b.alone, b.first = nil, firstRecord{}
	if b.at == 0 || b.at != v.at.LSN {
		return
	}
	// Its options were good for another reader a moment ago.
	b.alone, _ = segment.NewReader(segment.ReaderOptions{
		Identity: v.cluster.Identity, Major: v.cluster.Major, History: v.history,
	}, &b.first)
}

func (b *border) read(at segment.LSN, p []byte) {
	if b.alone == nil || b.first.found || b.first.damaged {
		return
	}
	b.alone.Feed(at, p)
}

// confirmed takes a fault that came twice.
func (b *border) confirmed(f segment.Fault) {
	if b.at != 0 && f.LSN >= b.at && f.End <= b.at {
		b.fault = f.Reason
	}
}

// broken tells why what is streamed is of another branch than what is held. A
// damaged record is not enough for that, and a damaged pointer neither: the first
// record that is sound by itself has to point elsewhere. It is told once.
func (b *border) broken() (reason string) {
	if b.fault == "" || !b.first.found || b.first.damaged {
		return ""
	}
	reason, b.fault = b.fault, ""
	if b.first.prev == b.last {
		return ""
	}
	return reason
}
