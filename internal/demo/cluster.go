package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

const (
	superuser = "postgres"

	startWithin = time.Minute
	sqlWithin   = time.Minute
)

// cluster is a PostgreSQL cluster and its server.
type cluster struct {
	s      *stage
	pg     postgres
	name   string // of its data directory in the stage, and of its log
	port   int    // it names the socket, too
	server *process
}

func (c *cluster) dir() string { return c.s.path(c.name) }

// settings that every server here has.
const settings = `
max_connections = 40
shared_buffers = '64MB'
max_wal_size = '4GB'
checkpoint_timeout = '30min'
jit = off
# Segments in /dev/shm would outlive a server that is killed.
dynamic_shared_memory_type = 'mmap'
log_timezone = 'UTC'
log_replication_commands = on
`

// initialize makes a cluster that accepts replication connections, with a
// password, on a port of the loopback interface.
func (c *cluster) initialize(ctx context.Context) error {
	if err := c.s.mkdir(c.name); err != nil {
		return err
	}
	err := c.s.tool(ctx, nil, c.pg.program("initdb"), "--pgdata", c.dir(), "--username", superuser, "--auth", "trust",
		"--encoding", "UTF8", "--locale", "C", "--data-checksums", "--wal-segsize", "16", "--no-sync")
	if err != nil {
		return err
	}
	hba := "local all,replication all trust\n" +
		"host all,replication " + receiverUser + " 127.0.0.1/32 scram-sha-256\n"
	if err := c.s.write(filepath.Join(c.dir(), "pg_hba.conf"), hba); err != nil {
		return err
	}
	return c.configure(settings + `
password_encryption = 'scram-sha-256'
wal_level = replica
synchronous_commit = on
` + c.address("127.0.0.1"))
}

// address are the settings of where the server listens: on a socket in its data
// directory, which nobody else can enter, and at addresses.
func (c *cluster) address(addresses string) string {
	return fmt.Sprintf("unix_socket_directories = '%s'\nlisten_addresses = '%s'\nport = %d\n", c.dir(), addresses, c.port)
}

// configure adds lines to the configuration file. The last of several wins.
func (c *cluster) configure(lines string) error {
	return appendTo(filepath.Join(c.dir(), "postgresql.conf"), lines)
}

// start starts the server and waits until it accepts connections.
func (c *cluster) start(ctx context.Context) error {
	// Not in ctx: when that ends, sweep ends the server with all its children.
	cmd := c.s.command(context.WithoutCancel(ctx), c.pg.program("postgres"), "-D", c.dir())
	cmd.Dir = c.dir()
	var err error
	if c.server, err = c.s.start(c.name, cmd); err != nil {
		return err
	}
	return c.await(ctx, startWithin, "select 1", "1", "the server did not accept connections")
}

// await runs a query until its answer is want.
func (c *cluster) await(ctx context.Context, within time.Duration, sql, want, what string) error {
	return poll(ctx, within, func() (bool, error) {
		if how, ended := c.server.ended(); ended {
			return false, fmt.Errorf("the PostgreSQL server %s ended: %s", c.name, how)
		}
		got, err := c.value(ctx, sql)
		return err == nil && got == want, nil // it may be starting
	}, what)
}

// connect opens a session of the superuser.
func (c *cluster) connect(ctx context.Context) (*pgconn.PgConn, error) {
	return pgconn.Connect(ctx, fmt.Sprintf("host=%s port=%d user=%s dbname=postgres", c.dir(), c.port, superuser))
}

// query runs statements and returns the rows of the last one.
func (c *cluster) query(ctx context.Context, sql string) ([][][]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, sqlWithin, fmt.Errorf("a statement did not end within %v: %.60s", sqlWithin, sql))
	defer cancel()
	conn, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	// An error of closing says nothing about the statements.
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	results, err := conn.Exec(ctx, sql).ReadAll()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil || len(results) == 0 {
		return nil, err
	}
	return results[len(results)-1].Rows, nil
}

// value returns the first value of the first row.
func (c *cluster) value(ctx context.Context, sql string) (string, error) {
	rows, err := c.query(ctx, sql)
	if err != nil {
		return "", err
	}
	if len(rows) == 0 || len(rows[0]) == 0 {
		return "", nil
	}
	return string(rows[0][0]), nil
}

// exec runs statements for what they do.
func (c *cluster) exec(ctx context.Context, sql string) error {
	_, err := c.query(ctx, sql)
	return err
}

// environment leads PostgreSQL's client programs to this server.
func (c *cluster) environment() []string {
	return []string{"PGHOST=" + c.dir(), "PGPORT=" + strconv.Itoa(c.port), "PGUSER=" + superuser, "PGDATABASE=postgres"}
}

// destroy kills the server with all its children, at once, and removes the data
// directory.
func (c *cluster) destroy() error {
	if err := c.server.signal(syscall.SIGKILL); err != nil {
		return err
	}
	if err := killBelow(c.dir()); err != nil {
		return err
	}
	if err := removeSharedMemory(c.dir()); err != nil {
		return err
	}
	return os.RemoveAll(c.dir())
}
