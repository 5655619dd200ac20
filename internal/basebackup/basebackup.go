// Package basebackup takes a base backup from a server over a replication
// connection: the BASE_BACKUP of PostgreSQL 15 and newer. It hands on what the
// server sends, as it comes; what becomes of it is up to a [Sink].
package basebackup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/walrecv/walrecv/segment"
)

// MinMajor is the oldest PostgreSQL whose backups are understood: older servers
// send another stream.
const MinMajor = 15

// silence is how long a server may send nothing once the backup has begun. It
// reads files all the time then, so this is for a disk that hangs: MAX_RATE pauses
// for seconds at most.
const silence = 5 * time.Minute

// errSilence says that a server that was sending has stopped.
var errSilence = fmt.Errorf("nothing was heard from the server for %s", silence)

// Start is what a server says when the backup begins.
type Start struct {
	LSN      segment.LSN // recovery begins here
	Timeline segment.TimelineID

	// Tablespaces are what the backup consists of, in the order in which they are
	// sent; the last one is the data directory itself.
	Tablespaces []Tablespace
}

// Tablespace is one of the parts of a backup.
type Tablespace struct {
	OID      uint32 // 0: the data directory
	Location string // on the server; empty for the data directory
	Size     int64  // bytes, as the server estimated them before it began
}

// Result is what a server says when the backup is complete.
type Result struct {
	LSN      segment.LSN // WAL up to here, from where the backup began, is part of it
	Timeline segment.TimelineID
}

// Sink takes what a server sends. The calls come one after the other, in the order
// of the stream: Begin; for each tablespace Archive and any number of Data;
// Manifest and Data. An error ends the backup, and is returned as it is.
type Sink interface {
	// Begin says that the backup has begun: the server has made its checkpoint.
	Begin(Start) error
	// Archive says that the tar of a tablespace follows.
	Archive(Tablespace) error
	// Manifest says that the backup manifest follows.
	Manifest() error
	// Data is the next piece of what was begun last. It is valid during the call
	// only.
	Data(p []byte) error
}

// Run takes a base backup and returns once the server has said that it is complete
// and sound. conn must be a physical replication connection that nothing else uses
// meanwhile. After an error, or when ctx ends, it is of no use any more and has to be
// closed; the server is told to stop. What has come by then is no backup, also where
// all of it has: a server reports damaged pages at the very end.
//
// Until the backup begins the server makes a checkpoint, which takes as long as it
// takes; of a network that is gone meanwhile the connection's keepalives know.
func Run(ctx context.Context, conn *pgconn.PgConn, o Options, sink Sink) (Result, error) {
	command, err := o.command()
	if err != nil {
		return Result{}, err
	}
	r := reader{conn: conn, decoder: decoder{sink: sink}}
	result, err := r.run(ctx, command)
	var refusal *pgconn.PgError
	if err != nil && !errors.As(err, &refusal) && !conn.IsClosed() {
		r.cancel(ctx)
	}
	return result, err
}

// reader reads the answer to one command.
type reader struct {
	conn     *pgconn.PgConn
	decoder  decoder
	deadline time.Time // for the next message; zero: none
}

func (r *reader) run(ctx context.Context, command string) (Result, error) {
	expire := context.AfterFunc(ctx, func() { _ = r.conn.Conn().SetReadDeadline(time.Unix(1, 0)) })
	defer expire()
	r.conn.Frontend().SendQuery(&pgproto3.Query{String: command})
	if err := r.conn.Frontend().Flush(); err != nil {
		return Result{}, fmt.Errorf("base backup: %w", err)
	}
	for {
		message, err := r.receive(ctx)
		if err != nil {
			return Result{}, err
		}
		done, err := r.decoder.message(message)
		if err != nil || done {
			return r.decoder.result, err
		}
	}
}

// receive waits for the next message.
func (r *reader) receive(ctx context.Context) (pgproto3.BackendMessage, error) {
	r.extend()
	// After extend, which may just have moved what the end of ctx had set.
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	message, err := r.conn.ReceiveMessage(context.Background())
	var refusal *pgconn.PgError
	switch {
	case err == nil:
		return message, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.As(err, &refusal): // a fatal one, after which the server hangs up
		return nil, fmt.Errorf("base backup: %w", err)
	case pgconn.Timeout(err):
		return nil, fmt.Errorf("base backup: %w", errSilence)
	}
	return nil, fmt.Errorf("base backup: connection to the server lost: %w", err)
}

// slack is by how much a deadline may be early, so that it is not moved for every
// message.
const slack = time.Second

// extend gives the server its time for the next message. What the sink took of it
// does not count: the server could not send meanwhile.
func (r *reader) extend() {
	if r.decoder.phase == phaseStart {
		return
	}
	if until := time.Now().Add(silence); until.Sub(r.deadline) > slack {
		r.deadline = until
		_ = r.conn.Conn().SetReadDeadline(until) // on a closed connection the read fails
	}
}

// cancelTimeout bounds the request to stop.
const cancelTimeout = 2 * time.Second

// cancel tells the server that nobody wants the backup any more: in the middle of a
// checkpoint it would not notice that the connection is gone.
func (r *reader) cancel(ctx context.Context) {
	ctx, end := context.WithTimeout(context.WithoutCancel(ctx), cancelTimeout)
	defer end()
	_ = r.conn.CancelRequest(ctx) // it notices in the end
}
