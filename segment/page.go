package segment

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// The lengths of a page header, in bytes. The long one is on the first page of
// a segment, and only there.
const (
	shortHeaderLen = 24
	longHeaderLen  = 40
)

// The bits of PageHeader.Info. No other bit is ever set.
const (
	infoContRecord          uint16 = 1 << iota // the page begins inside of a record
	infoLong                                   // the header is a long one
	infoRemovable                              // of no use here; set or not set at the server's whim
	infoOverwriteContRecord                    // a record that was begun before is abandoned
	infoKnown               = infoContRecord | infoLong | infoRemovable | infoOverwriteContRecord
)

// PageHeader is what stands at the beginning of every WAL page.
type PageHeader struct {
	Magic    uint16     // identifies the format; see MajorOfMagic
	Info     uint16     // flags
	Timeline TimelineID // of the page's first record; an ancestor of the file's at times
	Addr     LSN        // position of the page's first byte
	RemLen   uint32     // bytes still missing of a record begun on an earlier page
	Long     bool       // the fields below are there

	SystemID    uint64
	SegmentSize uint32 // in bytes
	BlockSize   uint32 // length of a page, in bytes
}

// Identity is what all segments of a cluster have in common.
type Identity struct {
	SystemID uint64 // 0 if not known
	Size     Size
}

// ParsePageHeader reads the header at the beginning of p, which may be longer.
// It reads little-endian files, which is what every server on x86-64 and on
// arm64 writes. It fails only if p is too short; whether the values make sense
// is for [CheckFirstPage] and [CheckPages] to say.
func ParsePageHeader(p []byte) (PageHeader, error) {
	if len(p) < shortHeaderLen {
		return PageHeader{}, fmt.Errorf("%d bytes are too few for a page header", len(p))
	}
	h := parseShortHeader(p)
	if !h.Long {
		return h, nil
	}
	if len(p) < longHeaderLen {
		return PageHeader{}, fmt.Errorf("%d bytes are too few for a long page header", len(p))
	}
	h.parseLong(p)
	return h, nil
}

// parseShortHeader reads what every page header has.
func parseShortHeader(p []byte) PageHeader {
	_ = p[shortHeaderLen-1]
	h := PageHeader{
		Magic:    binary.LittleEndian.Uint16(p),
		Info:     binary.LittleEndian.Uint16(p[2:]),
		Timeline: TimelineID(binary.LittleEndian.Uint32(p[4:])),
		Addr:     LSN(binary.LittleEndian.Uint64(p[8:])),
		RemLen:   binary.LittleEndian.Uint32(p[16:]), // four bytes of padding follow
	}
	h.Long = h.Info&infoLong != 0
	return h
}

// parseLong reads what only a long header has.
func (h *PageHeader) parseLong(p []byte) {
	_ = p[longHeaderLen-1]
	h.SystemID = binary.LittleEndian.Uint64(p[24:])
	h.SegmentSize = binary.LittleEndian.Uint32(p[32:])
	h.BlockSize = binary.LittleEndian.Uint32(p[36:])
}

// firstMajor is the oldest version whose pages are known, that of magics[0].
const firstMajor = 10

// magics are the magic numbers of the pages of each major version.
var magics = [...]uint16{0xD097, 0xD098, 0xD101, 0xD106, 0xD10D, 0xD110, 0xD113, 0xD116, 0xD118}

// MajorOfMagic is the major version of PostgreSQL that writes pages with this
// magic number. The layout of pages is the same for all of them, so an unknown
// number tells of a newer server rather than of damage.
func MajorOfMagic(magic uint16) (major int, known bool) {
	i := slices.Index(magics[:], magic)
	if i < 0 {
		return 0, false
	}
	return firstMajor + i, true
}

// isKnownMajor tells whether the magic number of a major version is known.
func isKnownMajor(major int) bool {
	return major >= firstMajor && major < firstMajor+len(magics)
}

// headerLen is the length of the header itself.
func (h PageHeader) headerLen() int64 {
	if h.Long {
		return longHeaderLen
	}
	return shortHeaderLen
}

// fault says what is wrong with a header taken by itself, or "".
func (h PageHeader) fault() string {
	continued := h.Info&infoContRecord != 0
	switch {
	case h.Info&^infoKnown != 0:
		return fmt.Sprintf("unknown flags %#x", h.Info)
	case h.Timeline == 0:
		return "timeline 0"
	case continued && h.RemLen == 0:
		return "nothing is left of the record that it continues"
	case !continued && h.RemLen != 0:
		return fmt.Sprintf("%d bytes are left of a record that it does not continue", h.RemLen)
	case continued && h.Info&infoOverwriteContRecord != 0:
		return "it both continues and abandons a record"
	}
	return ""
}
