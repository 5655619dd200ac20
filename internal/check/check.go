// Package check finds out whether a receiver with the given options works: whether
// it can connect and may replicate, whether its slot keeps WAL for it, whether the
// settings of the server fit, whether the archive can be used, and whether WAL that
// is written now arrives there. It streams nothing and moves no slot.
package check

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/receiver"
	"github.com/walrecv/walrecv/storage"
)

// Result is what a check says. The words are part of the interface.
type Result string

// The results.
const (
	OK      Result = "ok"
	Warning Result = "warning" // it works, but not as well or as safely as it could
	Error   Result = "error"   // it does not work, or loses WAL
)

// Line is what one check found. Its JSON is described in docs/check.md.
type Line struct {
	Check   string `json:"check"` // which one
	Result  Result `json:"result"`
	Message string `json:"message"`          // what was found
	Advice  string `json:"advice,omitempty"` // what to do; never empty but for OK
}

// Options are those of the receiver, as far as they matter.
type Options struct {
	Conn       *receiver.ConnConfig
	Slot       string // "": none
	EnsureSlot bool

	Synchronous  bool
	AcceptBranch bool

	Store       storage.Store // of the archive; nil: none
	AllowUnsafe bool          // a store without conditional writes is accepted
	Tail        bool          // the receiver archives what is not a complete segment yet

	// Timeout is how long WAL may take to arrive; 0 leaves that out.
	Timeout time.Duration
}

// stepTimeout bounds what each check but the last may take, so that a server or a
// store that hangs does not hang this.
const stepTimeout = 30 * time.Second

// world is what the checks have found out for those after them.
type world struct {
	o Options

	conn   *pgconn.PgConn  // for replication; nil: there is none
	server receiver.Server // valid if known
	known  bool
	sql    *pgconn.PgConn // an ordinary connection; nil: there is none

	slot receiver.SlotState // valid if slotSeen
	// slotSeen says that the slot is there, and slotUser that it is known who has it.
	slotSeen, slotUser bool

	answers   bool             // the store does
	exists    bool             // the archive has an identity, of whatever cluster
	archive   *archive.Archive // nil unless it is this cluster's
	listing   *archive.Listing // nil unless that could be listed
	mayDelete bool             // objects can be deleted
}

// check is one check.
type check struct {
	name    string
	applies func(*world) bool // its requirements are met
	look    func(ctx context.Context, w *world) []Line
}

// checks are all checks, in their order: later ones build upon what earlier ones
// found.
var checks = []check{
	{"connection", always, connect},
	{"server", connected, identify},
	{"queries", isKnown, openSQL},
	{"wal_level", isKnown, walLevel},
	{"walsenders", isKnown, walsenders},
	{"synchronous", isKnown, synchronous},
	{"clock", hasSQL, clock},
	{"archive", noArchive, missingArchive},
	{"archive_read", isKnownWithStore, readIdentity},
	{"archive_list", storeAnswers, list},
	{"archive_delete", storeAnswers, remove},
	{"archive_write", mayWrite, write},
	{"archive_conditional_write", writes, conditional},
	{"slot", isKnown, slot},
	{"slot_limit", hasSlot, slotLimit},
	{"slot_release", hasSlot, slotRelease},
	{"continuity", hasListing, continuity},
	{arrivalCheck, mayArrive, arrival},
}

// arrivalCheck is the one that waits.
const arrivalCheck = "arrival"

func always(*world) bool             { return true }
func connected(w *world) bool        { return w.conn != nil }
func isKnown(w *world) bool          { return w.known }
func hasSQL(w *world) bool           { return w.sql != nil }
func noArchive(w *world) bool        { return w.o.Store == nil }
func isKnownWithStore(w *world) bool { return w.known && w.o.Store != nil }
func storeAnswers(w *world) bool     { return w.answers }
func hasListing(w *world) bool       { return w.archive != nil && w.listing != nil }
func hasSlot(w *world) bool          { return w.known && w.o.Slot != "" }

// Run makes all checks that can be made, and tells each line as it is found. What
// a failed check leaves open is left out. It fails only if ctx ends.
func Run(ctx context.Context, o Options, tell func(Line)) error {
	w := &world{o: o}
	defer w.close()
	for _, c := range checks {
		if !c.applies(w) {
			continue
		}
		for _, line := range c.run(ctx, w) {
			if line.Check == "" {
				line.Check = c.name
			}
			if ctx.Err() == nil {
				tell(line)
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

func (c check) run(ctx context.Context, w *world) []Line {
	limit := stepTimeout
	if c.name == arrivalCheck {
		limit += w.o.Timeout
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return c.look(ctx, w)
}

// close hangs up.
func (w *world) close() {
	for _, conn := range []*pgconn.PgConn{w.conn, w.sql} {
		if conn != nil {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			_ = conn.Close(ctx) // nothing depends on it any more
			cancel()
		}
	}
}

// ok, warning and fault make the line of a check.
func ok(format string, args ...any) []Line {
	return []Line{{Result: OK, Message: fmt.Sprintf(format, args...)}}
}

func warning(advice, format string, args ...any) []Line {
	return []Line{{Result: Warning, Message: fmt.Sprintf(format, args...), Advice: advice}}
}

func fault(advice, format string, args ...any) []Line {
	return []Line{{Result: Error, Message: fmt.Sprintf(format, args...), Advice: advice}}
}
