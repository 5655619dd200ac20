package drill

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walrecv/walrecv/internal/pgdata"
	"github.com/walrecv/walrecv/internal/recovery"
	"github.com/walrecv/walrecv/segment"
)

// target finds out where recovery ended, and whether that is where it should.
func (d *drill) target(ctx context.Context, conn *pgconn.PgConn, seen replay) {
	began := time.Now()
	reached := &Result{Timeline: uint32(d.plan.Timeline), NewTimeline: seen.NewTimeline, Reason: seen.StopReason, Time: seen.LastCommit}
	d.report.Result = reached
	wrong := func() string {
		text, err := ask(ctx, conn, "select coalesce(pg_last_wal_replay_lsn()::text, '0/0')")
		if err != nil {
			return err.Error()
		}
		if reached.LSN, err = segment.ParseLSN(text); err != nil {
			return err.Error()
		}
		if text, err = ask(ctx, conn, "select coalesce(to_char(pg_last_xact_replay_timestamp() at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US'), '')"); err != nil {
			return err.Error()
		}
		if at, err := time.Parse("2006-01-02 15:04:05.999999", text); err == nil {
			reached.Time = at
		}
		if text = d.missed(reached, seen); text == "" && d.o.Target.Kind == recovery.Latest {
			return d.short(ctx, reached.LSN)
		}
		return text
	}()
	c := Check{Name: checkTarget, Result: Passed, Message: wrong, Seconds: since(began)}
	switch {
	case ctx.Err() != nil:
		return // the answers are those of an end, not of the server
	case wrong != "":
		c.Result = Failed
		d.report.fail(TargetMissed, wrong, d.server.log.reasons()...)
	case d.o.Target.Kind == recovery.Latest:
		d.lastCommit(reached.Time)
	}
	d.report.check(c)
}

// missed says what is wrong with the point that was reached; "" for nothing.
func (d *drill) missed(reached *Result, seen replay) string {
	switch {
	case d.o.Target.Kind != recovery.Latest && seen.StopReason == "":
		return fmt.Sprintf("the server ended recovery at %s without having found the target", reached.LSN)
	case d.plan.Stop != 0 && reached.LSN < d.plan.Stop:
		return fmt.Sprintf("recovery ended at %s, and the archive has what was wanted up to %s", reached.LSN, d.plan.Stop)
	case d.o.Target.Kind == recovery.Time && reached.Time.After(d.o.Target.Time):
		return fmt.Sprintf("a transaction of %s was replayed, which is after the target", reached.Time)
	case seen.NewTimeline == 0:
		return ""
	}
	h, err := d.newHistory(seen.NewTimeline)
	if err != nil {
		return err.Error()
	}
	if n := len(h.Entries); n == 0 || h.Entries[n-1].Timeline != d.plan.Timeline {
		return fmt.Sprintf("timeline %d, which the server began, does not come from timeline %d", seen.NewTimeline, d.plan.Timeline)
	}
	return ""
}

// short says what of the archive's end was not replayed; "" for nothing. PostgreSQL
// calls it the end of the log wherever it finds no sound record.
func (d *drill) short(ctx context.Context, at segment.LSN) string {
	left, err := d.survey.Behind(ctx, d.plan, at)
	switch {
	case err != nil:
		return fmt.Sprintf("recovery ended at %s, and whether that is the end cannot be found out: %v", at, err)
	case left != "":
		return fmt.Sprintf("recovery ended at %s, and the archive goes on: %s", at, left)
	}
	return ""
}

// newHistory reads the history of the timeline that the promoted server began.
func (d *drill) newHistory(t uint32) (segment.History, error) {
	timeline := segment.TimelineID(t)
	data, err := os.ReadFile(filepath.Join(d.place.data(), "pg_wal", segment.HistoryName(timeline)))
	if err != nil {
		return segment.History{}, err
	}
	return pgdata.ParseHistory(timeline, data)
}

// checks makes those that were asked for, and pg_amcheck.
func (d *drill) checks(ctx context.Context, r *restored, conn *pgconn.PgConn, user string) {
	for _, statement := range d.o.Checks {
		if ctx.Err() != nil {
			return
		}
		c, kind := r.sql(ctx, statement)
		if ctx.Err() != nil {
			return
		}
		d.report.check(c)
		if kind != "" {
			d.report.fail(kind, c.SQL+": "+c.Message)
		}
	}
	c := r.amcheck(ctx, conn, user)
	if ctx.Err() != nil {
		return
	}
	d.report.check(c)
	if c.Result == Failed {
		d.report.fail(Amcheck, c.Message)
	}
}

// finish stops the server and looks at its files.
func (d *drill) finish(ctx context.Context, r *restored, enabled bool) error {
	if !enabled || d.programs.Checksums == "" {
		d.report.check(r.checksums(ctx, enabled))
		return nil // it need not stop in order for that
	}
	began := time.Now()
	defer d.step("checksums", began)
	if err := d.server.stop(ctx); err != nil {
		if ctx.Err() != nil {
			return err
		}
		d.server.awaitLog()
		return d.fail(StopFailed, err.Error(), d.server.log.reasons()...)
	}
	c := r.checksums(ctx, enabled)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	d.report.check(c)
	if c.Result == Failed {
		d.report.fail(Checksums, c.Message)
	}
	return nil
}
