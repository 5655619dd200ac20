package check

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/walrecv/walrecv/receiver"
)

// SQLSTATEs that say more than that the server cannot be reached.
const (
	codePrivilege = "42501" // the role may not replicate
	codeFull      = "53300" // no place for another connection
)

// connect makes the connection that a receiver makes. What the server refuses is
// told where it belongs.
func connect(ctx context.Context, w *world) []Line {
	conn, err := receiver.Connect(ctx, w.o.Conn)
	var refusal *receiver.ConnectError
	switch {
	case err == nil:
		w.conn = conn
		role := conn.ParameterStatus("session_authorization")
		return []Line{
			{Result: OK, Message: fmt.Sprintf("%s answers, and lets %s in for replication", receiver.HostOf(conn), whoever(role))},
			{Check: "rights", Result: OK, Message: whoever(role) + " may replicate"},
		}
	case errors.As(err, &refusal) && refusal.Code == codePrivilege:
		return []Line{{Check: "rights", Result: Error, Message: err.Error(), Advice: "give the role the right to replicate, or use another one"}}
	case errors.As(err, &refusal) && refusal.Code == codeFull:
		return []Line{{Check: "walsenders", Result: Error, Message: err.Error(), Advice: "raise max_wal_senders or max_connections on the server, and restart it: this check needs a place beside the receiver's, and so does a receiver whose last connection broke"}}
	}
	if refusal != nil && refusal.Code != "" {
		return fault("do on the server what is said here, or correct the connection options", "%s", err)
	}
	return fault("start the server, or correct the connection options", "%s", err)
}

func whoever(role string) string {
	if role == "" {
		return "the role"
	}
	return "role " + role
}

// identify asks the server who it is.
func identify(ctx context.Context, w *world) []Line {
	var err error
	if w.server, err = receiver.Identify(ctx, w.conn); err != nil {
		return fault("use a server that walrecv supports: PostgreSQL 13 or newer, with WAL segments of 1 MB to 1 GB", "%s", err)
	}
	w.known = true
	what := "primary"
	if w.server.InRecovery {
		what = "standby"
	}
	return ok("PostgreSQL %s, a %s, system identifier %d, at %s on timeline %d, segments of %s",
		w.server.Version, what, w.server.SystemID, w.server.End, uint32(w.server.Timeline), w.server.SegmentSize)
}

// openSQL opens an ordinary connection, which tells what a walsender cannot.
func openSQL(ctx context.Context, w *world) []Line {
	conn, err := receiver.ConnectSQL(ctx, w.o.Conn, w.conn)
	if err != nil {
		return warning("to have more checked, let the role in with a line in pg_hba.conf for the database postgres: a receiver needs it only with servers before 15, and to tell who has its slot",
			"no ordinary connection to the database postgres, so that nothing can be said of who uses the slot: %s", err)
	}
	w.sql = conn
	return ok("an ordinary connection to the database postgres can be made")
}

// show reads a setting; "" if that fails, which no check depends on.
func (w *world) show(ctx context.Context, name string) string {
	value, err := receiver.Show(ctx, w.conn, name)
	if err != nil {
		return ""
	}
	return value
}

func walLevel(ctx context.Context, w *world) []Line {
	switch level := w.show(ctx, "wal_level"); level {
	case "":
		return nil
	case "minimal":
		return fault("set wal_level = replica on the server, and restart it", "wal_level is minimal: recovery from such WAL is not possible")
	default:
		return ok("wal_level is %s", level)
	}
}

// walsenders tells whether there are places beside the receiver's. This check has
// one of them for the moment.
func walsenders(ctx context.Context, w *world) []Line {
	limit, err := strconv.Atoi(w.show(ctx, "max_wal_senders"))
	if err != nil || w.sql == nil {
		return nil
	}
	others, err := receiver.Walsenders(ctx, w.sql, w.conn.PID())
	if err != nil {
		return warning("see the server's log", "it cannot be found out how many walsenders there are: %s", err)
	}
	free := limit - len(others)
	if free < 2 {
		return warning("raise max_wal_senders, and restart the server: a receiver whose connection broke needs a second place until the server gives up on the first, a base backup one or two",
			"%d of max_wal_senders = %d are in use", len(others), limit)
	}
	return ok("%d of max_wal_senders = %d are in use", len(others), limit)
}

// synchronous tells whether commits wait for the receiver, and what then.
func synchronous(ctx context.Context, w *world) []Line {
	names, application := w.show(ctx, "synchronous_standby_names"), w.o.Conn.AppName()
	switch {
	case !receiver.NamesStandby(names, application):
		return ok("commits do not wait for this receiver: synchronous_standby_names does not name %s", application)
	case w.show(ctx, "synchronous_commit") == "remote_apply":
		return warning("use synchronous_commit = on, or take "+application+" out of synchronous_standby_names",
			"synchronous_commit is remote_apply, and synchronous_standby_names (%s) names this receiver: a commit that waits for it waits for ever, since it replays nothing", names)
	case !w.o.Synchronous:
		return warning("run walrecv receive with --synchronous",
			"commits wait for this receiver (synchronous_standby_names is %s), and --synchronous is off: each waits for up to --flush-interval", names)
	}
	return ok("commits wait for this receiver, and --synchronous is on: synchronous_standby_names is %s", names)
}

// maxSkew is how far clocks may be apart: lags and ages are told by them, and
// object stores refuse requests that are some minutes off.
const maxSkew = 5 * time.Second

// clock compares this host's clock with the server's.
func clock(ctx context.Context, w *world) []Line {
	before := time.Now()
	value, err := w.query(ctx, "SELECT extract(epoch from pg_catalog.clock_timestamp())::float8")
	if err != nil {
		return nil
	}
	seconds, err := strconv.ParseFloat(value, 64)
	if err != nil {
		return nil
	}
	took := time.Since(before)
	skew := time.UnixMicro(int64(seconds * 1e6)).Sub(before.Add(took / 2))
	if skew.Abs() > maxSkew+took {
		return warning("synchronise both clocks: lags and times are told by them, and an object store refuses requests with a wrong time",
			"the server's clock and this host's are %s apart", skew.Abs().Round(time.Second))
	}
	return ok("the server's clock and this host's agree")
}

// query returns the first value of the first row.
func (w *world) query(ctx context.Context, sql string) (string, error) {
	results, err := w.sql.Exec(ctx, sql).ReadAll()
	if err != nil {
		return "", err
	}
	if len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) == 0 {
		return "", errors.New("the server did not answer with one row")
	}
	return strings.Clone(string(results[0].Rows[0][0])), nil
}
