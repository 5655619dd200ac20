package segment

import (
	"bytes"
	"encoding/binary"
)

const (
	// keptLen is how much is kept of the body of a record that may be of a kind of
	// its own. The longest that is read is a restore point: 8 bytes of headers at
	// most, a time, and the name.
	keptLen = 96

	restorePointNameLen = 64
)

// What the parts of a record's body begin with. Smaller numbers are references
// to blocks.
const (
	partTopXID    = 252 // four bytes: the transaction that a subtransaction belongs to
	partOrigin    = 253 // two bytes: the replication origin
	partDataLong  = 254 // the length in four bytes; the last header
	partDataShort = 255 // the length in one byte; the last header
)

// mainData is the part of a record's body, or of the beginning of it, that is
// the resource manager's own. It is nil if it comes after block references,
// which the records that are read here do not have.
func mainData(body []byte) []byte {
	for {
		if len(body) < 2 {
			return nil
		}
		skip := 0
		switch body[0] {
		case partDataShort:
			return firstBytes(body[2:], uint64(body[1]))
		case partDataLong:
			if len(body) < 5 {
				return nil
			}
			return firstBytes(body[5:], uint64(binary.LittleEndian.Uint32(body[1:])))
		case partTopXID:
			skip = 5
		case partOrigin:
			skip = 3
		}
		if skip == 0 || len(body) < skip {
			return nil
		}
		body = body[skip:]
	}
}

func firstBytes(p []byte, n uint64) []byte { return p[:min(uint64(len(p)), n)] }

// describe finds out of what kind a record is and reads what comes with it.
// body is the beginning of the record's body. What is too short to be read is a
// record like any other: the checksum says that the server wrote it so.
func (r *Record) describe(body []byte) {
	switch r.Manager {
	case managerTransaction:
		r.describeTransaction(body)
	case managerXLOG:
		switch r.Info & infoMask {
		case xlogSwitch:
			r.Kind = SwitchRecord
		case xlogOverwriteContinue:
			r.Kind = OverwriteRecord
		case xlogRestorePoint:
			r.describeRestorePoint(body)
		}
	}
}

func (r *Record) describeTransaction(body []byte) {
	var kind RecordKind
	switch r.Info & xactOpMask {
	case xactCommit, xactCommitPrepared:
		kind = CommitRecord
	case xactAbort, xactAbortPrepared:
		kind = AbortRecord
	default:
		return
	}
	if data := mainData(body); len(data) >= 8 {
		r.Kind = kind
		r.micros = int64(binary.LittleEndian.Uint64(data))
	}
}

func (r *Record) describeRestorePoint(body []byte) {
	data := mainData(body)
	if len(data) < 8+restorePointNameLen {
		return
	}
	r.Kind = RestorePoint
	r.micros = int64(binary.LittleEndian.Uint64(data))
	r.name, _, _ = bytes.Cut(data[8:8+restorePointNameLen], []byte{0})
}

// overwrittenLSN reads where the record begins that an OverwriteRecord makes void.
func overwrittenLSN(body []byte) (l LSN, ok bool) {
	data := mainData(body)
	if len(data) < 8 {
		return 0, false
	}
	return LSN(binary.LittleEndian.Uint64(data)), true
}
