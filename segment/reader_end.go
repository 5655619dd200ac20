package segment

import (
	"fmt"
	"io"
)

// LogEnd says where the log in a file ends.
type LogEnd struct {
	// LSN is the position behind the last record that is complete and sound, where
	// the next one can begin; behind a switch it is the end of the segment. It is
	// the start of the segment if no record ends in it.
	LSN LSN
	// Reason says why the log does not go on there. It is "" if the file ends, which
	// the last record may do in the middle.
	Reason string
}

// FindEnd reads a segment from its start until something does not belong to the
// log any more. In a segment that is being written, or that was the last one of
// its timeline, that is where the log ends. In a complete one from the middle of
// a timeline it is damage. The bytes alone cannot tell these apart.
//
// The segment may end early, as a file does that was cut off. The beginning of a
// record in the segment before is not read, and so its end here cannot be
// checked. Errors are those of src, or say that the options cannot be used.
// o.History can be left out; no page may then be of a timeline after n's.
func FindEnd(src io.Reader, n Name, o ReaderOptions) (LogEnd, error) {
	if o.History.Timeline == 0 {
		o.History.Timeline = n.Timeline
	}
	var first firstFault
	r, err := NewReader(o, &first)
	if err != nil {
		return LogEnd{}, err
	}
	start, size := n.Start(o.Identity.Size), int64(o.Identity.Size)
	buf := make([]byte, checkChunkLen)
	for offset := int64(0); offset < size && !first.found; {
		got, err := io.ReadFull(src, buf[:min(checkChunkLen, size-offset)])
		r.Feed(start+LSN(offset), buf[:got])
		offset += int64(got)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			break
		}
		if err != nil {
			return LogEnd{}, fmt.Errorf("read WAL segment %s at offset %d: %w", n.Format(o.Identity.Size), offset, err)
		}
	}
	if first.found {
		return LogEnd{LSN: first.fault.End, Reason: first.fault.Error()}, nil
	}
	return LogEnd{LSN: max(start, r.End())}, nil
}

// firstFault is a Visitor that keeps the first fault.
type firstFault struct {
	found bool
	fault Fault
}

func (v *firstFault) Segment(LSN)        {}
func (v *firstFault) Record(*Record)     {}
func (v *firstFault) Unchecked(_, _ LSN) {}
func (v *firstFault) Fault(f Fault) {
	if !v.found {
		v.found, v.fault = true, f
	}
}
