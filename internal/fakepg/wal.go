package fakepg

import (
	"encoding/binary"
	"hash/crc32"
)

// magics are the first two bytes of a page, by major version.
var magics = map[int]uint16{13: 0xD106, 14: 0xD10D, 15: 0xD110, 16: 0xD113, 17: 0xD116, 18: 0xD118}

const (
	shortHeader = 24
	longHeader  = 40 // of the first page of a segment

	recordHeader = 24
	recordLength = 64 // of all records but the last one of a page, which fills it
)

// pages is the WAL of a server that was given no other: pages full of records
// that mean nothing. It depends on the timeline and the position only.
func (s *Server) pages(writer uint32, at uint64, p []byte) {
	var page [PageSize]byte
	for len(p) > 0 {
		s.page(&page, writer, at-at%PageSize)
		n := copy(p, page[at%PageSize:])
		at, p = at+uint64(n), p[n:]
	}
}

func (s *Server) page(page *[PageSize]byte, writer uint32, start uint64) {
	offset := uint64(copy(page[:], s.pageHeader(writer, start)))
	for offset < PageSize {
		record := page[offset:min(offset+recordLength, PageSize)]
		fillRecord(record, writer, start+offset, s.recordBefore(start+offset))
		offset += uint64(len(record))
	}
}

// recordBefore is where the record begins that ends at lsn, where one begins.
func (s *Server) recordBefore(lsn uint64) uint64 {
	page := lsn - lsn%PageSize
	if lsn > page+s.headerLength(page) {
		return lsn - recordLength
	}
	if page == 0 {
		return 0
	}
	page -= PageSize
	first := page + s.headerLength(page)
	return first + (PageSize-s.headerLength(page)-1)/recordLength*recordLength
}

// fillRecord makes a record of the resource manager XLOG that does nothing.
func fillRecord(p []byte, timeline uint32, lsn, prev uint64) {
	const (
		noop      = 0x20
		infoAt    = 16
		managerAt = 17
		crcAt     = 20
	)
	clear(p[:recordHeader])
	binary.LittleEndian.PutUint32(p, uint32(len(p)))
	binary.LittleEndian.PutUint64(p[8:], prev)
	p[infoAt], p[managerAt] = noop, 0
	fillPattern(timeline, lsn+recordHeader, p[recordHeader:])
	crc := crc32.Checksum(p[recordHeader:], castagnoli)
	binary.LittleEndian.PutUint32(p[crcAt:], crc32.Update(crc, castagnoli, p[:crcAt]))
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (s *Server) headerLength(page uint64) uint64 {
	if page%s.config.SegmentSize == 0 {
		return longHeader
	}
	return shortHeader
}

// pageHeader makes the header of the page at start: a long one at the beginning
// of a segment.
func (s *Server) pageHeader(timeline uint32, start uint64) []byte {
	const longFlag = 0x0002
	h := make([]byte, shortHeader, longHeader)
	binary.LittleEndian.PutUint16(h, magics[s.major])
	binary.LittleEndian.PutUint32(h[4:], timeline)
	binary.LittleEndian.PutUint64(h[8:], start)
	if start%s.config.SegmentSize != 0 {
		return h
	}
	binary.LittleEndian.PutUint16(h[2:], longFlag)
	h = binary.LittleEndian.AppendUint64(h, s.config.SystemID)
	h = binary.LittleEndian.AppendUint32(h, uint32(s.config.SegmentSize))
	return binary.LittleEndian.AppendUint32(h, PageSize)
}

// fillPattern writes bytes that depend on the timeline and the position only.
// None of them is zero, so that a byte which was never written shows.
func fillPattern(timeline uint32, lsn uint64, p []byte) {
	for i := range p {
		at := lsn + uint64(i)
		word := (at>>3 + uint64(timeline)<<56) * 0x9E3779B97F4A7C15
		word ^= word >> 29
		p[i] = byte(word>>(at&7*8)) | 1
	}
}
