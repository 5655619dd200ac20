package segment

import "encoding/binary"

// The bits that say which parts the end of a transaction has, in the order of the
// parts; and the one in the record's info that says that these bits are there.
const (
	xactHasInfo = 0x80

	xactDatabase   = 1 << 0
	xactSubxacts   = 1 << 1
	xactRelations  = 1 << 2
	xactStatistics = 1 << 8 // from 15 on; before the next one
	xactInvals     = 1 << 3
	xactTwophase   = 1 << 4
)

// preparedFinder finds, in the body of the record with which a prepared transaction
// ends, the number of that transaction. It stands behind lists of any length, so the
// body is read as it comes. The zero value is at the beginning.
type preparedFinder struct {
	step  preparedStep
	skip  uint64 // bytes to be left out before what is looked for
	value [4]byte
	got   int
	parts uint32 // that are still to come
	xid   uint32 // 0 as long as it was not found
}

// preparedStep is what is looked for, a number of four bytes unless it says otherwise.
type preparedStep uint8

const (
	stepHead  preparedStep = iota // one byte: which header of the body follows
	stepShort                     // one byte: the length of the data
	stepParts                     // which parts there are
	stepPart                      // what the next part begins with
	stepDone
)

// width is how many bytes a step takes.
func (s preparedStep) width() int {
	if s <= stepShort {
		return 1
	}
	return 4
}

// read reads a piece of the body of a record with an info, on pages with a magic number.
func (f *preparedFinder) read(p []byte, info uint8, magic uint16) {
	for len(p) > 0 && f.step != stepDone {
		if f.skip > 0 {
			n := min(f.skip, uint64(len(p)))
			f.skip -= n
			p = p[n:]
			continue
		}
		n := copy(f.value[f.got:f.step.width()], p)
		f.got += n
		p = p[n:]
		if f.got == f.step.width() {
			f.next(info, magic)
			f.got = 0
		}
	}
}

// next goes on behind what was looked for.
func (f *preparedFinder) next(info uint8, magic uint16) {
	value := binary.LittleEndian.Uint32(f.value[:])
	switch f.step {
	case stepHead:
		f.head(f.value[0])
	case stepShort:
		f.data()
	case stepParts:
		f.parts = value
		f.part()
	case stepPart:
		f.list(value, magic)
	}
	if f.step == stepParts && info&xactHasInfo == 0 {
		f.step = stepDone
	}
}

// head goes on behind the first byte of a header of the body.
func (f *preparedFinder) head(id byte) {
	switch id {
	case partTopXID:
		f.skip = 4
	case partOrigin:
		f.skip = 2
	case partDataShort:
		f.step = stepShort
	case partDataLong:
		f.skip = 4 // its length
		f.data()
	default:
		f.step = stepDone // nothing that the end of a transaction has
	}
}

// data goes on where the data begins, with a time.
func (f *preparedFinder) data() {
	f.skip += 8
	f.step = stepParts
}

// part goes on where the next part begins.
func (f *preparedFinder) part() {
	if f.parts&xactDatabase != 0 {
		f.parts &^= xactDatabase
		f.skip += 8
	}
	f.step = stepDone
	if f.parts&(xactSubxacts|xactRelations|xactStatistics|xactInvals|xactTwophase) != 0 {
		f.step = stepPart
	}
}

// list goes on behind the first number of a part: how many items it has, or the one
// that is looked for.
func (f *preparedFinder) list(value uint32, magic uint16) {
	for _, part := range [...]struct{ bit, size uint32 }{
		{xactSubxacts, 4}, {xactRelations, 12}, {xactStatistics, statisticsSize(magic)}, {xactInvals, 16},
	} {
		if f.parts&part.bit != 0 {
			f.parts &^= part.bit
			f.skip = uint64(value) * uint64(part.size)
			f.part()
			return
		}
	}
	f.xid = value
	f.step = stepDone
}

// statisticsSize is the length of what names an object whose statistics go.
func statisticsSize(magic uint16) uint32 {
	if major, known := MajorOfMagic(magic); known && major < 18 {
		return 12
	}
	return 16
}
