package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/walrecv/walrecv/internal/check"
	"github.com/walrecv/walrecv/internal/units"
	"github.com/walrecv/walrecv/receiver"
	"github.com/walrecv/walrecv/storage"
)

// checkConfig is all that "walrecv check" was told: what a receiver would be told,
// as far as it matters.
type checkConfig struct {
	conn    connOptions
	archive archiveOptions

	slot             string
	ensureSlot       bool
	synchronous      bool
	acceptBranch     bool
	tailInterval     units.Duration // 0: the tail is not archived
	allowUnsafeStore bool

	timeout units.Duration // 0: WAL is not waited for
	json    bool
}

// newCheck declares the command.
func (a *app) newCheck() *cobra.Command {
	var cfg checkConfig
	cmd := &cobra.Command{
		Use:   "check [OPTION]...",
		Short: "Check that WAL written now reaches the archive",
		Long: `Checks what a receiver with these options needs: the connection, its rights, the
slot, the server's settings, the archive, and that WAL which is written now
arrives there. Each line says ok, warning or error, and what to do. Nothing is
streamed, and no slot is moved. In a configuration file the keys of [receive]
count here, too, unless [check] has its own.

  0  no error; there can be warnings
  3  at least one error`,
		Example:               "  walrecv check -d 'host=db1 user=replicator' -S walrecv --archive /srv/wal",
		DisableFlagsInUseLine: true,
		Args:                  noArguments,
		RunE: a.configured(cfg.check, func(cmd *cobra.Command, _ []string) error {
			return a.runCheck(cmd.Context(), cfg)
		}),
	}
	addCommonOptions(cmd)
	addCheckOptions(cmd.Flags(), &cfg)
	return cmd
}

func addCheckOptions(fs *pflag.FlagSet, c *checkConfig) {
	c.tailInterval = units.Duration(time.Second)
	c.timeout = units.Duration(30 * time.Second)
	addConnOptions(fs, &c.conn)
	fs.VarP(textValue(&c.slot), "slot", "S", "the receiver's replication slot is `SLOTNAME`")
	boolVar(fs, &c.ensureSlot, "ensure-slot", "", "the receiver creates the slot if it is missing")
	boolVar(fs, &c.synchronous, "synchronous", "", "the receiver flushes write-ahead log immediately after writing")
	boolVar(fs, &c.conn.primaryOnly, "primary-only", "", "the receiver refuses a server that is in recovery")
	boolVar(fs, &c.acceptBranch, "accept-branch", "", "the receiver archives a timeline that leaves its parent below what is archived of it")
	addArchiveOptions(fs, &c.archive)
	fs.Var(rangeValue(&c.tailInterval, 0, 24*time.Hour), "tail-interval", "the receiver archives what is not a complete segment every `D`; 0: never")
	boolVar(fs, &c.allowUnsafeStore, "allow-unsafe-store", "", "the receiver accepts a store without conditional writes")
	fs.Var(rangeValue(&c.timeout, 0, time.Hour), "timeout", "WAL written now has to arrive within `D`; 0: do not wait for any")
	boolVar(fs, &c.json, "json", "", "print one JSON document")
}

func (c *checkConfig) check() error {
	if c.ensureSlot && c.slot == "" {
		return usageError("--ensure-slot needs a slot to be specified using --slot")
	}
	if c.slot != "" {
		if err := receiver.CheckSlotName(c.slot); err != nil {
			return err
		}
	}
	return c.conn.check()
}

// runCheck is the work of "walrecv check". A signal may end it at any time.
func (a *app) runCheck(ctx context.Context, c checkConfig) error {
	conn, err := a.connection(c.conn, newLogger(a.stderr, slog.LevelInfo, environment(a.environ)))
	if err != nil {
		return err
	}
	o := check.Options{
		Conn: conn, Slot: c.slot, EnsureSlot: c.ensureSlot, Synchronous: c.synchronous, AcceptBranch: c.acceptBranch,
		Tail: c.tailInterval > 0, AllowUnsafe: c.allowUnsafeStore, Timeout: time.Duration(c.timeout),
	}
	if c.archive.given() {
		store, err := openStore(ctx, c.archive.location, a.environ, storeOptions{})
		if err != nil {
			return err
		}
		o.Store = storage.WithDeadline(store)
	}
	report := checkReport{Result: check.OK, Checks: []check.Line{}}
	var failed error
	err = check.Run(ctx, o, func(line check.Line) {
		report.add(line)
		if !c.json && failed == nil { // as they come: the last one may take a while
			_, failed = io.WriteString(a.stdout, checkText(line))
		}
	})
	if c.json && err == nil {
		failed = writeJSON(a.stdout, report)
	}
	if err := errors.Join(err, failed); err != nil || report.Result != check.Error {
		return err
	}
	return &codedError{exitUnsound, errors.New("")} // what for was printed already
}

// checkReport is the JSON document of docs/check.md.
type checkReport struct {
	Result check.Result `json:"result"` // the worst of all
	Checks []check.Line `json:"checks"`
}

func (r *checkReport) add(line check.Line) {
	r.Checks = append(r.Checks, line)
	if line.Result == check.Error || line.Result == check.Warning && r.Result == check.OK {
		r.Result = line.Result
	}
}

// checkText is a line for people.
func checkText(line check.Line) string {
	text := string(line.Result) + ": " + line.Check + ": " + line.Message
	if line.Advice != "" {
		text += "; " + line.Advice
	}
	return oneLine(text) + "\n"
}
