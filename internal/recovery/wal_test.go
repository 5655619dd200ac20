package recovery_test

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/walrecv/walrecv/segment"
)

const (
	testSystem = 7411122233344455566
	mib        = segment.Size(1 << 20)
	pageSize   = 8192
)

// entry is what a recovery could stop at: a record of the log.
type entry struct {
	at, end segment.LSN
	ends    bool   // a transaction
	xid     uint32 // that one
	time    time.Time
	name    string // of a restore point
}

// wal is a log as a server of version 15 writes it, of one timeline and those that it
// came from.
type wal struct {
	timeline segment.TimelineID
	start    segment.LSN
	data     []byte
	prev     segment.LSN
	entries  []entry
	history  string // the text of its file
}

func newWAL(start segment.LSN) *wal { return &wal{timeline: 1, start: start, prev: start - 64} }

func (w *wal) pos() segment.LSN { return w.start + segment.LSN(len(w.data)) }

// fork begins another timeline here.
func (w *wal) fork(t segment.TimelineID) *wal {
	child := *w
	child.timeline = t
	child.data = append([]byte(nil), w.data...)
	child.entries = append([]entry(nil), w.entries...)
	child.history = w.history + fmt.Sprintf("%d\t%s\tno recovery target specified\n", w.timeline, w.pos())
	return &child
}

func (w *wal) page(owed int) {
	at := w.pos()
	h := binary.LittleEndian.AppendUint16(nil, 0xD110)
	flags := uint16(4)
	if owed > 0 {
		flags |= 1
	}
	if at%segment.LSN(mib) == 0 {
		flags |= 2
	}
	h = binary.LittleEndian.AppendUint16(h, flags)
	h = binary.LittleEndian.AppendUint32(h, uint32(w.timeline))
	h = binary.LittleEndian.AppendUint64(h, uint64(at))
	h = binary.LittleEndian.AppendUint64(h, uint64(owed))
	if flags&2 != 0 {
		h = binary.LittleEndian.AppendUint64(h, testSystem)
		h = binary.LittleEndian.AppendUint32(h, uint32(mib))
		h = binary.LittleEndian.AppendUint32(h, pageSize)
	}
	w.data = append(w.data, h...)
}

func (w *wal) left() int { return (pageSize - len(w.data)%pageSize) % pageSize }

// record appends a record, over as many pages as it takes.
func (w *wal) record(manager, info byte, xid uint32, body []byte) entry {
	if w.left() == 0 {
		w.page(0)
	}
	e := entry{at: w.pos()}
	b := binary.LittleEndian.AppendUint32(nil, uint32(24+len(body)))
	b = binary.LittleEndian.AppendUint32(b, xid)
	b = binary.LittleEndian.AppendUint64(b, uint64(w.prev))
	b = append(b, info, manager, 0, 0)
	table := crc32.MakeTable(crc32.Castagnoli)
	b = binary.LittleEndian.AppendUint32(b, crc32.Update(crc32.Checksum(body, table), table, b))
	b = append(b, body...)
	for len(b) > 0 {
		if w.left() == 0 {
			w.page(len(b))
		}
		n := min(len(b), w.left())
		w.data = append(w.data, b[:n]...)
		b = b[n:]
	}
	w.data = append(w.data, make([]byte, -len(w.data)&7)...)
	w.prev = e.at
	e.end = w.pos()
	return e
}

// data is the body of a record that has nothing but data.
func data(b []byte) []byte {
	if len(b) > 255 {
		return append(binary.LittleEndian.AppendUint32([]byte{254}, uint32(len(b))), b...)
	}
	return append([]byte{255, byte(len(b))}, b...)
}

func stamp(t time.Time) []byte {
	return binary.LittleEndian.AppendUint64(nil, uint64(t.UnixMicro()-946_684_800_000_000))
}

// filler appends a record of no interest.
func (w *wal) filler(length int) {
	e := w.record(10, 0, 9, data(make([]byte, length)))
	w.entries = append(w.entries, e)
}

// finish ends a transaction; commit or abort, prepared before or not.
func (w *wal) finish(xid uint32, t time.Time, info byte) {
	body, own := stamp(t), xid
	if info == 0x30 || info == 0x40 { // prepared
		body = binary.LittleEndian.AppendUint32(body, 1<<4|1<<2|1<<1|1)
		body = append(body, make([]byte, 8)...)
		for _, size := range []int{4, 12} { // long lists of subtransactions and of files
			body = binary.LittleEndian.AppendUint32(body, 100)
			body = append(body, make([]byte, 100*size)...)
		}
		body = binary.LittleEndian.AppendUint32(body, xid)
		info, own = info|0x80, 0
	}
	e := w.record(1, info, own, data(body))
	e.ends, e.xid, e.time = true, xid, t
	w.entries = append(w.entries, e)
}

func (w *wal) commit(xid uint32, t time.Time) { w.finish(xid, t, 0) }

func (w *wal) point(name string, t time.Time) {
	e := w.record(0, 0x70, 0, data(append(stamp(t), append([]byte(name), make([]byte, 64-len(name))...)...)))
	e.name, e.time = name, t
	w.entries = append(w.entries, e)
}

// segment is the bytes of a segment, with zeros behind the log.
func (w *wal) segment(number uint64) []byte {
	b := make([]byte, mib)
	copy(b, w.data[mib.Start(number)-w.start:])
	return b
}

// fill goes on to the next segment.
func (w *wal) fill() {
	for next := mib.Number(w.pos()) + 1; mib.Number(w.pos()) < next; {
		w.filler(int(min(100_000, mib.Start(next)-w.pos())))
	}
}
