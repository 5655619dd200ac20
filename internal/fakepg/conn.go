package fakepg

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sort"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// Conn is one connection to the server. Its methods are for the hooks, which
// run on the connection's own goroutine.
type Conn struct {
	// Number counts the connections that were started from 1; cancel requests
	// are not counted. It is 0 before the start-up message was read.
	Number int

	server     *Server
	net        net.Conn
	backend    *pgproto3.Backend
	parameters map[string]string

	messages chan clientMessage // what the client sent, status reports excepted
	gone     chan struct{}      // closed when nothing more will come from the client

	// Guarded by the server's mutex.
	keepalives     int  // to be sent
	keepaliveReply bool // one of them asks for a reply
	slot           *Slot
	timeline       uint32 // of the current stream; 0: none
	sent           uint64
	last           Status // of the current stream
	lastMessage    time.Time
}

// clientMessage is a message of the client with what it carries.
type clientMessage struct {
	kind byte // 'Q', 'c', 'f', 'X' or '?', '!'
	text string
}

// Error is an error of the server.
type Error struct {
	Severity string // "": ERROR
	Code     string // SQLSTATE
	Message  string
}

func (e Error) response() *pgproto3.ErrorResponse {
	severity := e.Severity
	if severity == "" {
		severity = "ERROR"
	}
	return &pgproto3.ErrorResponse{
		Severity: severity, SeverityUnlocalized: severity, Code: e.Code, Message: e.Message,
	}
}

func newConn(s *Server, conn net.Conn) *Conn {
	return &Conn{
		server:      s,
		net:         conn,
		messages:    make(chan clientMessage, 16),
		gone:        make(chan struct{}),
		lastMessage: s.now(),
	}
}

// Parameter returns a start-up parameter of the client.
func (c *Conn) Parameter(name string) string { return c.parameters[name] }

// Send sends messages at once.
func (c *Conn) Send(messages ...pgproto3.BackendMessage) error {
	for _, m := range messages {
		c.backend.Send(m)
	}
	return c.backend.Flush()
}

// Write sends bytes as they are.
func (c *Conn) Write(wire []byte) error {
	_, err := c.net.Write(wire)
	return err
}

// Complete ends the answer to a command: CommandComplete and ReadyForQuery.
func (c *Conn) Complete(tag string) error {
	return c.Send(&pgproto3.CommandComplete{CommandTag: []byte(tag)}, &pgproto3.ReadyForQuery{TxStatus: 'I'})
}

// Fail ends the answer to a command with an error; one of severity FATAL ends
// the connection too.
func (c *Conn) Fail(e Error) error {
	if e.Severity == "FATAL" {
		return errors.Join(c.Send(e.response()), errBye)
	}
	return c.Send(e.response(), &pgproto3.ReadyForQuery{TxStatus: 'I'})
}

// Rows sends a row description and rows; a nil value is NULL. The answer is
// still to be ended by [Conn.Complete].
func (c *Conn) Rows(columns []string, rows ...[]*string) error {
	description := &pgproto3.RowDescription{}
	for _, name := range columns {
		const textOID = 25
		description.Fields = append(description.Fields, pgproto3.FieldDescription{
			Name: []byte(name), DataTypeOID: textOID, DataTypeSize: -1, TypeModifier: -1,
		})
	}
	messages := []pgproto3.BackendMessage{description}
	for _, row := range rows {
		data := &pgproto3.DataRow{}
		for _, value := range row {
			if value == nil {
				data.Values = append(data.Values, nil)
				continue
			}
			data.Values = append(data.Values, []byte(*value))
		}
		messages = append(messages, data)
	}
	return c.Send(messages...)
}

// Text is a value of a row.
func Text(format string, args ...any) *string {
	text := fmt.Sprintf(format, args...)
	return &text
}

// cut closes the socket without a word; the connection's goroutines end.
func (c *Conn) cut() { _ = c.net.Close() }

// serve is the life of the connection.
func (c *Conn) serve() {
	defer func() { _ = c.net.Close() }()
	if err := c.startup(); err != nil {
		if errors.Is(err, errBye) {
			c.refused()
		}
		return
	}
	stop := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer close(c.gone)
		c.read(stop)
	}()
	err := c.commandLoop() // an error means that the connection is over
	close(stop)
	if errors.Is(err, errBye) {
		c.closeWrite()
	}
	_ = c.net.Close()
	<-ended
}

// refused waits until the client that was told so hangs up.
func (c *Conn) refused() {
	go func() {
		defer close(c.gone)
		_, _ = io.Copy(io.Discard, c.net)
	}()
	c.closeWrite()
}

// closeWrite closes our direction only, where that is possible, and waits for
// the client to close its own: closing a socket at once can destroy what was
// sent last, and the client would not see it.
func (c *Conn) closeWrite() {
	if half, ok := c.net.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		<-c.gone
	}
}

// startup reads the start-up message, authenticates, and reports parameters.
func (c *Conn) startup() error {
	if err := c.receiveStartup(); err != nil {
		return err
	}
	s := c.server
	var stopping bool
	s.update(func() {
		s.startups = append(s.startups, c.parameters)
		c.Number = len(s.startups)
		stopping = s.stopping
	})
	if stopping {
		return c.Fail(Error{"FATAL", "57P03", "the database system is shutting down"})
	}
	if s.config.Startup != nil {
		if refusal := s.config.Startup(c, c.parameters); refusal != nil {
			refusal.Severity = "FATAL"
			return c.Fail(*refusal)
		}
	}
	if err := c.authenticate(); err != nil {
		return err
	}
	messages := []pgproto3.BackendMessage{&pgproto3.AuthenticationOk{}}
	reported := s.parameters()
	for _, name := range sortedKeys(reported) {
		switch name {
		case "data_directory_mode", "wal_segment_size", "transaction_read_only":
			continue // only by SHOW
		}
		messages = append(messages, &pgproto3.ParameterStatus{Name: name, Value: reported[name]})
	}
	messages = append(messages,
		&pgproto3.BackendKeyData{ProcessID: uint32(c.Number), SecretKey: []byte{1, 2, 3, 4}},
		&pgproto3.ReadyForQuery{TxStatus: 'I'})
	return c.Send(messages...)
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	return keys
}

// receiveStartup reads up to the start-up message, agreeing to TLS if the
// server has it.
func (c *Conn) receiveStartup() error {
	c.backend = pgproto3.NewBackend(c.net, c.net)
	for {
		message, err := c.backend.ReceiveStartupMessage()
		if err != nil {
			return err
		}
		switch message := message.(type) {
		case *pgproto3.StartupMessage:
			c.parameters = message.Parameters
			return nil
		case *pgproto3.SSLRequest:
			if c.server.config.TLS == nil {
				err = c.Write([]byte{'N'})
				break
			}
			if err = c.Write([]byte{'S'}); err == nil {
				c.setNet(tls.Server(c.net, c.server.config.TLS))
			}
		case *pgproto3.GSSEncRequest:
			err = c.Write([]byte{'N'})
		default: // a cancel request: there is nothing to cancel
			return errCut
		}
		if err != nil {
			return err
		}
	}
}

func (c *Conn) setNet(conn net.Conn) {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	c.net = conn
	c.backend = pgproto3.NewBackend(conn, conn)
}

// read takes in what the client sends. Status reports are dealt with here, so
// that they are seen whatever the other goroutine is doing.
func (c *Conn) read(stop <-chan struct{}) {
	for {
		message, err := c.backend.Receive()
		if err != nil {
			return
		}
		c.server.update(func() { c.lastMessage = c.server.now() })
		var m clientMessage
		switch message := message.(type) {
		case *pgproto3.Query:
			m = clientMessage{'Q', message.String}
		case *pgproto3.CopyData:
			problem := c.server.copyData(c, message.Data)
			if problem == "" {
				continue
			}
			m = clientMessage{'!', problem}
		case *pgproto3.CopyDone:
			m = clientMessage{kind: 'c'}
		case *pgproto3.CopyFail:
			m = clientMessage{kind: 'f'}
		case *pgproto3.Terminate:
			m = clientMessage{kind: 'X'}
		default:
			m = clientMessage{'?', fmt.Sprintf("%T", message)}
		}
		select {
		case c.messages <- m:
		case <-stop:
			return
		}
		if m.kind == 'X' {
			return
		}
	}
}

// commandLoop answers commands until the connection ends.
func (c *Conn) commandLoop() error {
	for {
		m, err := c.next()
		if err != nil {
			return err
		}
		switch m.kind {
		case 'Q':
			err = c.command(m.text)
		case 'c', 'f':
			// Left over from a copy stream that the server ended: ignored,
			// as PostgreSQL does.
		case 'X':
			return nil
		default:
			c.server.problem("connection %d: unexpected message %s", c.Number, m.text)
			err = c.Fail(Error{"FATAL", "08P01", "invalid frontend message"})
		}
		if err != nil {
			return err
		}
	}
}

// next waits for a message of the client, or for the server's shutdown.
func (c *Conn) next() (clientMessage, error) {
	s := c.server
	for {
		s.mu.Lock()
		changed, stopping := s.changed, s.stopping
		s.mu.Unlock()
		select {
		case m := <-c.messages:
			return m, nil
		default:
		}
		if stopping {
			return clientMessage{}, c.Fail(Error{"FATAL", "57P01", "terminating connection due to administrator command"})
		}
		select {
		case m := <-c.messages:
			return m, nil
		case <-c.gone:
			return clientMessage{}, errCut
		case <-changed:
		}
	}
}
