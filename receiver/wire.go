package receiver

import (
	"encoding/binary"
	"errors"
	"syscall"
	"time"

	"github.com/walrecv/walrecv/segment"
)

// Lengths of a standby status update, by the chapter "Streaming Replication
// Protocol" of PostgreSQL's documentation: the payload, and with the head of
// the CopyData message around it.
const (
	statusLen     = 34
	copyStatusLen = 1 + 4 + statusLen
)

// postgresEpoch is the zero of timestamps on the wire.
var postgresEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// encodeStatus writes a CopyData message with a standby status update into buf.
// Positions are those of the next byte. The apply position is always zero: what
// was only stored has not been replayed, and must not satisfy a commit that
// waits for remote_apply. A flush position of zero stays zero.
func encodeStatus(buf *[copyStatusLen]byte, write, flush segment.LSN, now time.Time, reply bool) {
	buf[0] = 'd'
	binary.BigEndian.PutUint32(buf[1:], copyStatusLen-1)
	p := buf[5:]
	p[0] = 'r'
	binary.BigEndian.PutUint64(p[1:], uint64(write))
	binary.BigEndian.PutUint64(p[9:], uint64(flush))
	binary.BigEndian.PutUint64(p[17:], 0)
	binary.BigEndian.PutUint64(p[25:], uint64(now.Sub(postgresEpoch).Microseconds()))
	p[33] = 0
	if reply {
		p[33] = 1
	}
}

func isDiskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
