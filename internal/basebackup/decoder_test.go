package basebackup

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// counter is a sink that checks the order of the calls.
type counter struct {
	t        *testing.T
	begun    bool
	archives []Tablespace
	manifest bool
}

func (c *counter) Begin(Start) error {
	if c.begun {
		c.t.Error("Begin twice")
	}
	c.begun = true
	return nil
}

func (c *counter) Archive(t Tablespace) error {
	if !c.begun || c.manifest {
		c.t.Error("Archive out of order")
	}
	c.archives = append(c.archives, t)
	return nil
}

func (c *counter) Manifest() error {
	if len(c.archives) == 0 || c.manifest {
		c.t.Error("Manifest out of order")
	}
	c.manifest = true
	return nil
}

func (c *counter) Data([]byte) error {
	if len(c.archives) == 0 {
		c.t.Error("Data before Archive")
	}
	return nil
}

// Parts of a good answer.
var (
	description = &pgproto3.RowDescription{}
	selected    = &pgproto3.CommandComplete{CommandTag: []byte("SELECT")}
	copyOut     = &pgproto3.CopyOutResponse{}
	copied      = &pgproto3.CopyDone{}
	ready       = &pgproto3.ReadyForQuery{TxStatus: 'I'}
)

func row(values ...string) *pgproto3.DataRow {
	r := &pgproto3.DataRow{}
	for _, value := range values {
		if value == "NULL" {
			r.Values = append(r.Values, nil)
			continue
		}
		r.Values = append(r.Values, []byte(value))
	}
	return r
}

func piece(text string) *pgproto3.CopyData { return &pgproto3.CopyData{Data: []byte(text)} }

// answer is a good one.
func answer() []pgproto3.BackendMessage {
	return []pgproto3.BackendMessage{
		description, row("0/2000028", "1"), selected, // 0
		description, row("16384", "/a", "5"), row("NULL", "NULL", "NULL"), selected, // 3
		copyOut, piece("n16384.tar\x00/a\x00"), piece("dtar"), piece("p12345678"), piece("nbase.tar\x00\x00"), piece("dtar"), // 7
		piece("m"), piece("d{}"), copied, // 13
		description, row("0/2000100", "1"), selected, // 16
		&pgproto3.CommandComplete{CommandTag: []byte("BASE_BACKUP")}, ready, // 19
	}
}

// decode takes messages until the first error, or the end.
func decode(t *testing.T, messages []pgproto3.BackendMessage) error {
	t.Helper()
	d := decoder{sink: &counter{t: t}}
	for i, m := range messages {
		done, err := d.message(m)
		if err != nil {
			return err
		}
		if done {
			if i != len(messages)-1 {
				t.Errorf("done after message %d of %d", i, len(messages))
			}
			return nil
		}
	}
	return io.ErrUnexpectedEOF
}

func TestDecode(t *testing.T) {
	if err := decode(t, answer()); err != nil {
		t.Fatal(err)
	}
	for i := range answer() {
		missing := append(answer()[:i:i], answer()[i+1:]...)
		twice := append(answer()[:i+1:i+1], answer()[i:]...)
		switch free := i == 9 || i == 10 || i == 12 || i == 14; { // data and progress
		case !free && decode(t, missing) == nil:
			t.Errorf("message %d is missing, and nothing is wrong", i)
		case !free && i != len(answer())-1 && decode(t, twice) == nil:
			t.Errorf("message %d comes twice, and nothing is wrong", i)
		}
	}
	for i := range answer() { // at any time
		status := append(answer()[:i:i], &pgproto3.ParameterStatus{}, &pgproto3.NoticeResponse{})
		if err := decode(t, append(status, answer()[i:]...)); err != nil {
			t.Errorf("a notice before message %d: %v", i, err)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, test := range []struct {
		at      int
		message pgproto3.BackendMessage
		want    string
	}{
		{1, row("0/2000028"), "a row of 1 columns"},
		{1, row("nonsense", "1"), "nonsense"},
		{1, row("0/2000028", "0"), "not a timeline"},
		{1, row("0/2000028", "4294967296"), "not a timeline"},
		{1, row("NULL", "NULL"), ""},
		{4, row("16384", "/a"), "a row of 2 columns"},
		{4, row("0", "/a", "1"), `number "0"`},
		{4, row("4294967296", "/a", "1"), "4294967296"},
		{4, row("16384", "NULL", "1"), "location"},
		{4, row("16384", "/a", "-1"), `size "-1"`},
		{4, row("16384", "/a", "9223372036854775807"), "size"},
		{4, row("NULL", "NULL", "1"), "twice"},
		{5, row("16385", "/b", "1"), "does not end with the data directory"},
		{8, piece("n16385.tar\x00/a\x00"), `"16385.tar"`},
		{8, piece("n../x.tar\x00/a\x00"), "follows"},
		{8, piece("n16384.tar\x00/b\x00"), `"/b"`},
		{8, piece("n16384.tar\x00/a"), "cannot be read"},
		{8, piece("n16384.tar"), "cannot be read"},
		{8, piece("n16384.tar\x00/a\x00x"), "cannot be read"},
		{8, piece("dtar"), "before the name"},
		{8, piece("m"), "2 archives are missing"},
		{8, piece(""), "empty message"},
		{8, piece("x"), "unknown message type"},
		{10, piece("p1234567"), "of 7 bytes"},
		{12, piece("n16385.tar\x00/c\x00"), "one too many"},
		{14, piece("m"), "a manifest"},
		{14, piece("nbase.tar\x00\x00"), "one too many"},
		{17, row("0/2000100"), "where the backup ends"},
		{3, &pgproto3.CopyBothResponse{}, "unexpected *pgproto3.CopyBothResponse"},
		{19, &pgproto3.ErrorResponse{Severity: "ERROR", Code: "XX001", Message: "checksum"}, "XX001"},
		{16, ready, "ended its answer"},
	} {
		messages := answer()
		messages[test.at] = test.message
		err := decode(t, messages)
		if err == nil || errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("message %d is %v: %v, want %s", test.at, test.message, err, test.want)
		}
	}
}

// FuzzDecode reads any bytes as an answer: nothing but a good one is taken for one.
func FuzzDecode(f *testing.F) {
	var wire []byte
	for _, m := range answer() {
		var err error
		if wire, err = m.Encode(wire); err != nil {
			f.Fatal(err)
		}
	}
	f.Add(wire)
	f.Add(wire[:len(wire)/2])
	f.Add(binary.BigEndian.AppendUint32([]byte("d"), 4))
	f.Fuzz(func(t *testing.T, wire []byte) {
		frontend := pgproto3.NewFrontend(bytes.NewReader(wire), io.Discard)
		frontend.SetMaxBodyLen(1 << 16)
		sink := &counter{t: t}
		d := decoder{sink: sink}
		for {
			m, err := frontend.Receive()
			if err != nil {
				return
			}
			done, err := d.message(m)
			if err != nil {
				return
			}
			if done && (!sink.manifest || len(sink.archives) != len(d.start.Tablespaces) || d.result.Timeline == 0) {
				t.Errorf("taken for complete: %+v", d)
			}
			if done {
				return
			}
		}
	})
}
