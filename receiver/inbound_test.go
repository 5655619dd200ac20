package receiver

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// dribble gives bytes in pieces, with a timeout now and then.
type dribble struct {
	rnd  *rand.Rand
	data []byte
	most int
}

func (d *dribble) Read(p []byte) (int, error) {
	if d.rnd.IntN(8) == 0 {
		return 0, os.ErrDeadlineExceeded
	}
	if len(d.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), 1+d.rnd.IntN(d.most))], d.data)
	d.data = d.data[n:]
	return n, nil
}

func message(kind byte, body []byte) []byte {
	m := binary.BigEndian.AppendUint32([]byte{kind}, uint32(4+len(body)))
	return append(m, body...)
}

// TestInboundLosesNothing reads messages of all lengths, by turns here and through
// pgconn's Frontend, while others still use what was read before.
func TestInboundLosesNothing(t *testing.T) {
	random := rand.NewChaCha8([32]byte{6})
	for seed := range uint64(8) {
		rnd := rand.New(rand.NewPCG(seed, 6))
		var wire []byte
		var want [][]byte // bodies of CopyData; nil for a message of another kind
		for range 100 {
			body := make([]byte, 1+rnd.IntN([]int{40, 3000, 140 << 10, 3 * blockLen}[min(rnd.IntN(12), 3)]))
			_, _ = random.Read(body) // it has no error
			if rnd.IntN(5) == 0 {
				wire = append(wire, message('S', []byte("name\x00value\x00"))...)
				want = append(want, nil)
			}
			wire = append(wire, message('d', body)...)
			want = append(want, body)
		}
		in := newInbound(&dribble{rnd: rnd, data: wire, most: 1 << (4 + rnd.IntN(15))})
		if rnd.IntN(4) > 0 {
			in.stream(&blocks{})
		}
		readInbound(t, rnd, in, want)
	}
}

func readInbound(t *testing.T, rnd *rand.Rand, in *inbound, want [][]byte) {
	t.Helper()
	frontend := pgproto3.NewFrontend(in, nil)
	type kept struct {
		body, want []byte
		in         *block
	}
	var used []kept
	for i, body := range want {
		if body == nil || rnd.IntN(4) == 0 {
			msg := receiveFrontend(t, frontend)
			if data, ok := msg.(*pgproto3.CopyData); ok != (body != nil) || ok && !bytes.Equal(data.Data, body) {
				t.Fatalf("message %d: %T", i, msg)
			}
			continue
		}
		for done := 0; done < len(body); {
			part := nextPart(t, in)
			if !bytes.Equal(part, body[done:done+len(part)]) || in.rest != int64(len(body)-done-len(part)) || done == 0 && len(part) < min(len(body), unsplit-messageHeadLen) {
				t.Fatalf("message %d of %d bytes: %d bytes at %d, %d left", i, len(body), len(part), done, in.rest)
			}
			if in.blocks != nil {
				in.block.use()
				used = append(used, kept{part, body[done : done+len(part)], in.block})
			}
			if done += len(part); rnd.IntN(10) == 0 {
				break // what is left is not wanted
			}
		}
		if in.rest > 0 {
			if msg := i + 1; msg < len(want) && want[msg] == nil {
				continue // passed over by pgconn's next message
			}
			if err := retried(in.skipRest); err != nil {
				t.Fatal(err)
			}
		}
		for len(used) > 0 && rnd.IntN(3) > 0 {
			if k := used[0]; !bytes.Equal(k.body, k.want) {
				t.Fatalf("message %d: a part changed while it was used", i)
			}
			used[0].in.release(in.blocks)
			used = used[1:]
		}
	}
	if _, _, err := in.next(); !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("at the end: %v", err)
	}
}

func retried(try func() error) error {
	for {
		if err := try(); !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
}

func receiveFrontend(t *testing.T, frontend *pgproto3.Frontend) (msg pgproto3.BackendMessage) {
	t.Helper()
	err := retried(func() (err error) {
		msg, err = frontend.Receive()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return msg
}

func nextPart(t *testing.T, in *inbound) (part []byte) {
	t.Helper()
	ok := false
	err := retried(func() (err error) {
		part, ok, err = in.next()
		return err
	})
	if err != nil || !ok || len(part) == 0 {
		t.Fatalf("%d bytes, %v, %v", len(part), ok, err)
	}
	return part
}

// TestInboundLeavesToPgconn what it refuses.
func TestInboundLeavesToPgconn(t *testing.T) {
	for _, head := range []string{"d\x00\x00\x00\x03", "d\xff\xff\xff\xff", "d\x01\x00\x01\x00", "d\x00\x00\x00\x04", "c\x00\x00\x00\x04", "Z\x00\x00\x00\x05"} {
		in := newInbound(bytes.NewReader([]byte(head + "I")))
		if _, ok, err := in.next(); ok || err != nil {
			t.Errorf("%q: %v, %v", head, ok, err)
		}
	}
}

// FuzzInbound: no bytes of a server make it panic, wait for more than there is room
// for, or give what did not come.
func FuzzInbound(f *testing.F) {
	f.Add([]byte("d\x00\x00\x00\x05kS\x00\x00\x00\x04d\x00\x00\x00\x09"), false)
	f.Add(message('d', make([]byte, connectLen)), true)
	f.Fuzz(func(t *testing.T, data []byte, streams bool) {
		in := newInbound(bytes.NewReader(data))
		if streams {
			in.stream(&blocks{})
		}
		frontend := pgproto3.NewFrontend(in, nil)
		frontend.SetMaxBodyLen(1 << 20)
		got := 0
		for {
			body, ok, err := in.next()
			if err == nil && !ok {
				_, err = frontend.Receive()
			}
			if got += len(body); err != nil {
				break
			}
		}
		if got > len(data) {
			t.Errorf("%d bytes of %d", got, len(data))
		}
	})
}
