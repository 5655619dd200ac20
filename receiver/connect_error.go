package receiver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
)

// Class says what is to be done about a failure.
type Class int

const (
	// ClassRetry: it may pass by itself. The zero value: what is not known
	// does not end a receiver.
	ClassRetry Class = iota
	// ClassFatal: it lasts until somebody changes something on the server or
	// in the configuration.
	ClassFatal
	// ClassUsage: what was asked for can never work.
	ClassUsage
)

func (c Class) String() string {
	switch c {
	case ClassFatal:
		return "fatal"
	case ClassUsage:
		return "usage"
	default:
		return "retry"
	}
}

// SQLSTATEs that steer what happens. Messages do not: they are translated.
const (
	codeInvalidPassword       = "28P01"
	codeInvalidAuthorization  = "28000"
	codeInsufficientPrivilege = "42501"
	codeInvalidName           = "42602"
	codeDuplicateObject       = "42710"
	codeUndefinedObject       = "42704"
	codeTooManyConnections    = "53300"
	codeObjectInUse           = "55006"
	codeCannotConnectNow      = "57P03"
	codeProtocolViolation     = "08P01"
	codeFeatureNotSupported   = "0A000"
	codeNoSuchFile            = "58P01"
)

// ConnectError is a failure to connect.
type ConnectError struct {
	Class Class
	Host  string // the host it is about; "" if it is about several or none
	Code  string // SQLSTATE; "" if the server said nothing
	Line  string // what is wrong and what to do about it, in one line
	Err   error  // the cause; its text may be long
}

func (e *ConnectError) Error() string {
	if e.Host == "" {
		return e.Line
	}
	return e.Host + ": " + e.Line
}

// Unwrap returns the cause.
func (e *ConnectError) Unwrap() error { return e.Err }

// UnsupportedError says that walrecv cannot work with a server, or not with
// the kind of connection.
type UnsupportedError struct{ Reason string }

func (e *UnsupportedError) Error() string { return e.Reason }

// Classify says what to do about an error of this package, of the server, or
// of the network. What it does not know is worth another try. nil is ClassRetry.
func Classify(err error) Class {
	var connect *ConnectError
	var info *ConnInfoError
	var name *SlotNameError
	var unsupported *UnsupportedError
	var server *pgconn.PgError
	switch {
	case errors.As(err, &connect):
		return connect.Class
	case errors.As(err, &info), errors.As(err, &name), errors.Is(err, ErrSlotLogical):
		return ClassUsage
	case errors.As(err, &unsupported), errors.Is(err, ErrSlotMissing), errors.Is(err, ErrSlotLost):
		return ClassFatal
	case errors.As(err, &server):
		return classifyState(server.Code)
	case isTLSFailure(err):
		return ClassFatal
	}
	return ClassRetry
}

// classifyState goes by SQLSTATE: the classes of errors about what was asked,
// who asked and what is supported last; those about connections, resources,
// the operator and the system pass.
func classifyState(code string) Class {
	if code == codeInvalidName {
		return ClassUsage
	}
	const lasting = "0A 22 28 2B 3D 3F 42"
	if len(code) == 5 && strings.Contains(lasting, code[:2]) {
		return ClassFatal
	}
	return ClassRetry
}

// combine makes one error of those of all hosts: worth another try if one of
// them is.
func combine(failures []*ConnectError) *ConnectError {
	if len(failures) == 1 {
		return failures[0]
	}
	all := &ConnectError{Class: ClassUsage}
	var lines []string
	var causes []error
	for _, f := range failures {
		all.Class = min(all.Class, f.Class)
		all.Code = f.Code // of the last, which may be what ended the tries
		lines = append(lines, f.Error())
		causes = append(causes, f)
	}
	last := failures[len(failures)-1]
	if last.Code == codeInvalidPassword {
		all.Class = last.Class
	}
	all.Line = strings.Join(lines, "; ")
	all.Err = errors.Join(causes...)
	return all
}

// explain turns pgconn's error, which is one for each address and for TLS and
// not, into the one that says most.
func (a *attempt) explain(ctx context.Context, err error) *ConnectError {
	e := &ConnectError{Host: a.host.String(), Err: err}
	if ctx.Err() != nil {
		e.Line, e.Err = "the connection attempt was given up", ctx.Err()
		return e
	}
	all := attemptErrors(err)
	cause := mostTelling(all)
	var server *pgconn.PgError
	switch {
	case errors.As(cause, &server):
		e.Class, e.Code = classifyState(server.Code), server.Code
		e.Line = a.serverLine(server) + otherReasons(all)
	case isTLSFailure(cause):
		e.Class = ClassFatal
		e.Line = a.tlsLine(cause)
	case a.c.timeout > 0 && (pgconn.Timeout(cause) || errors.Is(cause, context.DeadlineExceeded)):
		e.Line = fmt.Sprintf("no answer within %s", a.c.timeout)
	case isNetworkFailure(cause):
		e.Line = "the server cannot be reached: " + briefly(cause)
	default:
		// Neither the server nor the network: one of our own conditions
		// (sslmode, channel_binding, require_auth, ...) is not met.
		e.Class = ClassFatal
		e.Line = "the server does not meet the connection options: " + oneLine(cause)
	}
	return e
}

// attemptErrors takes pgconn's error apart.
func attemptErrors(err error) []error {
	for inner := err; inner != nil; inner = errors.Unwrap(inner) {
		if joined, ok := inner.(interface{ Unwrap() []error }); ok {
			return joined.Unwrap()
		}
	}
	return []error{err}
}

// otherReasons adds what went wrong on our side in an attempt with TLS, or
// without, which the server refused in the other way: it is what the operator
// has to correct. That a server has no TLS is none, where we can do without.
func otherReasons(errs []error) string {
	text := ""
	for _, err := range errs {
		var server *pgconn.PgError
		if errors.As(err, &server) || !isTLSFailure(err) && isNetworkFailure(err) || leaf(err).Error() == "server refused TLS connection" {
			continue
		}
		text += "; in another attempt: " + oneLine(err)
	}
	return text
}

// leaf is the innermost cause of an error.
func leaf(err error) error {
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	return err
}

// mostTelling picks what the server said, rather than what TLS, rather than
// what the network did; of equals the last. That the server lets nobody in this
// way counts less than what it said to the attempt it let in further: where
// pg_hba.conf wants TLS, every failure with TLS is followed by one without.
func mostTelling(errs []error) error {
	var best error
	bestRank := -1
	for _, err := range errs {
		var server *pgconn.PgError
		rank := 0
		switch {
		case errors.As(err, &server) && server.Code != codeInvalidAuthorization:
			rank = 4
		case server != nil:
			rank = 3
		case isTLSFailure(err):
			rank = 2
		case isNetworkFailure(err):
			rank = 1
		}
		if rank >= bestRank {
			best, bestRank = err, rank
		}
	}
	return best
}

// isTLSFailure recognises certificates that one side does not accept, and
// servers that speak no TLS that we do.
func isTLSFailure(err error) bool {
	var verification *tls.CertificateVerificationError
	var alert *net.OpError // crypto/tls puts alerts into one
	var record tls.RecordHeaderError
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	return errors.As(err, &alert) && (alert.Op == "remote error" || alert.Op == "local error") ||
		errors.As(err, &verification) || errors.As(err, &record) ||
		errors.As(err, &authority) || errors.As(err, &name) || errors.As(err, &invalid)
}

func isNetworkFailure(err error) bool {
	var network net.Error
	var errno syscall.Errno
	return errors.As(err, &network) || errors.As(err, &errno) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, io.ErrClosedPipe) || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
}

// briefly is what the network said, without the addresses: the host stands in front
// of it.
func briefly(err error) string {
	var name *net.DNSError
	var op *net.OpError
	switch {
	case errors.As(err, &name):
		return oneLine(name)
	case errors.As(err, &op) && op.Err != nil:
		return oneLine(op.Err)
	}
	return oneLine(leaf(err))
}

func oneLine(err error) string {
	return strings.Join(strings.Fields(err.Error()), " ")
}
