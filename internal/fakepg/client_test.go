package fakepg

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// client is a connection that does not care about anything.
type client struct {
	t    *testing.T
	conn *pgconn.PgConn
}

func dial(t *testing.T, s *Server, settings string) (*pgconn.PgConn, error) {
	config, err := pgconn.ParseConfig("host=127.0.0.1 user=repl dbname=replication sslmode=disable replication=true " + settings)
	if err != nil {
		t.Fatal(err)
	}
	config.DialFunc = s.Dial
	return pgconn.ConnectConfig(testContext(t), config)
}

func connect(t *testing.T, s *Server) *client {
	t.Helper()
	conn, err := dial(t, s, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(context.Background()); err != nil && !errors.Is(err, io.ErrClosedPipe) {
			t.Logf("closing: %v", err)
		}
		<-conn.CleanupDone()
	})
	return &client{t, conn}
}

// query returns the rows as text, "NULL" for null, or the SQLSTATE.
func (c *client) query(sql string) string {
	c.t.Helper()
	results, err := c.conn.Exec(testContext(c.t), sql).ReadAll()
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return pgErr.Code
	}
	if err != nil {
		c.t.Fatalf("%s: %v", sql, err)
	}
	var text bytes.Buffer
	for _, row := range results[0].Rows {
		for i, value := range row {
			if i > 0 {
				text.WriteByte('|')
			}
			if value == nil {
				text.WriteString("NULL")
			}
			text.Write(value)
		}
	}
	return text.String()
}

// begin sends a command whose answer is read by next.
func (c *client) begin(command string) {
	c.t.Helper()
	c.conn.Frontend().SendQuery(&pgproto3.Query{String: command})
	if err := c.conn.Frontend().Flush(); err != nil {
		c.t.Fatal(err)
	}
}

// next returns the next message in short: its letter and what matters.
func (c *client) next() string {
	message, err := c.conn.Frontend().Receive()
	if err != nil {
		return "EOF"
	}
	switch m := message.(type) {
	case *pgproto3.CopyBothResponse:
		return "W"
	case *pgproto3.CopyDone:
		return "c"
	case *pgproto3.RowDescription:
		return "T"
	case *pgproto3.DataRow:
		return fmt.Sprintf("D %s", bytes.Join(m.Values, []byte("|")))
	case *pgproto3.CommandComplete:
		return "C " + string(m.CommandTag)
	case *pgproto3.ParameterStatus:
		return "S " + m.Name
	case *pgproto3.ReadyForQuery:
		return "Z"
	case *pgproto3.ErrorResponse:
		return "E " + m.Code
	case *pgproto3.CopyData:
		at := binary.BigEndian.Uint64(m.Data[1:])
		if m.Data[0] == 'k' {
			return fmt.Sprintf("k %s %d", FormatLSN(at), m.Data[17])
		}
		return fmt.Sprintf("w %s %d", FormatLSN(at), len(m.Data)-25)
	}
	return fmt.Sprintf("%T", message)
}

func (c *client) expect(want ...string) {
	c.t.Helper()
	for _, w := range want {
		if got := c.next(); got != w {
			c.t.Fatalf("the server sent %q, want %q", got, w)
		}
	}
}

func (c *client) status(write, flush, apply uint64) {
	c.t.Helper()
	data := make([]byte, statusLength)
	data[0] = 'r'
	binary.BigEndian.PutUint64(data[1:], write)
	binary.BigEndian.PutUint64(data[9:], flush)
	binary.BigEndian.PutUint64(data[17:], apply)
	c.send(&pgproto3.CopyData{Data: data})
}

func (c *client) send(message pgproto3.FrontendMessage) {
	c.t.Helper()
	c.conn.Frontend().Send(message)
	if err := c.conn.Frontend().Flush(); err != nil {
		c.t.Fatal(err)
	}
}
