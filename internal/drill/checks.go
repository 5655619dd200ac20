package drill

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Names of checks.
const (
	checkTarget    = "target"
	checkSQL       = "sql"
	checkAmcheck   = "amcheck"
	checkChecksums = "checksums"
)

// boolOID is the type boolean, the same in every cluster.
const boolOID = 16

// restored is a server that has been brought to the target.
type restored struct {
	p        *place
	programs Programs
	environ  []string
	database string   // for checks
	roles    []string // to connect as
	paused   bool     // nothing can be written
}

// sql makes one check: a statement that gives one value, which is true.
func (s *restored) sql(ctx context.Context, statement string) (Check, Kind) {
	began := time.Now()
	kind, message := s.verdict(ctx, statement)
	c := Check{Name: checkSQL, SQL: statement, Result: Passed, Message: message, Seconds: since(began)}
	if kind != "" {
		c.Result = Failed
	}
	return c, kind
}

// verdict says what is wrong with the answer to a check; "" for nothing. Each check
// has a connection of its own: what one sets does not reach the next.
func (s *restored) verdict(ctx context.Context, statement string) (Kind, string) {
	conn, _, err := s.p.connect(ctx, s.database, s.roles)
	if err != nil {
		return CheckError, serverText(err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	answer := conn.ExecParams(ctx, statement, nil, nil, nil, nil)
	cells, values := len(answer.FieldDescriptions()), [][]byte{}
	rows := 0
	for answer.NextRow() {
		if rows++; rows == 1 {
			for _, v := range answer.Values() {
				values = append(values, bytes.Clone(v))
			}
		}
	}
	fields := answer.FieldDescriptions()
	cells = max(cells, len(fields))
	if _, err := answer.Close(); err != nil {
		return errorKind(err), serverText(err)
	}
	switch {
	case cells != 1 || rows != 1:
		return CheckFalse, fmt.Sprintf("%s of %s; a check is one value", count(rows, "row"), count(cells, "column"))
	case fields[0].DataTypeOID != boolOID:
		return CheckFalse, "the value is no boolean"
	case values[0] == nil:
		return CheckFalse, "the value is null"
	case string(values[0]) != "t":
		return CheckFalse, "the value is false"
	}
	return "", ""
}

// errorKind tells a statement that no server understands from one that this server has
// an error with. A table that is missing may be the archive's fault.
func errorKind(err error) Kind {
	const syntaxError = "42601"
	if said := new(pgconn.PgError); errors.As(err, &said) && said.Code == syntaxError {
		return CheckInvalid
	}
	return CheckError
}

// serverText is an error of the server with what it says besides.
func serverText(err error) string {
	var said *pgconn.PgError
	if !errors.As(err, &said) {
		return err.Error()
	}
	text := fmt.Sprintf("%s: %s (SQLSTATE %s)", said.Severity, said.Message, said.Code)
	if said.Detail != "" {
		text += ": " + said.Detail
	}
	return text
}

// amcheck runs pg_amcheck over all databases.
func (s *restored) amcheck(ctx context.Context, conn *pgconn.PgConn, user string) Check {
	c := Check{Name: checkAmcheck, Result: Skipped}
	switch {
	case s.programs.Amcheck == "":
		c.Message = "pg_amcheck is not installed with this server"
		return c
	case s.paused:
		c.Message = "a paused server cannot be written to, and the extension has to be made"
		return c
	}
	there, err := ask(ctx, conn, "select exists (select from pg_available_extensions where name = 'amcheck')")
	if err != nil || there != "t" {
		c.Message = "the extension amcheck is not installed with this server"
		return c
	}
	began := time.Now()
	out, err := s.run(ctx, s.programs.Amcheck, "--all", "--install-missing", "--no-password", "--jobs=2",
		"--host", s.p.socket, "--port", fmt.Sprint(port), "--username", user)
	c.Result, c.Seconds = Passed, since(began)
	if err != nil {
		c.Result, c.Message = Failed, programText(out, err)
	}
	return c
}

// checksums reads all data files of the server, which has been stopped.
func (s *restored) checksums(ctx context.Context, enabled bool) Check {
	c := Check{Name: checkChecksums, Result: Skipped}
	switch {
	case !enabled:
		c.Message = "data checksums are not enabled in this cluster"
		return c
	case s.programs.Checksums == "":
		c.Message = "pg_checksums is not installed with this server"
		return c
	}
	began := time.Now()
	out, err := s.run(ctx, s.programs.Checksums, "--check", "--pgdata", s.p.data())
	c.Result, c.Seconds = Passed, since(began)
	if err != nil {
		c.Result, c.Message = Failed, programText(out, err)
	}
	return c
}

// run runs a program on the server's files, as the user of the server.
func (s *restored) run(ctx context.Context, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = s.p.dir // where it is found if this process is killed
	cmd.Env = append(s.environ, "PGOPTIONS=-c session_preload_libraries= -c local_preload_libraries= -c statement_timeout=0", "HOME="+s.p.dir)
	cmd.SysProcAttr = s.p.as.plain().attributes(true)
	cmd.WaitDelay = logWithin
	var out limited
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return out.String(), err
}

// limited keeps the beginning of what is written to it.
type limited struct{ b strings.Builder }

// Write implements io.Writer.
func (l *limited) Write(p []byte) (int, error) {
	const most = 16 << 10
	l.b.Write(p[:min(len(p), max(0, most-l.b.Len()))])
	return len(p), nil
}

func (l *limited) String() string { return l.b.String() }

// programText is what a program that failed has said, as far as a report has room.
func programText(out string, err error) string {
	const most = 12
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if more := len(lines) - most; more > 0 {
		lines = append(lines[:most], fmt.Sprintf("... and %d more lines", more))
	}
	return fmt.Sprintf("%v: %s", err, strings.Join(lines, "\n"))
}

// count is a number of things.
func count(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}

// since is how long ago something was, in seconds.
func since(began time.Time) float64 { return seconds(time.Since(began)) }

// seconds is a duration as reports have it, to the millisecond.
func seconds(d time.Duration) float64 {
	return float64(d.Round(time.Millisecond).Milliseconds()) / 1000
}
