package fakepg

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const segment = defaultSegmentSize

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func newServer(t *testing.T, config Config) *Server {
	s := New(config)
	t.Cleanup(s.Close)
	return s
}

func TestCommands(t *testing.T) {
	s := newServer(t, Config{
		Timeline: 3,
		History:  []Fork{{1, 5 * segment}, {2, 7*segment + 8}},
		Begin:    5 * segment,
		End:      9 * segment,
		Slots:    map[string]Slot{"logical": {Logical: true}, "lost": {}},
	})
	c := connect(t, s)
	for _, test := range []struct{ command, want string }{
		{"SHOW data_directory_mode", "0700"},
		{"SHOW wal_segment_size", "1MB"},
		{"SHOW nonsense", "42704"},
		{"IDENTIFY_SYSTEM", "17123456789012345678|3|0/900000|NULL"},
		{"identify_system", "0A000"},
		{"SELECT 1", "0A000"},
		{"TIMELINE_HISTORY 1", "58P01"},
		{"TIMELINE_HISTORY 2", "00000002.history|1\t0/500000\tno recovery target specified\n\n"},
		{"TIMELINE_HISTORY 3", "00000003.history|1\t0/500000\tno recovery target specified\n\n2\t0/700008\tno recovery target specified\n\n"},
		{`CREATE_REPLICATION_SLOT "new" PHYSICAL (RESERVE_WAL)`, "new|0/0|NULL|NULL"},
		{`CREATE_REPLICATION_SLOT "new" PHYSICAL RESERVE_WAL`, "42710"},
		{`CREATE_REPLICATION_SLOT "pg-2" PHYSICAL`, "42602"},
		{`CREATE_REPLICATION_SLOT 1abc PHYSICAL`, "42601"},
		{`CREATE_REPLICATION_SLOT "1abc" PHYSICAL`, "1abc|0/0|NULL|NULL"},
		{`READ_REPLICATION_SLOT "new"`, "physical|0/900000|3"},
		{`READ_REPLICATION_SLOT "1abc"`, "physical|NULL|NULL"},
		{`READ_REPLICATION_SLOT "lost"`, "physical|NULL|NULL"},
		{`READ_REPLICATION_SLOT "none"`, "NULL|NULL|NULL"},
		{`READ_REPLICATION_SLOT "logical"`, "0A000"},
		{`DROP_REPLICATION_SLOT "none"`, "42704"},
		{`DROP_REPLICATION_SLOT "new"`, ""},
		{`START_REPLICATION SLOT "none" 0/900000 TIMELINE 3`, "42704"},
		{`START_REPLICATION SLOT "logical" 0/900000 TIMELINE 3`, "55000"},
		{`START_REPLICATION 0/900000 TIMELINE 4`, "XX000"},
		{`START_REPLICATION 0/700010 TIMELINE 2`, "XX000"},
	} {
		if got := c.query(test.command); got != test.want {
			t.Errorf("%s: %q, want %q", test.command, got, test.want)
		}
	}
}

func TestOldServer(t *testing.T) {
	c := connect(t, newServer(t, Config{Version: "14.23", SegmentSize: 1 << 30}))
	for _, test := range []struct{ command, want string }{
		{`READ_REPLICATION_SLOT "x"`, "0A000"},
		{`CREATE_REPLICATION_SLOT "x" PHYSICAL (RESERVE_WAL)`, "42601"},
		{`CREATE_REPLICATION_SLOT "x" PHYSICAL RESERVE_WAL`, "x|0/0|NULL|NULL"},
		{"SHOW wal_segment_size", "1GB"},
	} {
		if got := c.query(test.command); got != test.want {
			t.Errorf("%s: %q, want %q", test.command, got, test.want)
		}
	}
}

// The bytes of a stream are those of ReadWAL, in messages of at most a chunk
// that end on pages.
func TestStream(t *testing.T) {
	s := newServer(t, Config{End: 2*segment + 5000, Slots: map[string]Slot{"s": {}}})
	c := connect(t, s)
	c.begin(`START_REPLICATION SLOT "s" 0/100000 TIMELINE 1`)
	c.expect("W")
	c.status(segment, 0, 0)
	var got []byte
	for len(got) < segment+5000 {
		message, err := c.conn.Frontend().Receive()
		if err != nil {
			t.Fatal(err)
		}
		data := message.(*pgproto3.CopyData).Data
		if at := binary.BigEndian.Uint64(data[1:]); at != segment+uint64(len(got)) {
			t.Fatalf("message at %s after %d bytes", FormatLSN(at), len(got))
		}
		got = append(got, data[25:]...)
	}
	want := make([]byte, len(got))
	s.ReadWAL(1, segment, want)
	if !bytes.Equal(got, want) {
		t.Error("the stream differs from ReadWAL")
	}
	if id := binary.LittleEndian.Uint64(want[24:]); id != defaultSystemID {
		t.Errorf("system identifier %d in the first page", id)
	}
	c.status(s.End(), s.End(), 0)
	ctx := testContext(t)
	if err := s.WaitFlush(ctx, 1, s.End()); err != nil {
		t.Fatal(err)
	}
	if slot, _ := s.Slot("s"); slot.RestartLSN != s.End() || !slot.Active() {
		t.Errorf("slot: %+v", slot)
	}
	s.Keepalive(true)
	c.expect("k 0/201388 1")
	s.Append(8)
	c.expect("w 0/201388 8")
	c.send(&pgproto3.CopyDone{})
	c.expect("c", "C START_STREAMING", "C START_REPLICATION", "Z")
	if problems := s.Problems(); problems != nil {
		t.Error(problems)
	}
	if got := c.query("SHOW wal_segment_size"); got != "1MB" {
		t.Errorf("the connection is not usable after the stream: %s", got)
	}
}

func TestEndOfTimeline(t *testing.T) {
	s := newServer(t, Config{End: segment + 100, Standby: true})
	c := connect(t, s)
	c.begin("START_REPLICATION 0/100000 TIMELINE 1")
	c.expect("W", "w 0/100000 100")
	s.Promote(2, segment+60) // part of the record beyond the fork was sent
	c.expect("c")
	c.send(&pgproto3.CopyDone{})
	c.expect("T", "D 2|0/10003C", "C START_STREAMING", "C START_REPLICATION", "S in_hot_standby", "Z")
	// At the fork exactly there is nothing to copy.
	c.begin("START_REPLICATION 0/10003C TIMELINE 1")
	c.expect("T", "D 2|0/10003C", "C START_STREAMING", "C START_REPLICATION", "S in_hot_standby", "Z")
	s.SetEnd(segment + 80)
	c.begin("START_REPLICATION 0/100000 TIMELINE 2")
	c.expect("W", "w 0/100000 80")
	before, after := make([]byte, 80), make([]byte, 80)
	s.ReadWAL(1, segment, before)
	s.ReadWAL(2, segment, after)
	if !bytes.Equal(before[:60], after[:60]) || bytes.Equal(before[60:], after[60:]) {
		t.Error("the timelines must agree up to the fork and differ behind it")
	}
}

func TestErrorsInsideCopy(t *testing.T) {
	s := newServer(t, Config{Begin: 4 * segment, Timeline: 2, History: []Fork{{1, 5*segment + 16}}, End: 6 * segment})
	c := connect(t, s)
	c.begin("START_REPLICATION 0/600010 TIMELINE 2")
	c.expect("W", "E XX000", "Z") // ahead
	c.begin("START_REPLICATION 0/300000 TIMELINE 1")
	c.expect("W", "E 58P01", "Z") // removed
	c.begin("START_REPLICATION 0/400000 TIMELINE 2")
	c.expect("W", "E 58P01", "Z") // never written on this timeline
	c.begin("START_REPLICATION 0/500000 TIMELINE 2")
	c.expect("W")
}

func TestFaults(t *testing.T) {
	release := make(chan struct{})
	s := newServer(t, Config{End: segment + 4*PageSize, Chunk: PageSize})
	s.Inject(PageSize, Shift(8))
	s.Inject(2*PageSize, Repeat())
	s.Inject(2*PageSize+100, Fail(Error{Code: "XX000", Message: "x"}))
	s.Inject(10, Alter(func(m *Message) { clear(m.Data) }))
	s.Inject(10, StallInside(7, release))
	s.Inject(10, Skip())
	s.Inject(4*PageSize, EndWithoutCopyDone())
	c := connect(t, s)
	c.begin("START_REPLICATION 0/100000 TIMELINE 1")
	c.expect("W", "w 0/100000 8192", "w 0/102008 8192", "w 0/104000 100", "w 0/104000 100", "E XX000", "Z")
	c.begin("START_REPLICATION 0/100000 TIMELINE 1")
	c.expect("W", "w 0/100000 10")
	message, err := c.conn.Frontend().Receive()
	if err != nil {
		t.Fatal(err)
	}
	if data := message.(*pgproto3.CopyData).Data; !bytes.Equal(data[25:], make([]byte, len(data)-25)) {
		t.Error("the message was not altered")
	}
	if err := s.WaitFaults(testContext(t), 5); err != nil {
		t.Fatal(err)
	}
	close(release)
	c.expect("w 0/102000 8192", "w 0/106000 8192", "C COPY 0", "EOF")

	s.Inject(0, CutInside(20))
	c = connect(t, s)
	c.begin("START_REPLICATION 0/100000 TIMELINE 1")
	c.expect("W", "EOF")
	s.Inject(4*PageSize, Cut()) // with nothing left to send
	c = connect(t, s)
	c.begin("START_REPLICATION 0/100000 TIMELINE 1")
	c.expect("W", "w 0/100000 8192", "w 0/102000 8192", "w 0/104000 8192", "w 0/106000 8192", "EOF")
}

// A receiver that reports what it must not is found out.
func TestProblems(t *testing.T) {
	s := newServer(t, Config{End: segment + 100})
	c := connect(t, s)
	c.begin("START_REPLICATION 0/100000 TIMELINE 1")
	c.expect("W", "w 0/100000 100")
	c.status(segment+100, 0, segment+100)
	c.status(segment+101, 0, 0)
	c.status(segment+101, segment+102, 0)
	c.status(segment+100, segment+100, 0)
	c.status(segment+100, segment+90, 0)
	c.send(&pgproto3.CopyData{Data: []byte("h")})
	c.expect("E 08P01", "EOF")
	if problems := s.Problems(); len(problems) != 6 {
		t.Errorf("%d problems: %q", len(problems), problems)
	}
}

// At its shutdown the server asks until the flushed position is exact.
func TestShutdown(t *testing.T) {
	s := newServer(t, Config{End: segment + 100})
	c := connect(t, s)
	c.begin("START_REPLICATION 0/100000 TIMELINE 1")
	c.expect("W", "w 0/100000 100")
	done := make(chan error, 1)
	go func() { done <- s.Shutdown(testContext(t)) }()
	c.expect("k 0/100064 1")
	c.status(segment+100, segment+99, 0)
	c.expect("k 0/100064 1")
	c.status(segment+100, segment+100, 0)
	c.expect("C COPY 0", "EOF")
	_ = c.conn.Close(context.Background())
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	var pgErr *pgconn.PgError
	if _, err := dial(t, s, ""); !errors.As(err, &pgErr) || pgErr.Code != "57P03" {
		t.Errorf("connecting to a stopped server: %v", err)
	}
	s.Restart()
	connect(t, s)
}

func TestSenderTimeout(t *testing.T) {
	s := newServer(t, Config{SenderTimeout: 40 * time.Millisecond})
	c := connect(t, s)
	c.begin("START_REPLICATION 0/100000 TIMELINE 1")
	c.expect("W", "k 0/100000 1", "EOF")
}

func TestAuthentication(t *testing.T) {
	for _, method := range []string{"password", "scram-sha-256"} {
		s := newServer(t, Config{Auth: method, Passwords: map[string]string{"repl": "secret"}})
		for password, want := range map[string]string{"secret": "", "wrong": "28P01"} {
			conn, err := dial(t, s, "password="+password)
			var pgErr *pgconn.PgError
			got := ""
			if errors.As(err, &pgErr) {
				got = pgErr.Code
			} else if err != nil {
				t.Errorf("%s: %v", method, err)
				continue
			}
			if got != want {
				t.Errorf("%s with password %s: %q, want %q", method, password, got, want)
			}
			if conn != nil {
				_ = conn.Close(context.Background())
			}
		}
	}
}
