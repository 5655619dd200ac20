package receiver

import (
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/walrecv/walrecv/segment"
)

func TestEncodeStatus(t *testing.T) {
	var buf [copyStatusLen]byte
	now := time.Date(2026, 11, 21, 12, 0, 0, 123456000, time.UTC)
	for _, tc := range []struct {
		write, flush segment.LSN
		reply        bool
	}{
		{0x16B374D848, 0x16B374D800, false},
		{0x16B374D848, 0, true}, // zero stays zero: nothing is flushed
	} {
		encodeStatus(&buf, tc.write, tc.flush, now, tc.reply)
		if buf[0] != 'd' || binary.BigEndian.Uint32(buf[1:]) != 4+34 || buf[5] != 'r' {
			t.Errorf("head % x", buf[:6])
		}
		p := buf[5:]
		field := func(at int) uint64 { return binary.BigEndian.Uint64(p[at:]) }
		if field(1) != uint64(tc.write) || field(9) != uint64(tc.flush) || field(17) != 0 {
			t.Errorf("positions %x %x %x of %+v", field(1), field(9), field(17), tc)
		}
		if got := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(field(25)) * time.Microsecond); !got.Equal(now) {
			t.Errorf("time %v", got)
		}
		if (p[33] == 1) != tc.reply {
			t.Errorf("reply requested %d", p[33])
		}
	}
}

func TestNamesStandby(t *testing.T) {
	for setting, want := range map[string]bool{
		"":                          false,
		"walrecv":                   true,
		"WALRECV":                   true,
		`"walrecv"`:                 true,
		"*":                         true,
		"s1, s2":                    false,
		"FIRST 1 (s1, walrecv)":     true,
		"ANY 1 (s1,s2,\"Walrecv\")": true,
		"2 (walrecv2, walrecv-old)": false,
	} {
		if got := NamesStandby(setting, "walrecv"); got != want {
			t.Errorf("%q: %v", setting, got)
		}
	}
}

func TestStartQuery(t *testing.T) {
	at := segment.Position{Timeline: 3, LSN: 0x1_0200_0000}
	if got := startQuery("1a", at); got != `START_REPLICATION SLOT "1a" PHYSICAL 1/2000000 TIMELINE 3` {
		t.Error(got)
	}
	if got := startQuery("", at); got != `START_REPLICATION PHYSICAL 1/2000000 TIMELINE 3` {
		t.Error(got)
	}
}

func TestParseNextTimeline(t *testing.T) {
	end, err := parseNextTimeline([][]byte{[]byte("4294967295"), []byte("0/E00000")})
	if err != nil || end.next != 4294967295 || end.fork != 0xE00000 {
		t.Errorf("%+v, %v", end, err)
	}
	for _, row := range [][][]byte{nil, {[]byte("2")}, {[]byte("0"), []byte("0/1")}, {[]byte("x"), []byte("0/1")}, {[]byte("2"), []byte("1")}, {nil, nil}} {
		if _, err := parseNextTimeline(row); err == nil {
			t.Errorf("%q was accepted", row)
		}
	}
}

// FuzzMessage: no message of the copy phase makes the reader panic or accept
// WAL that does not begin where it must.
func FuzzMessage(f *testing.F) {
	f.Add([]byte{'w'})
	f.Add(append([]byte{'w', 0, 0, 0, 0, 0, 0, 0, 8}, make([]byte, 30)...))
	f.Add([]byte{'k', 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		sink := &countingSink{}
		v := newVerifier(nil, slog.New(slog.DiscardHandler), func() { t.Error("verified without a beginning") }, false)
		v.start()
		defer v.stop()
		s := &stream{sink: sink, pos: 8, size: 1 << 20, in: newInbound(nil), progress: &progress{}, verifier: v, feedback: &feedback{
			lazy: true, pace: newIntervals(Options{FlushInterval: 1}), written: 8, dirty: make(chan struct{}, 1), urgent: make(chan struct{}, 1), kick: make(chan struct{}, 1),
		}}
		err := s.copyData(t.Context(), data)
		if want := s.pos - 8; sink.n != want {
			t.Errorf("%d bytes written, position moved by %d", sink.n, want)
		}
		if sink.n > 0 && (err != nil || binary.BigEndian.Uint64(data[1:]) != 8) {
			t.Errorf("WAL of another position was written: % x, %v", data[:9], err)
		}
	})
}

type countingSink struct{ n segment.LSN }

func (c *countingSink) Room() <-chan struct{} { return nil }

func (c *countingSink) Append(_ segment.LSN, p []byte) error { c.n += segment.LSN(len(p)); return nil }
func (c *countingSink) Sync() (segment.LSN, error)           { return 8 + c.n, nil }
func (c *countingSink) Close() error                         { return nil }
func (c *countingSink) Switch(segment.TimelineID, segment.LSN, []byte) error {
	return nil
}

// blindKeeper makes a verifier fail.
type blindKeeper struct{ Keeper }

func (blindKeeper) Before(segment.LSN, segment.History) (segment.Name, io.ReadCloser, error) {
	panic("as a mistake would")
}

// A verifier that failed holds nobody up, and sees again with the next stream.
func TestBlindVerifier(t *testing.T) {
	const size = segment.Size(1 << 20)
	failures := 0
	v := newVerifier(blindKeeper{}, slog.New(slog.DiscardHandler), func() { failures++ }, false)
	begin := verifyBegin{
		at:      segment.Position{Timeline: 1, LSN: 1 << 20},
		cluster: segment.Cluster{Identity: segment.Identity{SystemID: 7, Size: size}, Major: 15},
		history: segment.History{Timeline: 1},
	}
	v.guarded(verifyWork{begin: &begin})
	name := segment.Name{Timeline: 1, Number: 1}
	v.expect(name, 1<<20, 1<<20, size)
	if _, ok := v.summary(t.Context(), name); ok || failures != 1 {
		t.Errorf("a summary of what was not read, %d failures", failures)
	}
	v.begun(begin.at)
	v.expect(name, 1<<20, 1<<20, size)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, ok := v.summary(ctx, name); ok || v.pending[name].read == nil {
		t.Error("the next stream is not waited for")
	}
}
