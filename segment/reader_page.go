package segment

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// pageHeader reads of the header of the page that begins at r.pos, or of which
// the beginning is in r.page.
func (r *Reader) pageHeader(p []byte) int {
	addr := r.pos - LSN(r.pageLen)
	need := shortHeaderLen
	if r.rules.id.Size.Offset(addr) == 0 {
		need = longHeaderLen
	}
	if r.pageLen == 0 {
		r.pageBegins(addr)
		if len(p) >= need {
			r.turn(p[:need], addr)
			return need
		}
	}
	n := copy(r.page[r.pageLen:need], p)
	if r.pageLen += n; r.pageLen == need {
		r.pageLen = 0
		r.turn(r.page[:need], addr)
	}
	return n
}

// pageBegins does what is due where a page begins, whatever its header says.
func (r *Reader) pageBegins(addr LSN) {
	if r.mode == modeHead {
		r.checkBrokenHead()
	}
	if r.rules.id.Size.Offset(addr) == 0 {
		r.keepBorder()
		r.whole = true
		r.visit.Segment(addr)
	}
}

// checkBrokenHead checks the length of a record whose header goes on in the next
// page. The length is always there, and what is left of the record depends on it.
func (r *Reader) checkBrokenHead() {
	if reason := r.records.lengthFault(binary.LittleEndian.Uint32(r.head[:])); reason != "" {
		r.fault(r.start, "%s", reason)
	}
}

// turn goes to the page with the header p.
func (r *Reader) turn(p []byte, addr LSN) {
	empty := bytes.Equal(p, emptyPage[:len(p)])
	if empty && r.mode == modeEmpty {
		return
	}
	if empty {
		r.emptyPage(addr)
		return
	}
	h, reason := r.rules.check(p, addr)
	if reason == "" {
		reason = r.headerFault(h, p)
	}
	if reason != "" {
		r.fault(addr, "%s", reason)
		r.forget(h)
		return
	}
	if r.rules.magic != h.Magic {
		r.records = rulesOfMagic(h.Magic)
	}
	r.rules.accept(h)
	r.resume(h)
}

// emptyPage tells of a page of which the header is zero.
func (r *Reader) emptyPage(addr LSN) {
	if owed := r.owed(); owed > 0 {
		r.fault(addr, "the page is empty, but %d bytes are left of %s", owed, r.begun())
		return
	}
	r.fault(addr, "the page is empty")
}

// headerFault says what is wrong with a page header here, or "".
func (r *Reader) headerFault(h PageHeader, p []byte) string {
	major, known := MajorOfMagic(h.Magic)
	want := r.options.Major
	switch {
	case known && want != 0 && major != want:
		return fmt.Sprintf("the page is of PostgreSQL %d instead of %d", major, want)
	case !known && isKnownMajor(want):
		return fmt.Sprintf("the magic number %04X is not that of PostgreSQL %d", h.Magic, want)
	case known && binary.LittleEndian.Uint32(p[20:]) != 0:
		return "the padding of the page header is not zero"
	}
	return r.continuationFault(h)
}

// continuationFault says why the records cannot go on as a page header says, or
// "".
func (r *Reader) continuationFault(h PageHeader) string {
	continued := h.Info&infoContRecord != 0
	abandoned := h.Info&infoOverwriteContRecord != 0
	owed := r.owed()
	switch {
	case r.mode == modeLost:
	case owed > 0 && !abandoned && h.RemLen != owed:
		return fmt.Sprintf("%d bytes instead of %d are left of %s", h.RemLen, owed, r.begun())
	case owed == 0 && continued:
		return fmt.Sprintf("%d bytes are left of a record, but none was begun", h.RemLen)
	case owed == 0 && abandoned:
		return "it abandons a record, but none was begun"
	}
	return ""
}

// owed is how many bytes are missing of the record that has begun.
func (r *Reader) owed() uint32 {
	switch r.mode {
	case modeHead:
		return binary.LittleEndian.Uint32(r.head[:]) - uint32(r.headLen)
	case modeBody, modeRest:
		return r.left
	default:
		return 0
	}
}

// begun says which record has begun.
func (r *Reader) begun() string {
	if r.mode == modeRest {
		return "a record"
	}
	return fmt.Sprintf("the record at %s", r.start)
}

// forget drops what a faulty page has in common with none before it: those may
// be the ones that are wrong.
func (r *Reader) forget(h PageHeader) {
	if h.Magic != r.rules.magic {
		r.rules.magic = 0
	}
	if h.Long {
		r.rules.id.SystemID = r.options.Identity.SystemID
	}
}

// resume goes on with the records on a page, according to its header.
func (r *Reader) resume(h PageHeader) {
	if h.Info&infoOverwriteContRecord != 0 {
		r.abandon()
	}
	if r.mode != modeLost {
		return
	}
	// All that begins here points back at a record on an earlier page.
	r.linked = false
	r.below = h.Addr
	r.mode = modeRecord
	if h.RemLen > 0 {
		r.mode = modeRest
		r.left = h.RemLen
	} else if r.darkFrom == h.Addr {
		r.dark = false // nothing but this header was read
	}
}

// abandon gives up the record that has begun. The next one has to say so.
func (r *Reader) abandon() {
	r.void = 0
	if r.mode == modeHead || r.mode == modeBody {
		r.void = r.start
	}
	r.overwrite = true
	if r.mode != modeLost {
		r.mode = modeRecord
	}
}

// readEmpty reads what follows a switch to the next segment.
func (r *Reader) readEmpty(p []byte) {
	if !bytes.Equal(p, emptyPage[:len(p)]) {
		i := bytes.IndexFunc(p, func(c rune) bool { return c != 0 })
		r.fault(r.pos+LSN(i), "bytes after the switch to the next segment are not zero")
		return
	}
	r.emptyUpTo(r.pos + LSN(len(p)))
}

// emptyUpTo goes on behind bytes that a switch left unused. Where they end with
// the segment, the next one begins with records again.
func (r *Reader) emptyUpTo(end LSN) {
	r.mode = modeEmpty
	if r.rules.id.Size.Offset(end) == 0 {
		r.mode = modeRecord
		r.sound = end
	}
}
