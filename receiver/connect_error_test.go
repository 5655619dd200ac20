package receiver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walrecv/walrecv/internal/fakepg"
)

// What the server says is understood by its code, and comes with advice.
func TestRefusals(t *testing.T) {
	for _, test := range []struct {
		code  string
		class Class
		line  string
	}{
		{"28P01", ClassFatal, `password authentication failed for user "the role": correct PGPASSWORD`},
		{"28000", ClassFatal, `host replication "the role"`},
		{"42501", ClassFatal, `ALTER ROLE "the role" REPLICATION`},
		{"53300", ClassRetry, "max_wal_senders"},
		{"57P03", ClassRetry, "starting up"},
		{"57P01", ClassRetry, "refused"},
		{"08P01", ClassRetry, "pooler"},
		{"42704", ClassFatal, "options"},
		{"0A000", ClassFatal, "does not support"},
		{"XX000", ClassRetry, "refused"},
		{"58030", ClassRetry, "refused"},
		{"3D000", ClassFatal, "refused"},
	} {
		s := fake(t, fakepg.Config{Startup: refuse(test.code)})
		c := parse(t, ConnOptions{Conninfo: "host=a user='the role' password=" + secret, Dial: network{"a": s}.dial})
		_, failure := connectTo(t, c)
		if failure == nil {
			t.Fatalf("%s: connected", test.code)
		}
		text := failure.Error()
		if failure.Class != test.class || failure.Code != test.code || Classify(failure) != test.class {
			t.Errorf("%s: class %v, code %s", test.code, failure.Class, failure.Code)
		}
		if !strings.Contains(text, test.line) || !strings.Contains(text, "nicht auf Englisch") || strings.Contains(text, "\n") {
			t.Errorf("%s: %s", test.code, text)
		}
		if strings.Contains(text, secret) {
			t.Errorf("%s: the password is in the message", test.code)
		}
	}
}

// Of a host that cannot be reached the line says so once, and each host has its own.
func TestUnreachableBriefly(t *testing.T) {
	refused := func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}, Err: syscall.ECONNREFUSED}
	}
	for hosts, want := range map[string]string{
		"a":   "a:5432: the server cannot be reached: connection refused",
		"a,b": "a:5432: the server cannot be reached: connection refused; b:5432: the server cannot be reached: connection refused",
	} {
		_, failure := connectTo(t, parse(t, ConnOptions{Conninfo: "host=" + hosts, Dial: refused}))
		if failure == nil || failure.Error() != want || !errors.Is(failure, syscall.ECONNREFUSED) {
			t.Errorf("%s: %v, want %s", hosts, failure, want)
		}
	}
}

// A translated FATAL, too, ends the connection.
func TestTranslatedSeverity(t *testing.T) {
	for severity, open := range map[string]bool{"FATAL": false, "PANIC": false, "ERROR": true} {
		err := &pgconn.PgError{Severity: "ВАЖНО", SeverityUnlocalized: severity}
		if closeOnFatal(nil, err) != open {
			t.Errorf("%s: open %v", severity, !open)
		}
	}
}

func TestClassifyState(t *testing.T) {
	for code, want := range map[string]Class{
		"57P01": ClassRetry, "57P02": ClassRetry, "55006": ClassRetry, "55000": ClassRetry, "53300": ClassRetry,
		"08006": ClassRetry, "XX000": ClassRetry, "58P01": ClassRetry, "": ClassRetry, "0": ClassRetry,
		"42602": ClassUsage, "42601": ClassFatal, "28000": ClassFatal, "22023": ClassFatal,
	} {
		if got := Classify(fmt.Errorf("x: %w", &pgconn.PgError{Code: code})); got != want {
			t.Errorf("%s: %v, want %v", code, got, want)
		}
	}
	if got := Classify(errors.New("anything")); got != ClassRetry {
		t.Errorf("an unknown error: %v", got)
	}
}

// Of several attempts with one host, the one that got furthest is reported.
func TestMostTelling(t *testing.T) {
	locked := &pgconn.PgError{Code: "28000"}
	full := &pgconn.PgError{Code: "53300"}
	unreachable := &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	alert := &net.OpError{Op: "remote error", Err: errors.New("tls: bad certificate")}
	ours := errors.New("channel binding check failed")
	for _, test := range []struct {
		attempts []error
		want     error
	}{
		{[]error{full, locked}, full},
		{[]error{locked, full}, full},
		{[]error{unreachable, locked}, locked},
		{[]error{locked, unreachable}, locked},
		{[]error{alert, unreachable}, alert},
		{[]error{ours, unreachable}, unreachable},
		{[]error{ours, locked}, locked},
		{[]error{ours}, ours},
	} {
		if got := mostTelling(test.attempts); got != test.want {
			t.Errorf("of %v: %v", test.attempts, got)
		}
	}
}
