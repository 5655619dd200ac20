package receiver

import (
	"encoding/binary"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/walrecv/walrecv/internal/fakepg"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/segment"
)

// hotSize is the segment size of the streams of this file, hotStart where they begin.
const (
	hotSize  = segment.Size(16 << 20)
	hotStart = segment.LSN(hotSize)
)

// serverSide is a connection on which a server sends WAL, a message with each read,
// and takes what it is sent.
type serverSide struct {
	net.Conn // nil: nothing else is called
	messages [][]byte
	unread   []byte
}

func (s *serverSide) Read(p []byte) (int, error) {
	if len(s.unread) == 0 {
		if len(s.messages) == 0 {
			return 0, io.EOF
		}
		s.unread, s.messages = s.messages[0], s.messages[1:]
	}
	n := copy(p, s.unread)
	s.unread = s.unread[n:]
	return n, nil
}

func (*serverSide) Write(p []byte) (int, error)      { return len(p), nil }
func (*serverSide) SetDeadline(time.Time) error      { return nil }
func (*serverSide) SetReadDeadline(time.Time) error  { return nil }
func (*serverSide) SetWriteDeadline(time.Time) error { return nil }

// walMessages are n bytes of sound WAL from hotStart on, so many in each message.
func walMessages(n, each int) (messages [][]byte) {
	server := fakepg.New(fakepg.Config{SegmentSize: uint64(hotSize)})
	defer server.Close()
	for at := 0; at < n; at += each {
		m := make([]byte, messageHeadLen+walHeadLen+each)
		m[0], m[messageHeadLen] = copyDataType, 'w'
		binary.BigEndian.PutUint32(m[1:], uint32(len(m)-1))
		binary.BigEndian.PutUint64(m[messageHeadLen+1:], uint64(hotStart)+uint64(at))
		server.ReadWAL(1, uint64(hotStart)+uint64(at), m[messageHeadLen+walHeadLen:])
		messages = append(messages, m)
	}
	return messages
}

// noKeeper has no WAL of an earlier connection.
type noKeeper struct{ Keeper }

func (noKeeper) Before(segment.LSN, segment.History) (segment.Name, io.ReadCloser, error) {
	return segment.Name{}, nil, fs.ErrNotExist
}

// hotStream is a stream in its copy phase, without the goroutines that answer: who
// drives it does that. It reads what it takes as WAL.
func hotStream(tb testing.TB, sink Sink, messages [][]byte) *stream {
	tb.Helper()
	config, err := pgconn.ParseConfig("host=localhost")
	if err != nil {
		tb.Fatal(err)
	}
	socket := &serverSide{messages: messages}
	in := newInbound(socket)
	conn, err := pgconn.Construct(&pgconn.HijackedConn{Conn: socket, Config: config, Frontend: pgproto3.NewFrontend(in, socket)})
	if err != nil {
		tb.Fatal(err)
	}
	s := &stream{
		conn: conn, in: in, sink: sink, o: Options{Synchronous: true, StatusInterval: 10 * time.Second},
		timeline: 1, pos: hotStart, size: hotSize, progress: &progress{}, live: func() {},
		verifier: newVerifier(noKeeper{}, slog.New(slog.DiscardHandler), func() { tb.Error("sound WAL is not taken for it") }, false),
	}
	s.pace = newIntervals(s.o)
	s.deadline.conn = socket
	s.feedback = newFeedback(s, s.pos)
	s.verifier.start()
	tb.Cleanup(s.verifier.stop)
	at := segment.Position{Timeline: 1, LSN: hotStart}
	s.verifier.begin(verifyBegin{
		at: at, history: segment.History{Timeline: 1},
		cluster: segment.Cluster{Identity: segment.Identity{Size: hotSize}},
	}, s.feedback.failed)
	in.stream(s.verifier.blocks)
	return s
}

// hotWriter writes into a spool on a real disk.
func hotWriter(tb testing.TB) *segment.Writer {
	tb.Helper()
	spool, err := segment.OpenSpool(vfs.OS(), tb.TempDir(), slog.New(slog.DiscardHandler), segment.SpoolOptions{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { spool.Close() })
	err = spool.Identify(segment.Cluster{Identity: segment.Identity{SystemID: 1, Size: hotSize}, Major: 15, FileMode: 0o600})
	if err != nil {
		tb.Fatal(err)
	}
	w, err := spool.NewWriter(segment.Position{Timeline: 1, LSN: hotStart})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { w.Close() })
	return w
}

// TestNoAllocationPerMessage takes WAL as it comes to a synchronous standby: it is
// received, written, read as WAL, synced, and acknowledged.
func TestNoAllocationPerMessage(t *testing.T) {
	for _, each := range []int{1 << 10, 64 << 10} {
		s := hotStream(t, hotWriter(t), walMessages(150*each, each))
		step := func() {
			if ended, err := s.receive(t.Context()); ended || err != nil {
				t.Fatal(ended, err)
			}
		}
		for range 40 { // blocks and files are made
			step()
		}
		if n := testing.AllocsPerRun(100, step); n > 0 {
			t.Errorf("messages of %d bytes: %v allocations", each, n)
		}
		if told := s.feedback.told; told != s.pos || s.pos < hotStart+segment.LSN(100*each) {
			t.Errorf("acknowledged %s of %s", told, s.pos)
		}
	}
}
