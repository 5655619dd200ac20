package segment

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

const (
	minBlockLen = 1 << 10
	maxBlockLen = 64 << 10
)

// emptyPage is what an unused page is compared with. It is never written to.
var emptyPage [maxBlockLen]byte

// pageRules is what the header of a page is measured by: the cluster that it
// must be of, and what the pages in front of it had in common. What a header
// says of records is left to those who know where records begin and end.
type pageRules struct {
	id   Identity
	last TimelineID // no page is of a later one; 0 if that is not known

	history History    // what timeline is where; its zero value if not known
	own     TimelineID // the one of pages that begin at ownFrom or later,
	ownFrom LSN
	ownEnd  LSN // and before this

	magic    uint16     // of the pages so far, 0 before the first
	block    int64      // bytes of a page, 0 before the first
	timeline TimelineID // of the page in front
}

// check reads the header of the page at addr, and says what is wrong with it,
// or "". p begins with the header; it must hold a long one where a segment
// begins and a short one elsewhere.
func (c *pageRules) check(p []byte, addr LSN) (h PageHeader, reason string) {
	h = parseShortHeader(p)
	first := c.id.Size.Offset(addr) == 0
	switch {
	case h.Addr != addr && bigEndian(p, addr):
		return h, "it was written by a big-endian server, which is not supported"
	case h.Addr != addr:
		return h, fmt.Sprintf("the page address is %s instead of %s", h.Addr, addr)
	case c.magic != 0 && h.Magic != c.magic:
		return h, fmt.Sprintf("the magic number is %04X, but %04X on the pages before", h.Magic, c.magic)
	case h.Long && !first:
		return h, "a long page header within the segment"
	case !h.Long && first:
		return h, "the first page has a short header"
	}
	if reason := h.fault(); reason != "" {
		return h, reason
	}
	if reason := c.timelineFault(h.Timeline, addr); reason != "" || !first {
		return h, reason
	}
	h.parseLong(p)
	return h, c.longFault(h)
}

// setHistory makes the pages of a history those that are expected. Without any
// ancestors it says of a timeline above 1 only that there is no later one.
func (c *pageRules) setHistory(h History) {
	c.last = h.Timeline
	c.history = History{}
	if h.Timeline == 1 || len(h.Entries) > 0 {
		c.history = h
	}
	c.ownFrom, c.ownEnd = 0, 0
}

// timelineFault says why the page at addr cannot be of a timeline, or "".
func (c *pageRules) timelineFault(t TimelineID, addr LSN) string {
	switch {
	case c.last != 0 && t > c.last:
		return fmt.Sprintf("timeline %d is after %d, the newest there can be", uint32(t), uint32(c.last))
	case t < c.timeline:
		return fmt.Sprintf("timeline %d, but the page before has %d", uint32(t), uint32(c.timeline))
	case c.history.Timeline == 0:
		return ""
	}
	if addr < c.ownFrom || addr >= c.ownEnd {
		c.own = c.history.TimelineAt(addr)
		c.ownFrom, c.ownEnd, _ = c.history.Bounds(c.own)
	}
	if t != c.own {
		return fmt.Sprintf("timeline %d, but the history has %d here", uint32(t), uint32(c.own))
	}
	return ""
}

// longFault says what is wrong with the fields that only a long header has, or
// "".
func (c *pageRules) longFault(h PageHeader) string {
	switch {
	case c.id.SystemID != 0 && h.SystemID != c.id.SystemID:
		return fmt.Sprintf("it belongs to the cluster with system identifier %d instead of %d", h.SystemID, c.id.SystemID)
	case int64(h.SegmentSize) != int64(c.id.Size):
		return fmt.Sprintf("it is of a cluster with segments of %s instead of %s", Size(h.SegmentSize), c.id.Size)
	case h.BlockSize < minBlockLen || h.BlockSize > maxBlockLen || h.BlockSize&(h.BlockSize-1) != 0:
		return fmt.Sprintf("%d bytes is not a page length", h.BlockSize)
	case c.block != 0 && int64(h.BlockSize) != c.block:
		return fmt.Sprintf("its pages are of %d bytes, but of %d before", h.BlockSize, c.block)
	}
	return ""
}

// accept takes over what the next page is measured by.
func (c *pageRules) accept(h PageHeader) {
	c.magic = h.Magic
	c.timeline = h.Timeline
	if h.Long {
		c.id.SystemID = h.SystemID
		c.block = int64(h.BlockSize)
	}
}

// bigEndian tells whether p, the page at addr that could not be made sense of,
// is one of a server with the other byte order.
func bigEndian(p []byte, addr LSN) bool {
	magic := binary.LittleEndian.Uint16(p)
	if _, known := MajorOfMagic(bits.ReverseBytes16(magic)); known {
		return true
	}
	return addr != 0 && LSN(binary.BigEndian.Uint64(p[8:])) == addr
}
