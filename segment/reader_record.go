package segment

import (
	"encoding/binary"
	"hash/crc32"
)

// readRecords reads from where a record begins. p ends on the same page.
func (r *Reader) readRecords(p []byte) int {
	done := 0
	for r.linked && !r.overwrite {
		n := r.wholeRecord(p[done:], r.pos+LSN(done))
		if n == 0 {
			break
		}
		done += n
	}
	if done > 0 {
		return done
	}
	r.start = r.pos
	r.startTimeline = r.rules.timeline
	r.headLen = 0
	r.mode = modeHead
	return r.readHead(p)
}

// wholeRecord reads the record that p begins with, and returns its length up to
// where the next one can begin. It returns 0 and changes nothing if not all of
// it is there, or if it is not as sound as most: then it has to be looked at
// closely.
func (r *Reader) wholeRecord(p []byte, at LSN) int {
	if len(p) < recordHeaderLen {
		return 0
	}
	h := parseRecordHeader(p)
	if uint64(h.length) > uint64(len(p)) || h.length < recordHeaderLen {
		return 0
	}
	end := alignRecord(int(h.length))
	if end > len(p) || h.prev != r.last || h.padding != 0 || !r.records.takes(h.manager) || h.changesCourse() {
		return 0
	}
	if tail := binary.LittleEndian.Uint64(p[end-recordAlign:]); tail>>(64-8*(end-int(h.length))) != 0 {
		return 0 // what is between this record and the next one
	}
	crc := crc32.Update(0, castagnoli, p[recordHeaderLen:h.length])
	if crc32.Update(crc, castagnoli, p[:crcOffset]) != h.crc {
		return 0
	}
	r.record = Record{
		LSN: at, Prev: h.prev, End: at + LSN(end), Timeline: r.rules.timeline,
		Length: h.length, XID: h.xid, Manager: h.manager, Info: h.info,
	}
	if h.telling() {
		r.record.describe(firstBytes(p[recordHeaderLen:h.length], keptLen))
	}
	if h.finishesPrepared() {
		var f preparedFinder
		f.read(p[recordHeaderLen:h.length], h.info, r.rules.magic)
		r.record.prepared = f.xid
	}
	r.last = at
	r.sound = r.record.End
	r.visit.Record(&r.record)
	return end
}

// alignRecord rounds up to where a record can begin.
func alignRecord(n int) int { return (n + recordAlign - 1) &^ (recordAlign - 1) }

// readHead reads of the header of a record, as far as it is on this page.
func (r *Reader) readHead(p []byte) int {
	n := copy(r.head[r.headLen:], p)
	r.headLen += n
	if r.headLen < recordHeaderLen {
		return n
	}
	r.header = parseRecordHeader(r.head[:])
	if reason := r.records.headerFault(&r.header); reason != "" {
		r.fault(r.start, "%s", reason)
		return n
	}
	if !r.checkLink() {
		return n
	}
	r.left = r.header.length - recordHeaderLen
	r.crc = 0
	r.keptLen = 0
	r.prepared = preparedFinder{}
	r.mode = modeBody
	if r.left == 0 {
		r.recordEnds(r.pos + LSN(n))
	}
	return n
}

// checkLink checks where the record points back to.
func (r *Reader) checkLink() bool {
	prev := r.header.prev
	switch {
	case r.linked && prev != r.last:
		r.fault(r.start, "the record before is at %s, but it points back to %s", r.last, prev)
	case !r.linked && prev >= r.below:
		r.fault(r.start, "it points back to %s, which is not on a page before", prev)
	case !r.linked && prev < r.last:
		r.fault(r.start, "there is a record at %s, but it points back to %s", r.last, prev)
	default:
		return true
	}
	return false
}

// readBody reads of the body of a record.
func (r *Reader) readBody(p []byte) int {
	if uint64(len(p)) > uint64(r.left) {
		p = p[:r.left]
	}
	r.crc = crc32.Update(r.crc, castagnoli, p)
	if r.header.telling() {
		r.keptLen += copy(r.kept[r.keptLen:], p)
	}
	if r.header.finishesPrepared() {
		r.prepared.read(p, r.header.info, r.rules.magic)
	}
	r.left -= uint32(len(p))
	if r.left == 0 {
		r.recordEnds(r.pos + LSN(len(p)))
	}
	return len(p)
}

// recordEnds checks a record of which all bytes have been read.
func (r *Reader) recordEnds(end LSN) {
	if crc32.Update(r.crc, castagnoli, r.head[:crcOffset]) != r.header.crc {
		r.fault(r.start, "the checksum of the record does not match")
		return
	}
	body := r.kept[:r.keptLen]
	if !r.checkOverwrite(body) {
		return
	}
	h := &r.header
	aligned := (end + recordAlign - 1) &^ (recordAlign - 1)
	r.record = Record{
		LSN: r.start, Prev: h.prev, End: aligned, Timeline: r.startTimeline,
		Length: h.length, XID: h.xid, Manager: h.manager, Info: h.info,
	}
	r.record.describe(body)
	r.record.prepared = r.prepared.xid
	r.sound = aligned
	r.last = r.start
	r.linked = true
	r.afterRecord(end)
	if r.record.Kind == SwitchRecord {
		r.record.End = r.segmentEnd(end - 1)
		r.emptyUpTo(end)
	}
	if r.dark {
		r.dark, r.faultTold = false, false
		r.visit.Unchecked(r.darkFrom, r.start)
	}
	r.visit.Record(&r.record)
}

// segmentEnd is the end of the segment that holds the byte at l.
func (r *Reader) segmentEnd(l LSN) LSN {
	size := r.rules.id.Size
	return size.Floor(l) + LSN(size)
}

// checkOverwrite checks that a record says that another one is void if, and only
// if, it stands where one was abandoned.
func (r *Reader) checkOverwrite(body []byte) bool {
	due := r.overwrite
	r.overwrite = false
	if !r.header.isOverwrite() {
		if due {
			r.fault(r.start, "a record was abandoned, but the one that follows does not say so")
		}
		return !due
	}
	void, ok := overwrittenLSN(body)
	switch {
	case !due:
		r.fault(r.start, "it says that a record was abandoned, but none was")
	case !ok:
		r.fault(r.start, "it does not say which record was abandoned")
	case r.void != 0 && void != r.void:
		r.fault(r.start, "it says that the record at %s was abandoned, but it is the one at %s", void, r.void)
	case void >= r.start:
		r.fault(r.start, "it says that the record at %s was abandoned, which is not before it", void)
	default:
		return true
	}
	return false
}

// readRest reads of a record whose beginning was not read.
func (r *Reader) readRest(p []byte) int {
	if uint64(len(p)) > uint64(r.left) {
		p = p[:r.left]
	}
	r.left -= uint32(len(p))
	if r.left == 0 {
		r.afterRecord(r.pos + LSN(len(p)))
		if !r.faultTold {
			r.sound = (r.pos + LSN(len(p)) + recordAlign - 1) &^ (recordAlign - 1)
		}
	}
	return len(p)
}

// afterRecord goes on behind a record that ends at end.
func (r *Reader) afterRecord(end LSN) {
	r.mode = modeRecord
	if end%recordAlign != 0 {
		r.mode = modePad
	}
}

// readPadding reads what is between the end of a record and where the next one
// can begin.
func (r *Reader) readPadding(p []byte) int {
	n := min(len(p), int(recordAlign-r.pos%recordAlign))
	for i, b := range p[:n] {
		if b != 0 {
			r.fault(r.pos+LSN(i), "the padding after a record is not zero")
			return n
		}
	}
	if (r.pos+LSN(n))%recordAlign == 0 {
		r.mode = modeRecord
	}
	return n
}
