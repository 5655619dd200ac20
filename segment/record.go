package segment

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"time"
)

// recordHeaderLen is the length of a record's header. Records begin at
// multiples of recordAlign.
const (
	recordHeaderLen = 24
	recordAlign     = 8
	crcOffset       = 20 // the checksum ends the header and covers what is before it
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// RecordKind tells the few kinds of records apart that say something about the
// log as a whole.
type RecordKind uint8

// The kinds of records.
const (
	OtherRecord     RecordKind = iota
	CommitRecord               // of a transaction, prepared before or not
	AbortRecord                // the same
	RestorePoint               // pg_create_restore_point
	SwitchRecord               // the rest of the segment is not in use
	OverwriteRecord            // a record begun before lost its end in a crash and is void
)

// Record is what a [Reader] tells of a sound record.
type Record struct {
	LSN  LSN // of its first byte
	Prev LSN // of the record before
	// End is the position after its last byte, rounded up to where a record can
	// begin: what a commit waits for, and what a recovery target compares. A
	// switch ends at the end of its segment.
	End      LSN
	Timeline TimelineID // of the page on which it begins, see [PageHeader]
	Length   uint32     // bytes, header included, without the page headers inside
	XID      uint32     // 0 if it belongs to no transaction
	Manager  ResourceManager
	Info     uint8 // the upper half is the manager's own
	Kind     RecordKind

	prepared uint32 // the transaction that is finished by another one, 0 if none is

	micros int64  // of commits, aborts and restore points: since 2000-01-01
	name   []byte // of restore points
}

// Time is when a transaction committed or aborted, or a restore point was made,
// by the clock of the server; in UTC, to the microsecond. It is the zero time for
// other kinds of records. Times need not increase from record to record.
func (r *Record) Time() time.Time {
	switch r.Kind {
	case CommitRecord, AbortRecord, RestorePoint:
		return serverTime(r.micros)
	default:
		return time.Time{}
	}
}

// Transaction is the number of the transaction that the record is of. It is XID, but
// for the end of a prepared transaction, which stands in a record of no transaction.
func (r *Record) Transaction() uint32 {
	if r.prepared != 0 {
		return r.prepared
	}
	return r.XID
}

// Name is the name of a restore point, and "" for other kinds of records.
func (r *Record) Name() string { return string(r.name) }

// serverTime turns a timestamptz into a time. The server's range is wider than
// that of time.Duration.
func serverTime(micros int64) time.Time {
	const million = 1_000_000
	const epoch = 946_684_800 // 2000-01-01 in Unix seconds
	return time.Unix(epoch+micros/million, micros%million*1000).UTC()
}

// ResourceManager is the part of the server that a record belongs to. From 128
// on they are extensions', of PostgreSQL 15 and later.
type ResourceManager uint8

// The resource managers and the kinds of their records, the upper half of
// Record.Info, that matter here.
const (
	managerXLOG        ResourceManager = 0
	managerTransaction ResourceManager = 1
	firstCustomManager ResourceManager = 128

	infoMask = 0xF0

	xlogSwitch            = 0x40
	xlogRestorePoint      = 0x70
	xlogOverwriteContinue = 0xD0

	xactOpMask         = 0x70
	xactCommit         = 0x00
	xactAbort          = 0x20
	xactCommitPrepared = 0x30
	xactAbortPrepared  = 0x40
)

var managerNames = [...]string{
	"XLOG", "Transaction", "Storage", "CLOG", "Database", "Tablespace", "MultiXact", "RelMap", "Standby", "Heap2", "Heap",
	"Btree", "Hash", "Gin", "Gist", "Sequence", "SPGist", "BRIN", "CommitTs", "ReplicationOrigin", "Generic", "LogicalMessage",
}

// String gives the name that pg_waldump prints.
func (m ResourceManager) String() string {
	switch {
	case int(m) < len(managerNames):
		return managerNames[m]
	case m >= firstCustomManager:
		return fmt.Sprintf("custom%03d", uint8(m))
	default:
		return fmt.Sprintf("unknown%03d", uint8(m))
	}
}

// recordRules is what a version of PostgreSQL says of the headers of its records.
type recordRules struct {
	longest uint32          // bytes of a record
	last    ResourceManager // of those that are built in
	custom  bool            // there can be others from 128 on
	padded  bool            // bytes without a meaning are known to be zero
}

// rulesOfMagic gives the rules for pages with a magic number. Those for an
// unknown one refuse nothing but what no layout of this kind can mean.
func rulesOfMagic(magic uint16) recordRules {
	const (
		maxAlloc  = 1<<30 - 1  // what a server can read back
		maxRecord = 1020 << 20 // what it refuses to write from 16 on
		builtin   = ResourceManager(len(managerNames) - 1)
	)
	major, known := MajorOfMagic(magic)
	switch {
	case !known:
		return recordRules{longest: maxAlloc, last: math.MaxUint8}
	case major < 15:
		return recordRules{longest: maxAlloc, last: builtin, padded: true}
	case major < 16:
		return recordRules{longest: maxAlloc, last: builtin, custom: true, padded: true}
	default:
		return recordRules{longest: maxRecord, last: builtin, custom: true, padded: true}
	}
}

// lengthFault says why a record cannot have this length, or "".
func (c recordRules) lengthFault(length uint32) string {
	switch {
	case length == 0:
		return "there is no record here, its length is 0"
	case length < recordHeaderLen:
		return fmt.Sprintf("a record of %d bytes is shorter than its header", length)
	case length > c.longest:
		return fmt.Sprintf("a record of %d bytes is too long", length)
	}
	return ""
}

// headerFault says what is wrong with a record's header taken by itself, or "".
func (c recordRules) headerFault(h *recordHeader) string {
	if reason := c.lengthFault(h.length); reason != "" {
		return reason
	}
	switch {
	case !c.takes(h.manager):
		return fmt.Sprintf("there is no resource manager %d", uint8(h.manager))
	case h.padding != 0 && c.padded:
		return "the padding of the record header is not zero"
	case h.isSwitch() && h.length != recordHeaderLen:
		return fmt.Sprintf("a switch to the next segment of %d bytes", h.length)
	}
	return ""
}

// takes tells whether a version has a resource manager.
func (c recordRules) takes(m ResourceManager) bool {
	return m <= c.last || c.custom && m >= firstCustomManager
}

// recordHeader is what stands at the beginning of every record.
type recordHeader struct {
	length  uint32
	xid     uint32
	prev    LSN
	info    uint8
	manager ResourceManager
	padding uint16
	crc     uint32
}

// parseRecordHeader reads the header at the beginning of p.
func parseRecordHeader(p []byte) recordHeader {
	_ = p[recordHeaderLen-1]
	return recordHeader{
		length:  binary.LittleEndian.Uint32(p),
		xid:     binary.LittleEndian.Uint32(p[4:]),
		prev:    LSN(binary.LittleEndian.Uint64(p[8:])),
		info:    p[16],
		manager: ResourceManager(p[17]),
		padding: binary.LittleEndian.Uint16(p[18:]),
		crc:     binary.LittleEndian.Uint32(p[crcOffset:]),
	}
}

func (h *recordHeader) isSwitch() bool {
	return h.manager == managerXLOG && h.info&infoMask == xlogSwitch
}

func (h *recordHeader) isOverwrite() bool {
	return h.manager == managerXLOG && h.info&infoMask == xlogOverwriteContinue
}

// changesCourse tells whether something else than another record may follow, or
// may have been in front.
func (h *recordHeader) changesCourse() bool {
	return h.manager == managerXLOG && (h.isSwitch() || h.isOverwrite())
}

// finishesPrepared tells whether it is the end of a transaction that was prepared.
func (h *recordHeader) finishesPrepared() bool {
	op := h.info & xactOpMask
	return h.manager == managerTransaction && (op == xactCommitPrepared || op == xactAbortPrepared)
}

// telling tells whether records like this one may be of a kind of their own.
func (h *recordHeader) telling() bool { return h.manager <= managerTransaction }
