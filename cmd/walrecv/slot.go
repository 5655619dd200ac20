package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"

	"github.com/walrecv/walrecv/receiver"
)

// serverTimeout bounds what is asked of a connected server, so that one that
// hangs does not hang this program.
const serverTimeout = time.Minute

func (a *app) newSlot() *cobra.Command {
	cmd := &cobra.Command{
		Use:                   "slot",
		Short:                 "Create, drop or show a physical replication slot",
		DisableFlagsInUseLine: true,
		Args:                  cobra.ArbitraryArgs,
		RunE:                  noCommand,
	}
	addCommonOptions(cmd)
	cmd.AddCommand(a.newSlotCreate(), a.newSlotDrop(), a.newSlotShow())
	return cmd
}

func (a *app) newSlotCreate() *cobra.Command {
	var ifNotExists bool
	cmd := a.newSlotAction("create", "Create a slot that holds back WAL from now on",
		func(ctx context.Context, config *receiver.ConnConfig, name string) error {
			return createSlot(ctx, config, name, ifNotExists)
		})
	boolVar(cmd.Flags(), &ifNotExists, "if-not-exists", "", "do not error if the slot already exists")
	return cmd
}

func (a *app) newSlotDrop() *cobra.Command {
	return a.newSlotAction("drop", "Drop a slot that nobody uses", dropSlot)
}

func (a *app) newSlotShow() *cobra.Command {
	return a.newSlotAction("show", "Show what a slot holds back",
		func(ctx context.Context, config *receiver.ConnConfig, name string) error {
			return showSlot(ctx, config, name, a.stdout)
		})
}

// newSlotAction declares a command that does something with one slot.
func (a *app) newSlotAction(verb, short string, work func(context.Context, *receiver.ConnConfig, string) error) *cobra.Command {
	var conn connOptions
	cmd := &cobra.Command{
		Use:                   verb + " [OPTION]... NAME",
		Short:                 short,
		DisableFlagsInUseLine: true,
		Args:                  arguments("NAME"),
		RunE: a.configured(conn.check, func(cmd *cobra.Command, args []string) error {
			if err := receiver.CheckSlotName(args[0]); err != nil {
				return err
			}
			config, err := a.connection(conn, newLogger(a.stderr, slog.LevelInfo, environment(a.environ)))
			if err != nil {
				return err
			}
			return work(cmd.Context(), config, args[0])
		}),
	}
	addCommonOptions(cmd)
	addConnOptions(cmd.Flags(), &conn)
	return cmd
}

// onServer connects, has the server identify itself, works, and hangs up.
func onServer(ctx context.Context, config *receiver.ConnConfig, work func(context.Context, *pgconn.PgConn, receiver.Server) error) error {
	conn, err := receiver.Connect(ctx, config)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, serverTimeout)
	defer cancel()
	defer func() { _ = conn.Close(ctx) }() // what was done is done
	server, err := receiver.Identify(ctx, conn)
	if err != nil {
		return err
	}
	return work(ctx, conn, server)
}

// createSlot creates a physical slot that reserves WAL at once: WAL that the
// server removed before the first connection would be a gap.
func createSlot(ctx context.Context, config *receiver.ConnConfig, name string, ifNotExists bool) error {
	return onServer(ctx, config, func(ctx context.Context, conn *pgconn.PgConn, server receiver.Server) error {
		if err := receiver.CreateSlot(ctx, conn, name, server.Major, ifNotExists); err != nil {
			return err
		}
		_, err := receiver.ReadSlot(ctx, conn, config, name, server.Major)
		return err // one that was there may be a logical one
	})
}

// dropSlot drops a physical slot. The server would drop a logical one, too;
// whoever names one here is mistaken.
func dropSlot(ctx context.Context, config *receiver.ConnConfig, name string) error {
	return onServer(ctx, config, func(ctx context.Context, conn *pgconn.PgConn, server receiver.Server) error {
		if _, err := receiver.ReadSlot(ctx, conn, config, name, server.Major); err != nil {
			return err
		}
		return receiver.DropSlot(ctx, conn, name)
	})
}

// showSlot prints a slot, one property a line.
func showSlot(ctx context.Context, config *receiver.ConnConfig, name string, stdout io.Writer) error {
	var slot receiver.Slot
	err := onServer(ctx, config, func(ctx context.Context, conn *pgconn.PgConn, server receiver.Server) error {
		var err error
		slot, err = receiver.ReadSlot(ctx, conn, config, name, server.Major)
		if err == nil && !slot.Known {
			err = fmt.Errorf("PostgreSQL %d tells about slots only over an ordinary connection, and none could be made to the database \"postgres\"", server.Major)
		}
		return err
	})
	if err != nil {
		return err
	}
	_, err = io.WriteString(stdout, describeSlot(name, slot))
	return err
}

// describeSlot is what "slot show" prints.
func describeSlot(name string, slot receiver.Slot) string {
	restart, timeline, wal := "none", "unknown", "none is reserved yet"
	switch {
	case slot.Lost:
		wal = "lost: the server invalidated the slot"
	case slot.RestartLSN != 0:
		restart, wal = slot.RestartLSN.String(), "reserved from restart_lsn on"
	}
	if slot.RestartTLI != 0 {
		timeline = fmt.Sprint(uint32(slot.RestartTLI))
	}
	return fmt.Sprintf("name         %s\ntype         physical\nrestart_lsn  %s\ntimeline     %s\nwal          %s\n", name, restart, timeline, wal)
}
