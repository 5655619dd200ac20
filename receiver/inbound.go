package receiver

import (
	"encoding/binary"
	"io"

	"github.com/jackc/pgx/v5/pgconn"
)

const (
	connectLen     = 8 << 10 // enough for what comes before WAL
	messageHeadLen = 1 + 4   // type and length
	walHeadLen     = 1 + 3*8 // of a message with WAL: kind, two positions, time

	// unsplit is how much of the beginning of a message is in one piece, whatever
	// follows: the head of WAL, and all of a keepalive.
	unsplit = 64

	copyDataType = 'd'
)

// inbound is what a connection is read through. pgconn gets one message at a time,
// so that nothing that follows waits where it cannot be had without a copy: CopyData
// is taken from here, in place, and the rest by pgconn.
//
// A read that fails loses nothing: after a timeout reading goes on where it was.
type inbound struct {
	r      io.Reader
	blocks *blocks // nil before WAL is streamed
	block  *block
	rp, wp int   // what has come into block and was not taken
	left   int64 // of the message that pgconn takes
	rest   int64 // of the CopyData message that next returned in part
}

func newInbound(r io.Reader) *inbound {
	return &inbound{r: r, block: newBlock(connectLen)}
}

// inboundKey is where a connection keeps its inbound.
const inboundKey = "walrecv inbound"

func inboundOf(conn *pgconn.PgConn) *inbound {
	in, _ := conn.CustomData()[inboundKey].(*inbound) // all connections of Connect have one
	return in
}

// stream reads into these blocks from now on.
func (in *inbound) stream(from *blocks) {
	if in.blocks != from {
		in.blocks = from
		in.turn()
	}
}

// Read gives pgconn the next bytes of the message that it reads, and never one of
// the message that follows.
func (in *inbound) Read(p []byte) (n int, err error) {
	if err := in.skipRest(); err != nil {
		return 0, err
	}
	if in.left == 0 {
		if err := in.need(messageHeadLen); err != nil {
			return 0, err
		}
		in.left = messageHeadLen + max(0, in.bodyLen()) // pgconn refuses what cannot be
	}
	if int64(len(p)) > in.left {
		p = p[:in.left]
	}
	if in.rp < in.wp {
		n = copy(p, in.block.data[in.rp:in.wp])
		in.rp += n
	} else {
		n, err = in.r.Read(p)
	}
	in.left -= int64(n)
	return n, err
}

// next returns the body of the next message, or the next part of it where it is
// longer than a block; rest is what follows of it. ok is false for what pgconn has
// to take: another message than CopyData, one that pgconn has begun to take, and one
// that cannot be. The body is valid until the block is used for something else:
// see [block].
func (in *inbound) next() (body []byte, ok bool, err error) {
	if in.rest == 0 {
		if in.left > 0 {
			return nil, false, nil
		}
		if err := in.need(messageHeadLen); err != nil {
			return nil, false, err
		}
		length := in.bodyLen()
		if in.block.data[in.rp] != copyDataType || length < 1 || length > maxMessage {
			return nil, false, nil
		}
		if err := in.need(int(min(messageHeadLen+length, unsplit))); err != nil {
			return nil, false, err
		}
		if err := in.gather(messageHeadLen + length); err != nil {
			return nil, false, err
		}
		in.rp += messageHeadLen
		in.rest = length
	} else if err := in.gather(in.rest); err != nil {
		return nil, false, err
	}
	n := int(min(in.rest, int64(in.wp-in.rp)))
	body = in.block.data[in.rp : in.rp+n : in.rp+n]
	in.rp += n
	in.rest -= int64(n)
	return body, true, nil
}

// buffered tells whether next returns without reading.
func (in *inbound) buffered() bool {
	there := int64(in.wp - in.rp)
	if in.rest > 0 {
		return there >= in.rest
	}
	return there >= messageHeadLen && there >= messageHeadLen+in.bodyLen()
}

// bodyLen is the length that the head of a message says.
func (in *inbound) bodyLen() int64 {
	return int64(binary.BigEndian.Uint32(in.block.data[in.rp+1:])) - 4
}

// need reads until n bytes are there, in one piece. There are few of them.
func (in *inbound) need(n int) error {
	if len(in.block.data)-in.rp < n {
		in.turn()
	}
	return in.gather(int64(n))
}

// gather reads until n bytes are there, or as many as the block has room for, but
// one at least.
func (in *inbound) gather(n int64) error {
	for int64(in.wp-in.rp) < n && (in.wp < len(in.block.data) || in.rp == in.wp) {
		if err := in.fill(); err != nil {
			return err
		}
	}
	return nil
}

// fill reads once from the socket, as much as there is and fits.
func (in *inbound) fill() error {
	if in.rp == in.wp && (in.wp == len(in.block.data) || !in.block.shared()) {
		in.turn()
	}
	n, err := in.r.Read(in.block.data[in.wp:])
	in.wp += n
	if n > 0 {
		return nil // the error comes again
	}
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// turn takes what is left to the beginning of a block: of the same one if nobody
// else uses it, so that a stream of small messages stays in the processor's cache.
func (in *inbound) turn() {
	b := in.block
	if in.blocks != nil && (b.shared() || len(b.data) < blockLen) {
		in.block = in.blocks.get()
		defer b.release(in.blocks)
	}
	in.wp = copy(in.block.data, b.data[in.rp:in.wp])
	in.rp = 0
}

// skipRest passes over what is left of a message that next returned in part.
func (in *inbound) skipRest() error {
	for in.rest > 0 {
		if err := in.gather(1); err != nil {
			return err
		}
		n := int(min(in.rest, int64(in.wp-in.rp)))
		in.rp += n
		in.rest -= int64(n)
	}
	return nil
}
