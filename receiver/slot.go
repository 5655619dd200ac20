package receiver

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walrecv/walrecv/segment"
)

// What can be wrong with a slot.
var (
	ErrSlotMissing = errors.New("the replication slot does not exist")
	ErrSlotLogical = errors.New("the replication slot is a logical one: WAL files need a physical one")
	ErrSlotLost    = errors.New("the server has invalidated the replication slot: it holds no WAL back any more")
)

// maxSlotName is the length limit of PostgreSQL.
const maxSlotName = 63

const slotNameCharacters = "abcdefghijklmnopqrstuvwxyz0123456789_"

// SlotNameError says that PostgreSQL would not take a name for a slot.
type SlotNameError struct {
	Name       string
	Suggestion string // a similar name that it would take; "" if there is none
}

func (e *SlotNameError) Error() string {
	text := fmt.Sprintf("%q is no name for a replication slot: it must be 1 to %d characters out of a-z, 0-9 and _", e.Name, maxSlotName)
	if e.Suggestion != "" {
		text += fmt.Sprintf("; did you mean %q?", e.Suggestion)
	}
	return text
}

// CheckSlotName returns a [*SlotNameError] for a name that PostgreSQL refuses.
func CheckSlotName(name string) error {
	if name != "" && len(name) <= maxSlotName && strings.Trim(name, slotNameCharacters) == "" {
		return nil
	}
	suggestion := strings.Map(func(r rune) rune {
		if strings.ContainsRune(slotNameCharacters, r) {
			return r
		}
		return '_'
	}, strings.ToLower(name))
	if len(suggestion) > maxSlotName {
		suggestion = suggestion[:maxSlotName]
	}
	return &SlotNameError{Name: name, Suggestion: suggestion}
}

// Slot is what is known of a physical replication slot.
type Slot struct {
	// Known is false if the server could not be asked: before 15 only an
	// ordinary connection can, and there was none to be had.
	Known bool

	// RestartLSN is where the WAL begins that the slot holds back; 0: it holds
	// none, since it reserved none yet or was invalidated.
	RestartLSN segment.LSN
	RestartTLI segment.TimelineID // of RestartLSN; 0: not known

	// Lost: the server invalidated the slot and has removed WAL it needed. It
	// is found out only if RestartLSN is 0 and an ordinary connection can be
	// made; false does not mean that it is not.
	Lost bool
}

// CreateSlot creates a physical slot that holds back WAL from now on. A slot of
// that name is an error (SQLSTATE 42710) unless ifNotExists; whether it is a
// physical one then, [ReadSlot] tells.
func CreateSlot(ctx context.Context, conn *pgconn.PgConn, name string, major int, ifNotExists bool) error {
	if err := CheckSlotName(name); err != nil {
		return err
	}
	const parenthesised = 15 // majors from here on take options in parentheses
	reserve := "RESERVE_WAL"
	if major >= parenthesised {
		reserve = "(RESERVE_WAL)"
	}
	_, err := simpleQuery(ctx, conn, fmt.Sprintf("CREATE_REPLICATION_SLOT %s PHYSICAL %s", quoteIdent(name), reserve))
	if ifNotExists && sqlState(err) == codeDuplicateObject {
		return nil
	}
	return slotError("create", name, err)
}

// DropSlot drops a slot. It does not wait for one that is in use (55006).
func DropSlot(ctx context.Context, conn *pgconn.PgConn, name string) error {
	if err := CheckSlotName(name); err != nil {
		return err
	}
	_, err := simpleQuery(ctx, conn, "DROP_REPLICATION_SLOT "+quoteIdent(name))
	return slotError("drop", name, err)
}

// ReadSlot reads the state of a physical slot on the server that conn is
// connected to. c is used for an ordinary connection to the same server, where
// that is needed; its failure is not an error, it leaves the slot unknown. The
// error wraps [ErrSlotMissing] or [ErrSlotLogical] if that is so.
func ReadSlot(ctx context.Context, conn *pgconn.PgConn, c *ConnConfig, name string, major int) (Slot, error) {
	if err := CheckSlotName(name); err != nil {
		return Slot{}, err
	}
	const hasCommand = 15 // majors from here on have READ_REPLICATION_SLOT
	if major < hasCommand {
		return c.readSlotBySQL(ctx, conn, name)
	}
	s, err := readSlot(ctx, conn, name)
	if err != nil || s.RestartLSN != 0 {
		return s, err
	}
	// A slot that was invalidated looks like a new one here.
	if bySQL, err := c.readSlotBySQL(ctx, conn, name); err == nil && bySQL.Known {
		s.Lost = bySQL.Lost
	}
	return s, nil
}

func readSlot(ctx context.Context, conn *pgconn.PgConn, name string) (Slot, error) {
	row, err := singleRow(ctx, conn, "READ_REPLICATION_SLOT "+quoteIdent(name), 3)
	if sqlState(err) == codeFeatureNotSupported {
		return Slot{}, fmt.Errorf("read slot %q: %w", name, ErrSlotLogical)
	}
	if err != nil {
		return Slot{}, slotError("read", name, err)
	}
	if row[0] == nil {
		return Slot{}, fmt.Errorf("read slot %q: %w", name, ErrSlotMissing)
	}
	return parseSlot(name, row[0], row[1], row[2])
}

// parseSlot reads the columns type, restart position and its timeline.
func parseSlot(name string, kind, lsn, timeline []byte) (Slot, error) {
	if string(kind) != "physical" {
		return Slot{}, fmt.Errorf("read slot %q: %w", name, ErrSlotLogical)
	}
	s := Slot{Known: true}
	if lsn == nil {
		return s, nil
	}
	var err error
	if s.RestartLSN, err = segment.ParseLSN(string(lsn)); err != nil {
		return Slot{}, slotError("read", name, err)
	}
	if timeline != nil {
		number, err := strconv.ParseUint(string(timeline), 10, 32)
		if err != nil {
			return Slot{}, slotError("read", name, err)
		}
		s.RestartTLI = segment.TimelineID(number)
	}
	return s, nil
}

// readSlotBySQL asks over an ordinary connection to the same server.
func (c *ConnConfig) readSlotBySQL(ctx context.Context, replication *pgconn.PgConn, name string) (Slot, error) {
	conn, err := ConnectSQL(ctx, c, replication)
	if err != nil {
		c.log.Debug("the replication slot's state is not known: no ordinary connection", "slot", name, "error", err)
		return Slot{}, nil
	}
	defer HangUp(conn)
	s, err := ReadSlotState(ctx, conn, name)
	if err != nil && !errors.Is(err, ErrSlotMissing) && !errors.Is(err, ErrSlotLogical) {
		c.log.Debug("the replication slot's state is not known", "slot", name, "error", err)
		return Slot{}, nil
	}
	return s.Slot, err
}

// sqlState is the code of an error of the server, "" for others.
func sqlState(err error) string {
	var server *pgconn.PgError
	if errors.As(err, &server) {
		return server.Code
	}
	return ""
}

// slotLost is for a receiver that holds no WAL, to which nothing is lost yet.
func slotLost(name string) error {
	return fmt.Errorf("use slot %q: %w; drop it and begin with a new one: walrecv slot drop %s", name, ErrSlotLost, name)
}

// slotError says what was tried; a slot that does not exist is ErrSlotMissing.
func slotError(action, name string, err error) error {
	switch {
	case err == nil:
		return nil
	case sqlState(err) == codeUndefinedObject:
		return fmt.Errorf("%s slot %q: %w", action, name, ErrSlotMissing)
	case sqlState(err) == codeObjectInUse:
		return fmt.Errorf("%s slot %q: another program uses it, or the server has not noticed yet that the last one is gone: %w", action, name, err)
	default:
		return fmt.Errorf("%s slot %q: %w", action, name, err)
	}
}
