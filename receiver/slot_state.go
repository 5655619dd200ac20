package receiver

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walrecv/walrecv/segment"
)

// SlotState is what an ordinary connection tells about a physical slot, which is
// more than a walsender does.
type SlotState struct {
	Slot

	// WALStatus is PostgreSQL's wal_status: reserved, extended, unreserved or
	// lost; "" for a slot that reserves none yet.
	WALStatus string

	// SafeSize is how many bytes of WAL the server can still write before the
	// slot may be lost. It means something only if Limited.
	SafeSize int64
	Limited  bool

	// Retained is how many bytes of WAL the server keeps for the slot, Reason why it
	// was invalidated: PostgreSQL's invalidation_reason, from 17 on.
	Retained int64
	Reason   string

	// User is who streams from it; its PID is 0 if nobody does.
	User Walsender
}

// Walsender is a process of the server that streams WAL to somebody. All but the
// PID is empty where the role may not see it: a role sees its own connections.
type Walsender struct {
	PID         int
	Application string    // application_name
	Address     string    // of the client; "" also for one on a socket
	State       string    // startup, catchup, streaming, ...
	Since       time.Time // when it connected
	Flushed     segment.LSN
}

// walsenderColumns read a Walsender from pg_stat_replication r.
const walsenderColumns = "r.application_name, host(r.client_addr), r.state, r.flush_lsn, extract(epoch from r.backend_start)::float8"

// What is read of a slot s beside its own columns: how far the server's WAL is beyond
// what the slot needs, and a column that older servers do not have.
const (
	retained = "pg_catalog.pg_wal_lsn_diff(CASE WHEN pg_catalog.pg_is_in_recovery()" +
		" THEN greatest(pg_catalog.pg_last_wal_receive_lsn(), pg_catalog.pg_last_wal_replay_lsn())" +
		" ELSE pg_catalog.pg_current_wal_lsn() END, s.restart_lsn)"
	reason = "pg_catalog.to_jsonb(s)->>'invalidation_reason'"
)

// ReadSlotState reads the state of a physical slot over an ordinary connection.
// The error wraps [ErrSlotMissing] or [ErrSlotLogical] if that is so.
func ReadSlotState(ctx context.Context, conn *pgconn.PgConn, name string) (SlotState, error) {
	const columns = 12
	rows, err := simpleQuery(ctx, conn, "SELECT s.slot_type, s.restart_lsn, s.wal_status, s.safe_wal_size, s.active_pid, "+walsenderColumns+", "+retained+", "+reason+
		" FROM pg_catalog.pg_replication_slots s LEFT JOIN pg_catalog.pg_stat_replication r ON r.pid = s.active_pid WHERE s.slot_name = "+quoteLiteral(name))
	switch {
	case err != nil:
		return SlotState{}, slotError("read", name, err)
	case len(rows) == 0:
		return SlotState{}, fmt.Errorf("read slot %q: %w", name, ErrSlotMissing)
	case len(rows[0]) != columns:
		return SlotState{}, fmt.Errorf("read slot %q: the server answered with %d columns instead of %d", name, len(rows[0]), columns)
	}
	row := rows[0]
	s := SlotState{WALStatus: string(row[2]), Reason: string(row[11])}
	if s.Slot, err = parseSlot(name, row[0], row[1], nil); err != nil {
		return SlotState{}, err
	}
	s.Lost = s.WALStatus == "lost"
	if row[3] != nil {
		s.Limited = true
		if s.SafeSize, err = strconv.ParseInt(string(row[3]), 10, 64); err != nil {
			return SlotState{}, slotError("read", name, err)
		}
	}
	if row[10] != nil {
		if s.Retained, err = strconv.ParseInt(string(row[10]), 10, 64); err != nil {
			return SlotState{}, slotError("read", name, err)
		}
	}
	s.User, err = parseWalsender(row[4], row[5:10])
	return s, err
}

// Walsenders lists the walsenders of a server over an ordinary connection, but
// for that of the given process. Base backups are among them.
func Walsenders(ctx context.Context, conn *pgconn.PgConn, except uint32) ([]Walsender, error) {
	rows, err := simpleQuery(ctx, conn, "SELECT r.pid, "+walsenderColumns+" FROM pg_catalog.pg_stat_replication r")
	if err != nil {
		return nil, fmt.Errorf("read pg_stat_replication: %w", err)
	}
	var list []Walsender
	for _, row := range rows {
		w, err := parseWalsender(row[0], row[1:])
		if err != nil {
			return nil, err
		}
		if w.PID != int(except) {
			list = append(list, w)
		}
	}
	return list, nil
}

func parseWalsender(pid []byte, row [][]byte) (w Walsender, err error) {
	if pid == nil {
		return Walsender{}, nil
	}
	if w.PID, err = strconv.Atoi(string(pid)); err != nil {
		return Walsender{}, fmt.Errorf("process id of a walsender: %w", err)
	}
	w.Application, w.Address, w.State = string(row[0]), string(row[1]), string(row[2])
	if row[3] != nil {
		if w.Flushed, err = segment.ParseLSN(string(row[3])); err != nil {
			return Walsender{}, fmt.Errorf("flush_lsn of a walsender: %w", err)
		}
	}
	if row[4] != nil {
		seconds, err := strconv.ParseFloat(string(row[4]), 64)
		if err != nil {
			return Walsender{}, fmt.Errorf("backend_start of a walsender: %w", err)
		}
		w.Since = time.UnixMicro(int64(seconds * 1e6)).UTC()
	}
	return w, nil
}
