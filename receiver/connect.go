package receiver

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// purpose says what a connection is for.
type purpose int

const (
	walsender purpose = iota // physical replication
	sql                      // ordinary queries, for what a walsender cannot tell
)

// sqlDatabase is the database of connections for queries: every cluster has it.
const sqlDatabase = "postgres"

// hostKey is where a connection keeps the host it was made to.
const hostKey = "walrecv host"

// Connect opens a physical replication connection to the first host that can
// have one and has the wanted role. Its error is a [*ConnectError], which says
// in one line what is wrong and, by its class, whether to try again. After a
// refused password no further host is tried, as in libpq.
func Connect(ctx context.Context, c *ConnConfig) (*pgconn.PgConn, error) {
	if err := c.askFirst(); err != nil {
		return nil, err
	}
	var failures []*ConnectError
	for _, role := range c.roles() {
		failures = failures[:0]
		for _, h := range c.order() {
			conn, failure := c.connectHost(ctx, h, walsender)
			if failure == nil {
				conn, failure = c.checkRole(ctx, conn, h, role)
			}
			if failure == nil {
				return conn, nil
			}
			failures = append(failures, failure)
			if ctx.Err() != nil || failure.Code == codeInvalidPassword {
				return nil, combine(failures)
			}
		}
	}
	return nil, combine(failures)
}

// ConnectSQL opens an ordinary connection, for queries, to the server of a
// replication connection that [Connect] made. pg_hba.conf may well let the role in
// for replication only.
func ConnectSQL(ctx context.Context, c *ConnConfig, replication *pgconn.PgConn) (*pgconn.PgConn, error) {
	h, ok := serverOf(replication)
	if !ok {
		return nil, errors.New("the connection was not made by Connect")
	}
	return c.connectSQL(ctx, h)
}

func (c *ConnConfig) connectSQL(ctx context.Context, h host) (*pgconn.PgConn, error) {
	conn, failure := c.connectHost(ctx, h, sql)
	if failure != nil {
		return nil, failure
	}
	return conn, nil
}

// serverOf is the host of a connection that [Connect] made, with the address that
// it is connected to: a name may have several, and another one in a moment.
func serverOf(conn *pgconn.PgConn) (h host, ok bool) {
	h, ok = conn.CustomData()[hostKey].(host)
	if remote, isTCP := conn.Conn().RemoteAddr().(*net.TCPAddr); isTCP {
		h.address = remote.AddrPort().Addr().Unmap().String()
	}
	return h, ok
}

// HostOf names the host of a connection that [Connect] made.
func HostOf(conn *pgconn.PgConn) string {
	h, ok := conn.CustomData()[hostKey].(host)
	if !ok {
		return "the server"
	}
	return h.String()
}

// refuse leaves out the host of a connection until accept. It returns false if
// all hosts are left out then.
func (c *ConnConfig) refuse(conn *pgconn.PgConn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h, ok := conn.CustomData()[hostKey].(host); ok {
		if c.refused == nil {
			c.refused = map[host]bool{}
		}
		c.refused[h] = true
	}
	return slices.ContainsFunc(c.hosts, func(h host) bool { return !c.refused[h] })
}

// accept makes all hosts eligible again.
func (c *ConnConfig) accept() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused = nil
}

// order is the order in which the hosts are tried.
func (c *ConnConfig) order() []host {
	c.mu.Lock()
	hosts := slices.DeleteFunc(slices.Clone(c.hosts), func(h host) bool { return c.refused[h] })
	c.mu.Unlock()
	if c.settings["load_balance_hosts"] == "random" {
		c.options.Shuffle(len(hosts), func(i, j int) { hosts[i], hosts[j] = hosts[j], hosts[i] })
	}
	return hosts
}

// connectHost tries all addresses of one host, and asks the operator for a
// password if the server wants one and there is none.
func (c *ConnConfig) connectHost(ctx context.Context, h host, p purpose) (*pgconn.PgConn, *ConnectError) {
	for {
		a, err := c.attempt(h, p)
		if err != nil {
			// It was good at the start, so a file it names has changed since,
			// and may be in the middle of being replaced.
			return nil, &ConnectError{Class: ClassFatal, Host: h.String(), Line: err.Error(), Err: err}
		}
		var in *inbound
		a.config.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
			in = newInbound(r) // of the last address that was tried
			return pgproto3.NewFrontend(in, w)
		}
		conn, err := pgconn.ConnectConfig(ctx, a.config)
		if err == nil {
			conn.CustomData()[hostKey], conn.CustomData()[inboundKey] = h, in
			return conn, nil
		}
		failure := a.explain(ctx, err)
		if failure.Code != codeInvalidPassword || a.passwordFrom != noPassword || p != walsender || !c.askLater() {
			return nil, failure
		}
		if err := c.ask(); err != nil {
			return nil, &ConnectError{Class: ClassFatal, Host: h.String(), Line: "the password could not be read: " + err.Error(), Err: err}
		}
	}
}

// askFirst prompts before the first connection, with -W.
func (c *ConnConfig) askFirst() error {
	c.mu.Lock()
	asked := c.asked
	c.mu.Unlock()
	if asked || !c.options.ForcePassword || c.options.Password == nil {
		return nil
	}
	if err := c.ask(); err != nil {
		return &ConnectError{Class: ClassFatal, Line: "the password could not be read: " + err.Error(), Err: err}
	}
	return nil
}

// askLater tells whether the operator may be asked because the server demands
// a password.
func (c *ConnConfig) askLater() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.asked && !c.options.NoPassword && c.options.Password != nil
}

// ask prompts; the answer holds for all connections to come.
func (c *ConnConfig) ask() error {
	password, err := c.options.Password("Password: ")
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked, c.password = true, password
	return nil
}

// roles are the values of target_session_attrs to try one after the other.
func (c *ConnConfig) roles() []string {
	wanted := c.settings["target_session_attrs"]
	if c.options.PrimaryOnly && wanted != "read-write" {
		return []string{"primary"}
	}
	switch wanted {
	case "":
		return []string{"any"}
	case "prefer-standby":
		return []string{"standby", "any"}
	default:
		return []string{wanted}
	}
}

// checkRole closes a connection to a server that has not the wanted role. That
// is worth another try: roles change.
func (c *ConnConfig) checkRole(ctx context.Context, conn *pgconn.PgConn, h host, wanted string) (*pgconn.PgConn, *ConnectError) {
	ok, err := hasRole(ctx, conn, wanted)
	if err == nil && ok {
		return conn, nil
	}
	HangUp(conn)
	if err != nil {
		return nil, &ConnectError{Class: Classify(err), Host: h.String(), Line: "the server's role cannot be found out: " + err.Error(), Err: err}
	}
	line := "the server is not what target_session_attrs=" + c.settings["target_session_attrs"] + " asks for"
	if wanted == "primary" && c.options.PrimaryOnly {
		line = "the server is a standby, and --primary-only waits for a primary"
	}
	return nil, &ConnectError{Class: ClassRetry, Host: h.String(), Err: errRole, Line: line}
}

// HangUp says goodbye, without waiting long for a server that does not listen.
func HangUp(conn *pgconn.PgConn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx) // nothing depends on a connection that is given up
}

var errRole = errors.New("wrong role")

// hasRole compares a server with a value of target_session_attrs. pgconn's own
// way is SQL, which a walsender does not understand: servers from 14 on report
// what is needed by themselves, older ones answer SHOW, in upper case only.
func hasRole(ctx context.Context, conn *pgconn.PgConn, wanted string) (bool, error) {
	if wanted == "any" {
		return true, nil
	}
	standby, err := inRecovery(ctx, conn)
	if err != nil {
		return false, err
	}
	readOnly := standby || conn.ParameterStatus("default_transaction_read_only") == "on"
	switch wanted {
	case "read-write":
		return !readOnly, nil
	case "read-only":
		return readOnly, nil
	case "primary":
		return !standby, nil
	default:
		return standby, nil
	}
}

// inRecovery tells whether a server is a standby. A primary before 14 whose
// transactions are read-only by default cannot be told from one.
func inRecovery(ctx context.Context, conn *pgconn.PgConn) (bool, error) {
	switch conn.ParameterStatus("in_hot_standby") {
	case "on":
		return true, nil
	case "off":
		return false, nil
	}
	value, err := Show(ctx, conn, "transaction_read_only")
	return value == "on", err
}

// isLocal tells whether a connection needs no line for an address in
// pg_hba.conf.
func isLocal(address net.Addr) bool {
	return address == nil || address.Network() == "unix"
}
