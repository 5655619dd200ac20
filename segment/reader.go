package segment

import "fmt"

// ReaderOptions is what a [Reader] knows beforehand. What is left out is not
// checked, or is taken from the first segment and must stay the same.
type ReaderOptions struct {
	Identity Identity // Size must be valid
	Major    int      // of the PostgreSQL that wrote the log, 0 if not known
	// History is that of the timeline that is read. With it every page must be of
	// the timeline that the history has at its place. A history that only names a
	// timeline above 1, without entries, bounds the timelines of the pages.
	History History
}

// Visitor is told what a [Reader] finds, in the order of the log, while
// [Reader.Feed] runs. It must not call the Reader.
type Visitor interface {
	// Segment tells that a segment begins, also one that is read again. What is
	// told next was found in it, though it can be about a record that began before.
	Segment(start LSN)
	// Record tells of a record that is complete and sound. The Record is valid
	// only until the method returns.
	Record(r *Record)
	// Fault tells of something wrong. There is one Fault for a damaged place
	// however large it is: the next can come only after a record that is sound.
	Fault(f Fault)
	// Unchecked tells of bytes that could not be checked. They are the end of a
	// record whose beginning was not read, or the beginning of one whose end was
	// not, or what is between a Fault and the next sound record.
	Unchecked(from, to LSN)
}

// Fault says that bytes are not what the log can hold at their place.
type Fault struct {
	LSN    LSN    // of the page, the record or the byte that is wrong
	End    LSN    // where the sound log in front of it ends; see [Reader.End]
	Reason string // for people
}

// Error gives the position and the reason.
func (f Fault) Error() string { return fmt.Sprintf("WAL at %s: %s", f.LSN, f.Reason) }

// Reader reads the log as it passes, in pieces of any length, and checks all
// that can be checked: the header of every page, that records which span pages
// go on as they should, the header and the checksum of every record, that each
// record points back at the one before, that nothing follows a switch to the
// next segment, and that bytes without a meaning are zero.
//
// It can begin anywhere. Where a segment begins it reads the first record that
// begins there; anywhere else it needs to know the length of a page from a
// segment before, or waits for the next segment. After a fault it goes on with
// the next page whose header is sound.
//
// What it does not find is a change of bytes that it tells of as Unchecked; of
// the body of a record that was abandoned, which nobody reads; of the flag of a
// page header that backup blocks may be removed; and, without a History, of the
// timeline of the first or the last page, without a Major, of the magic number of
// the only one.
//
// It keeps no bytes but of headers and a few of what a record begins with, so it
// needs the same memory for any log and allocates only to tell of a Fault. A
// Reader is not for use by several goroutines at once.
type Reader struct {
	visit   Visitor
	options ReaderOptions
	rules   pageRules
	records recordRules

	fed bool // there is a position to go on from
	flow
	borders [2]flow // as it was where the last segments began, the newest first

	record Record // what the visitor is shown
}

// flow is where a Reader stands, and what it knows of the bytes in front. A copy
// of it made at a position is all it takes to go on from there.
type flow struct {
	pos      LSN // of the next byte
	mode     mode
	timeline TimelineID // of the page before
	whole    bool       // the segment was read from its start

	page    [longHeaderLen]byte // the part of a page's header that is there
	pageLen int

	// The record that has begun and is not complete. In modeRest all but left is
	// not known.
	start         LSN
	startTimeline TimelineID
	head          [recordHeaderLen]byte
	headLen       int
	header        recordHeader
	left          uint32 // bytes of the body that are still to come
	crc           uint32
	kept          [keptLen]byte // the beginning of the body
	keptLen       int
	prepared      preparedFinder

	last   LSN  // the newest sound record, 0 if there is none
	linked bool // the next record must point back at last
	below  LSN  // if it is not linked, it must point below this

	overwrite bool // the next record must say that one is void,
	void      LSN  // this one, 0 if it is not known

	sound     LSN  // the end of what was found to be sound
	dark      bool // bytes from darkFrom on are not checked
	darkFrom  LSN
	faultTold bool // and the visitor knows that something is wrong with them
}

// mode is what the next byte is, unless a page begins.
type mode uint8

const (
	modeLost   mode = iota // not known before the next page
	modeRecord             // the beginning of a record
	modeHead               // within the header of a record
	modeBody               // within the body of a record
	modeRest               // within a record whose beginning was not read
	modePad                // between two records
	modeEmpty              // after a switch
)

// NewReader makes a Reader that has read nothing yet. It fails if the options
// cannot be those of a log.
func NewReader(o ReaderOptions, v Visitor) (*Reader, error) {
	if err := o.Identity.Size.Valid(); err != nil {
		return nil, err
	}
	r := &Reader{visit: v, options: o, rules: pageRules{id: o.Identity}, records: rulesOfMagic(0)}
	r.rules.setHistory(o.History)
	return r, nil
}

// Feed reads the bytes of the log from at on. They may end anywhere, also inside
// of a header; what the visitor is told does not depend on where they are cut.
// Nothing of p is kept.
//
// Bytes that do not follow those before are read as another piece of the log,
// after [Reader.Finish] for the piece before. Where one of the last two segments
// begins, however, the Reader goes on as it did then and tells everything after
// it again: this is how a server repeats itself after a reconnection, and how
// the first segment of a timeline begins.
func (r *Reader) Feed(at LSN, p []byte) {
	if len(p) == 0 {
		return
	}
	if !r.fed || at != r.pos {
		r.jump(at)
	}
	for len(p) > 0 {
		n := r.step(p)
		r.pos += LSN(n)
		p = p[n:]
	}
}

// Continues tells whether bytes from at on would be read with knowledge of those
// in front of them: they follow what was read, or begin where one of the last two
// segments does.
func (r *Reader) Continues(at LSN) bool {
	if r.fed && at == r.pos {
		return true
	}
	for _, b := range r.borders {
		if b.pos == at && at != 0 {
			return true
		}
	}
	return false
}

// Finish says that nothing follows the bytes that were read. It tells the
// visitor of the bytes at the end that could not be checked.
func (r *Reader) Finish() {
	if !r.fed {
		return
	}
	r.fed = false
	if from, open := r.Open(); open {
		r.visit.Unchecked(from, r.pos)
	}
}

// Open is the position from which on the bytes that were read have not been
// checked, or not to their end. ok is false if there are none: all records that
// have begun are complete and sound.
func (r *Reader) Open() (from LSN, ok bool) {
	switch {
	case r.dark:
		return r.darkFrom, r.pos > r.darkFrom
	case r.mode == modeHead, r.mode == modeBody:
		return r.start, true
	default:
		return 0, false
	}
}

// Lost tells whether the Reader has met with a fault and has not found a page since
// with which the log could go on. At the end of a segment it says that the log does
// not reach that end: from [Reader.End] on there is nothing of it, or it was
// destroyed, which the bytes cannot tell apart. Within a record that goes on in the
// next segment nothing is noticed; a server sends no piece that ends there.
func (r *Reader) Lost() bool { return r.mode == modeLost && r.faultTold }

// Position is the position after the last byte that was read.
func (r *Reader) Position() LSN { return r.pos }

// End is where the sound part of the log ends: behind its last complete record,
// where the next one can begin. Behind a switch it is the end of the segment if
// that was read. After a Fault it stays in front of it until a record is sound
// again.
func (r *Reader) End() LSN { return r.sound }

// Major is the major version of PostgreSQL that wrote what was read. known is
// false before the first page, and for versions that are not known here.
func (r *Reader) Major() (major int, known bool) { return MajorOfMagic(r.rules.magic) }

// SetHistory changes the history that the pages are compared with, from the
// next one on.
func (r *Reader) SetHistory(h History) { r.rules.setHistory(h) }

// jump goes to a position that does not follow the last one.
func (r *Reader) jump(at LSN) {
	r.Finish()
	r.fed = true
	r.flow = flow{pos: at, dark: true, darkFrom: at, sound: at}
	for i := range r.borders {
		switch b := &r.borders[i]; {
		case b.pos > at:
			*b = flow{} // another piece of the log may take its place
		case b.pos == at && at != 0:
			r.flow = *b
		}
	}
	r.rules.timeline = r.timeline
}

// keepBorder keeps how things are where a segment begins.
func (r *Reader) keepBorder() {
	r.timeline = r.rules.timeline
	if r.borders[0].pos != r.pos {
		r.borders[1] = r.borders[0]
	}
	r.borders[0] = r.flow
}

// step reads at least one byte of p and at most those up to the next end of a
// page, and returns how many.
func (r *Reader) step(p []byte) int {
	mask := LSN(r.pageLength() - 1)
	if r.pageLen > 0 || r.pos&mask == 0 {
		return r.pageHeader(p)
	}
	if left := mask + 1 - r.pos&mask; left < LSN(len(p)) {
		p = p[:left]
	}
	switch r.mode {
	case modeRecord:
		return r.readRecords(p)
	case modeHead:
		return r.readHead(p)
	case modeBody:
		return r.readBody(p)
	case modeRest:
		return r.readRest(p)
	case modePad:
		return r.readPadding(p)
	case modeEmpty:
		r.readEmpty(p)
	}
	return len(p)
}

// pageLength is the length of a page. Before it is known there are only
// segments.
func (r *Reader) pageLength() int64 {
	if r.rules.block != 0 {
		return r.rules.block
	}
	return int64(r.rules.id.Size)
}

// fault tells that something is wrong and gives up what was begun.
func (r *Reader) fault(at LSN, format string, args ...any) {
	if !r.dark {
		r.dark, r.darkFrom = true, r.sound
	}
	if !r.faultTold {
		r.faultTold = true
		r.visit.Fault(Fault{LSN: at, End: r.sound, Reason: fmt.Sprintf(format, args...)})
	}
	r.mode = modeLost
	r.linked = false
	r.overwrite = false
	r.rules.timeline = 0 // what was wrong may have been the timeline before
}
