package receiver

import (
	"fmt"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// serverLine says what the server's refusal means, and what to do.
func (a *attempt) serverLine(e *pgconn.PgError) string {
	return fmt.Sprintf("%s [%s: %s]", a.advice(e), e.Code, e.Message)
}

func (a *attempt) advice(e *pgconn.PgError) string {
	user := a.config.User
	switch e.Code {
	case codeInvalidPassword:
		return a.passwordAdvice()
	case codeInvalidAuthorization:
		return fmt.Sprintf("the server does not let role %q open this connection from here: the role must exist and have LOGIN, and pg_hba.conf needs a line like: %s",
			user, a.hbaLine())
	case codeInsufficientPrivilege:
		return fmt.Sprintf("role %q may not replicate: on the primary, run ALTER ROLE %s REPLICATION", user, quoteIdentIfNeeded(user))
	case codeTooManyConnections:
		return "the server has no place for another connection (a receiver needs one of max_wal_senders, which count within max_connections)"
	case codeCannotConnectNow:
		return "the server is starting up, shutting down, or not accepting connections yet"
	case codeProtocolViolation:
		return "this does not answer like a PostgreSQL server that can replicate: a connection pooler cannot be used for replication unless it supports it"
	case codeUndefinedObject:
		return "the server does not know a setting that was given through options"
	case codeFeatureNotSupported:
		return "the server does not support this kind of connection"
	}
	return "the server refused the connection"
}

func (a *attempt) passwordAdvice() string {
	user := a.config.User
	text := fmt.Sprintf("password authentication failed for user %q", user)
	switch a.passwordFrom {
	case noPassword:
		return fmt.Sprintf("the server demands a password for user %q and there is none: set PGPASSWORD, write a .pgpass line for database %q, or use -W",
			user, replicationDatabase)
	case fromPassfile:
		return text + ": the password came from " + a.c.passfilePath()
	case fromSettings:
		return text + fmt.Sprintf(": correct PGPASSWORD or the connection string, or write a .pgpass line for database %q instead", replicationDatabase)
	default:
		return text
	}
}

// hbaLine is the line of pg_hba.conf that would let us in, with the address
// that we see at our end.
func (a *attempt) hbaLine() string {
	user := quoteIdentIfNeeded(a.config.User)
	local, _ := a.local.Load().(localAddr)
	if isLocal(local.Addr) {
		return fmt.Sprintf("local %s %s peer", a.config.Database, user)
	}
	address := local.String()
	if host, _, err := net.SplitHostPort(address); err == nil {
		address = host
	}
	if ip := net.ParseIP(address); ip != nil {
		bits := 128
		if ip.To4() != nil {
			bits = 32
		}
		address = fmt.Sprintf("%s/%d", address, bits)
	}
	return fmt.Sprintf("host %s %s %s scram-sha-256", a.config.Database, user, address)
}

// tlsLine says what was wrong about TLS.
func (a *attempt) tlsLine(err error) string {
	mode := a.c.settings["sslmode"]
	if mode == "" {
		mode = "prefer"
	}
	root := a.c.settings["sslrootcert"]
	if root == "" {
		root = "~/.postgresql/root.crt"
	}
	return fmt.Sprintf("TLS failed (sslmode=%s, sslrootcert=%s): %s", mode, root, oneLine(err))
}

// quoteIdentIfNeeded writes an identifier as a person would.
func quoteIdentIfNeeded(name string) string {
	if name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == "" && (name[0] < '0' || name[0] > '9') {
		return name
	}
	return quoteIdent(name)
}
