package segment_test

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/walrecv/walrecv/segment"
)

// The resource managers and kinds of records that the tests write.
const (
	rmXLOG = 0
	rmXact = 1
	rmHeap = 10

	infoSwitch       = 0x40
	infoRestorePoint = 0x70
	infoOverwrite    = 0xD0
	infoCommit       = 0x80 // with further data, as most commits have
)

// walMaker writes a log as a server does, for tests: pages, records over any
// number of them, and whatever else there is.
type walMaker struct {
	segment.PageHeader // of the next page: magic, timeline, cluster
	segmentSize        segment.Size
	start              segment.LSN
	data               []byte
	prev               segment.LSN // of the next record
	begun              segment.LSN // the record that is abandoned next
	want               []string    // what a Reader must say of it
}

// newWAL begins a log where a segment begins. The record before it is said to be
// in the segment before.
func newWAL(size segment.Size, block uint32, start segment.LSN) *walMaker {
	return &walMaker{
		PageHeader: segment.PageHeader{
			Magic: 0xD110, Timeline: 1, SystemID: sampleSystem, SegmentSize: uint32(size), BlockSize: block,
		},
		segmentSize: size, start: start, prev: start - 64,
	}
}

// options are those of a Reader that knows all of this log.
func (w *walMaker) options() segment.ReaderOptions {
	major, _ := segment.MajorOfMagic(w.Magic)
	return segment.ReaderOptions{
		Identity: segment.Identity{SystemID: w.SystemID, Size: w.segmentSize},
		Major:    major,
		History:  segment.History{Timeline: w.Timeline},
	}
}

func (w *walMaker) pos() segment.LSN { return w.start + segment.LSN(len(w.data)) }

// left is how much fits on the page.
func (w *walMaker) left() int {
	block := int(w.BlockSize)
	return (block - len(w.data)%block) % block
}

// page begins a page of which the first owed bytes belong to a record begun
// before.
func (w *walMaker) page(owed int, flags uint16) {
	h := w.PageHeader
	h.Addr, h.Info, h.RemLen = w.pos(), flags|flagRemovable, uint32(owed)
	if owed > 0 {
		h.Info |= flagContinued
	}
	if h.Addr%segment.LSN(w.segmentSize) == 0 {
		h.Info |= flagLong
		h.Long = true
	}
	w.data = append(w.data, encodeHeader(h)...)
}

// ready makes sure that a record can begin.
func (w *walMaker) ready() {
	if w.left() == 0 {
		w.page(0, 0)
	}
}

// encode makes the next record.
func (w *walMaker) encode(rm, info byte, xid uint32, body []byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(24+len(body)))
	b = binary.LittleEndian.AppendUint32(b, xid)
	b = binary.LittleEndian.AppendUint64(b, uint64(w.prev))
	b = append(b, info, rm, 0, 0)
	table := crc32.MakeTable(crc32.Castagnoli)
	crc := crc32.Update(crc32.Update(0, table, body), table, b)
	b = binary.LittleEndian.AppendUint32(b, crc)
	return append(b, body...)
}

// put writes bytes of a record, total of them in all, over as many pages as it
// takes.
func (w *walMaker) put(b []byte, total int) {
	for len(b) > 0 {
		if w.left() == 0 {
			w.page(total, 0)
		}
		n := min(len(b), w.left())
		w.data = append(w.data, b[:n]...)
		b = b[n:]
		total -= n
	}
}

// record writes a record and returns where it begins.
func (w *walMaker) record(rm, info byte, xid uint32, body []byte) segment.LSN {
	w.ready()
	at := w.pos()
	timeline := w.pageTimeline()
	b := w.encode(rm, info, xid, body)
	w.put(b, len(b))
	w.data = append(w.data, make([]byte, -len(w.data)&7)...)
	w.say(at, w.pos(), timeline, rm, info, xid, b)
	w.prev = at
	return at
}

// pageTimeline is the timeline of the page that the next byte is on.
func (w *walMaker) pageTimeline() segment.TimelineID {
	page := len(w.data) / int(w.BlockSize) * int(w.BlockSize)
	return segment.TimelineID(binary.LittleEndian.Uint32(w.data[page+4:]))
}

func (w *walMaker) say(at, end segment.LSN, timeline segment.TimelineID, rm, info byte, xid uint32, b []byte) {
	w.want = append(w.want, fmt.Sprintf("record %s-%s tli %d len %d rm %d info %02X xid %d prev %s%s",
		at, end, timeline, len(b), rm, info, xid, w.prev, kindOf(rm, info, b[24:])))
}

// kindOf is what a Reader says of the kinds of records that it tells apart.
func kindOf(rm, info byte, body []byte) string {
	switch {
	case rm == rmXLOG && info&0xF0 == infoSwitch:
		return " switch"
	case rm == rmXLOG && info&0xF0 == infoOverwrite:
		return " overwrite"
	case rm == rmXLOG && info&0xF0 == infoRestorePoint && len(body) >= 74:
		return fmt.Sprintf(" restore point %q at %s", trimZeros(body[10:74]), stamp(binary.LittleEndian.Uint64(body[2:])))
	case rm == rmXact && info == infoCommit && len(body) >= 10:
		return " commit at " + stamp(binary.LittleEndian.Uint64(body[2:]))
	}
	return ""
}

func trimZeros(b []byte) string {
	if i := slices.Index(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

// data makes the body of a record that has main data only.
func data(b ...byte) []byte {
	if len(b) > 255 {
		return append(binary.LittleEndian.AppendUint32([]byte{254}, uint32(len(b))), b...)
	}
	return append([]byte{255, byte(len(b))}, b...)
}

// filler is the body of a record of a length, with nothing of interest in it.
func filler(length int) []byte {
	b := make([]byte, length-24)
	for i := range b {
		b[i] = byte(i*7 + 1)
	}
	return b
}

// fill writes records until n bytes are left on the page, a multiple of 8.
func (w *walMaker) fill(n int) {
	if n%8 != 0 {
		panic("no record can begin there")
	}
	w.ready()
	for w.left() != n {
		room := (w.left() - n + int(w.BlockSize)) % int(w.BlockSize)
		if room < 24 {
			room += 24
		}
		w.record(rmHeap, 0, 7, filler(min(room, 4000)))
	}
}

// commit writes a commit at a time, in microseconds since 2000.
func (w *walMaker) commit(xid uint32, micros uint64) segment.LSN {
	body := binary.LittleEndian.AppendUint64(nil, micros)
	return w.record(rmXact, infoCommit, xid, data(append(body, 1, 0, 0, 0)...))
}

// restorePoint writes a named restore point.
func (w *walMaker) restorePoint(name string, micros uint64) {
	body := binary.LittleEndian.AppendUint64(nil, micros)
	body = append(body, make([]byte, 64)...)
	copy(body[8:71], name)
	w.record(rmXLOG, infoRestorePoint, 0, data(body...))
}

// switchSegment writes a switch and fills the segment up with zeros.
func (w *walMaker) switchSegment() {
	w.ready()
	at, prev := w.pos(), w.prev
	timeline := w.pageTimeline()
	b := w.encode(rmXLOG, infoSwitch, 0, nil)
	w.put(b, len(b))
	w.zeros()
	w.prev = prev
	w.say(at, w.pos(), timeline, rmXLOG, infoSwitch, 0, b)
	w.prev = at
}

// zeros fills the segment up.
func (w *walMaker) zeros() {
	size := int(w.segmentSize)
	w.data = append(w.data, make([]byte, (size-len(w.data)%size)%size)...)
}

// lose writes the first n bytes of a record, up to the end of a page, and the
// server crashes.
func (w *walMaker) lose(body []byte, n int) {
	w.ready()
	w.begun = w.pos()
	b := w.encode(rmHeap, 0, 9, body)
	w.put(b[:n], len(b))
	if w.left() != 0 {
		panic(fmt.Sprintf("%d bytes left on the page", w.left()))
	}
}

// roomFor is how many bytes of a record fit up to the end of the n-th page from
// here, if it begins here.
func (w *walMaker) roomFor(pages int) int {
	w.ready()
	room := w.left()
	for at := w.pos() + segment.LSN(room); pages > 1; pages-- {
		room += int(w.BlockSize) - 24
		if at%segment.LSN(w.segmentSize) == 0 {
			room -= 16
		}
		at += segment.LSN(w.BlockSize)
	}
	return room
}

// overwrite goes on after a crash in which a record lost its end.
func (w *walMaker) overwrite() {
	w.page(0, flagAbandoned)
	body := binary.LittleEndian.AppendUint64(nil, uint64(w.begun))
	w.record(rmXLOG, infoOverwrite, 0, data(append(body, 1, 2, 3, 4, 5, 6, 7, 8)...))
}

// random writes records of all kinds.
func (w *walMaker) random(rnd *rand.Rand, count int) {
	for range count {
		switch rnd.IntN(40) {
		case 0:
			w.switchSegment()
		case 1:
			w.fill(8 * (1 + rnd.IntN(4)))
		case 2:
			n := w.roomFor(1 + rnd.IntN(5))
			w.lose(filler(n+24+rnd.IntN(10000)), n)
			w.overwrite()
		case 3, 4:
			w.record(rmHeap, 0, 1, filler(24+rnd.IntN(3*int(w.BlockSize))))
		case 5:
			w.restorePoint(fmt.Sprint("point ", rnd.IntN(100)), rnd.Uint64N(1<<50))
		case 6:
			w.Timeline++
		case 7, 8, 9, 10:
			w.commit(uint32(rnd.IntN(1000)), rnd.Uint64N(1<<50))
		default:
			w.record(rmHeap, 0, 1, filler(24+rnd.IntN(300)))
		}
	}
}

// events writes down what a Reader tells.
type events struct {
	t     testing.TB
	lines []string
}

func (e *events) Segment(segment.LSN) {}

func (e *events) Record(r *segment.Record) {
	line := fmt.Sprintf("record %s-%s tli %d len %d rm %d info %02X xid %d prev %s",
		r.LSN, r.End, r.Timeline, r.Length, uint8(r.Manager), r.Info, r.XID, r.Prev)
	at := stampTime(r.Time())
	switch r.Kind {
	case segment.CommitRecord:
		line += " commit at " + at
	case segment.AbortRecord:
		line += " abort at " + at
	case segment.RestorePoint:
		line += fmt.Sprintf(" restore point %q at %s", r.Name(), at)
	case segment.SwitchRecord:
		line += " switch"
	case segment.OverwriteRecord:
		line += " overwrite"
	}
	e.lines = append(e.lines, line)
}

func (e *events) Fault(f segment.Fault) { e.lines = append(e.lines, "fault: "+f.Error()) }

func (e *events) Unchecked(from, to segment.LSN) {
	if from >= to {
		e.t.Errorf("unchecked from %s to %s", from, to)
	}
	e.lines = append(e.lines, fmt.Sprintf("unchecked %s-%s", from, to))
}
