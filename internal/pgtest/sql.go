package pgtest

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// sqlWithin bounds every statement: a commit that waits for a synchronous
// standby that never comes shall fail the test and not hang it.
const sqlWithin = 2 * time.Minute

// ConnString is a libpq connection string for the superuser, over TCP.
func (c *Cluster) ConnString(db string) string {
	return fmt.Sprintf("host=127.0.0.1 port=%d user=%s dbname=%s", c.Port, superuser, db)
}

// ReplConn is a connection string for the superuser, over TCP, that names no
// database: as one gives it to a program that makes replication connections.
func (c *Cluster) ReplConn() string {
	return fmt.Sprintf("host=127.0.0.1 port=%d user=%s", c.Port, superuser)
}

// SocketConn is ConnString over the server's socket, where everybody is
// trusted.
func (c *Cluster) SocketConn(db string) string {
	return fmt.Sprintf("host=%s port=%d user=%s dbname=%s", c.SocketDir, c.Port, superuser, db)
}

// Command prepares a PostgreSQL client program, such as pgbench, for database
// postgres of this cluster.
func (c *Cluster) Command(t testing.TB, name string, args ...string) *Process {
	t.Helper()
	p := Command(t, Client(t, name), args...)
	p.Env = []string{
		"PGHOST=" + c.SocketDir, "PGPORT=" + strconv.Itoa(c.Port),
		"PGUSER=" + superuser, "PGDATABASE=postgres",
	}
	return p
}

// Exec runs SQL in database postgres, on a connection of its own.
func (c *Cluster) Exec(sql string) {
	c.t.Helper()
	if err := c.TryExec(context.Background(), sql); err != nil {
		c.t.Fatalf("%s: %v", sql, err)
	}
}

// TryExec runs SQL as Exec does.
func (c *Cluster) TryExec(ctx context.Context, sql string) error {
	_, err := c.TryQuery(ctx, sql)
	return err
}

// Query returns the first value of the first row of a query, as text. NULL and
// no row at all are "".
func (c *Cluster) Query(sql string) string {
	c.t.Helper()
	rows := c.QueryRows(sql)
	if len(rows) == 0 || len(rows[0]) == 0 {
		return ""
	}
	return rows[0][0]
}

// QueryRows returns all rows of a query, as text.
func (c *Cluster) QueryRows(sql string) [][]string {
	c.t.Helper()
	rows, err := c.TryQuery(context.Background(), sql)
	if err != nil {
		c.t.Fatalf("%s: %v", sql, err)
	}
	return rows
}

// TryQuery returns all rows of a query, of the last one if sql is several, as
// text.
func (c *Cluster) TryQuery(ctx context.Context, sql string) ([][]string, error) {
	ctx, cancel := context.WithTimeout(ctx, sqlWithin)
	defer cancel()
	conn, err := pgconn.Connect(ctx, c.SocketConn("postgres"))
	if err != nil {
		return nil, err
	}
	// An error of closing says nothing about the statement.
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	return queryOn(ctx, conn, sql)
}

func queryOn(ctx context.Context, conn *pgconn.PgConn, sql string) ([][]string, error) {
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil || len(results) == 0 {
		return nil, err
	}
	var rows [][]string
	for _, values := range results[len(results)-1].Rows {
		row := make([]string, len(values))
		for i, value := range values {
			row[i] = string(value)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// WaitFor runs a query until its first value is want. Errors of the server, such
// as that it is starting, count as another value. The test ends if that takes
// longer than d.
func (c *Cluster) WaitFor(sql, want string, d time.Duration) {
	c.t.Helper()
	got := "nothing yet"
	look := func() bool {
		rows, err := c.TryQuery(context.Background(), sql)
		switch {
		case err != nil:
			got = err.Error()
			return false
		case len(rows) == 0 || len(rows[0]) == 0:
			got = ""
		default:
			got = rows[0][0]
		}
		return got == want
	}
	if !poll(d, look) {
		c.t.Fatalf("%s: %q after %v, want %q", sql, got, d, want)
	}
}

// accepts tells whether the server takes connections.
func (c *Cluster) accepts() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err := c.TryQuery(ctx, "select 1")
	return err == nil
}

// SystemID returns the system identifier of the cluster.
func (c *Cluster) SystemID() string {
	c.t.Helper()
	return c.Query("select system_identifier from pg_control_system()")
}

// FlushLSN returns the end of the WAL that the server has flushed.
func (c *Cluster) FlushLSN() string {
	c.t.Helper()
	return c.Query("select pg_current_wal_flush_lsn()")
}

// SwitchWAL ends the current WAL segment, in which at least one record stands,
// and returns the name of its file.
func (c *Cluster) SwitchWAL() string {
	c.t.Helper()
	// Two statements, so that a switch on a segment's border has something to
	// switch from.
	c.Exec("select pg_logical_emit_message(false, 'pgtest', 'switch')")
	return c.Query("select pg_walfile_name(pg_switch_wal())")
}

// WALFile returns the path of one of the cluster's own segments.
func (c *Cluster) WALFile(name string) string { return filepath.Join(c.WALDir(), name) }
