package drill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walrecv/walrecv/internal/recovery"
)

// recover starts the server, brings it to the target, and looks at what it is then.
func (d *drill) recover(ctx context.Context) error {
	if err := d.settle(ctx); err != nil {
		return err
	}
	seen, err := d.replay(ctx)
	if err != nil {
		return err
	}
	r := &restored{
		p: d.place, programs: d.programs, environ: d.environ, paused: seen.Ready.IsZero(),
		database: d.o.Database, roles: superusers(d.place.data()),
	}
	conn, err := r.any(ctx)
	if err != nil {
		return d.unusable(ctx, err)
	}
	user := conn.user
	d.report.Times.Restore = since(d.report.Started)
	d.log.Info("the server can be used", "seconds", d.report.Times.Restore)
	began := time.Now()
	d.target(ctx, conn.PgConn, seen)
	checksums, err := ask(ctx, conn.PgConn, "show data_checksums")
	enabled := err == nil && checksums == "on"
	d.checks(ctx, r, conn.PgConn, user)
	_ = conn.Close(context.WithoutCancel(ctx)) // nothing was changed over it
	d.step("checks", began)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if d.server.ended() {
		return d.serverFailed("the server ended during the checks")
	}
	return d.finish(ctx, r, enabled)
}

// settle tells the data directory how the server is to run, and where to.
func (d *drill) settle(ctx context.Context) error {
	if d.programs.Control != "" {
		r := &restored{p: d.place, environ: d.environ}
		if out, err := r.run(ctx, d.programs.Control, "--pgdata", d.place.data()); err == nil {
			d.sized = sizesOf(out)
		}
	}
	target := d.o.Target
	target.Timeline = recovery.Timeline(d.plan.Timeline) // that was looked at
	settings := recovery.Settings{
		RestoreCommand: d.o.RestoreCommand(d.place.dir), Target: target, Action: d.o.action(),
	}
	err := d.place.disarm()
	if err == nil && d.o.LayForks != nil {
		err = d.o.LayForks(ctx, d.place.data(), d.plan)
	}
	if err == nil {
		err = settings.Write(d.place.data())
	}
	if err == nil {
		err = d.place.configure(d.place.settingsOf(d.plan.Backup.Major, d.o.Pause, d.sized))
	}
	if err != nil && full(err) {
		return d.fail(ScratchFull, err.Error())
	}
	if err != nil {
		return d.fail(Download, err.Error())
	}
	return nil
}

// replay starts the server and follows it to the target. Where the primary had larger
// sizes at some time than is known from the backup, the server stops and says so; then
// it is started anew with these, and goes on.
func (d *drill) replay(ctx context.Context) (replay, error) {
	d.begun = time.Now()
	var seen replay
	for {
		var err error
		if d.server, err = startServer(d.place, d.programs, d.o.Confined, d.environ); err != nil {
			return seen, d.fail(ServerFailed, err.Error())
		}
		d.log.Info("the server has been started; recovery begins")
		seen, err = d.await(ctx)
		d.times(seen)
		if err == nil {
			return seen, nil
		}
		if !errors.Is(err, errShort) {
			return seen, d.replayFailed(ctx, err)
		}
		if err := d.enlarge(ctx, seen.Short); err != nil {
			return seen, err
		}
	}
}

// await follows one server until it is at the target.
func (d *drill) await(ctx context.Context) (replay, error) {
	consistent := false
	return d.server.follow(ctx, d.o.Stall, func(r replay) bool {
		if !consistent && !r.Consistent.IsZero() {
			consistent = true
			d.log.Info("consistent; replay goes on to the target", "lsn", r.ConsistentAt.String())
		}
		return !r.Ready.IsZero() || d.o.Pause && !r.Paused.IsZero()
	})
}

// times notes when the server was where.
func (d *drill) times(seen replay) {
	t := &d.report.Times
	began := d.begun
	if !seen.Consistent.IsZero() && t.Consistency == 0 {
		t.Consistency = seconds(max(0, seen.Consistent.Sub(d.begun)))
		d.span("recovery until consistent", began, seen.Consistent)
		began = seen.Consistent
	}
	end := seen.Ready
	if end.IsZero() {
		end = seen.Paused
	}
	if at := firstOf(seen.Stopped, seen.Complete, end); !at.IsZero() {
		t.Target = seconds(max(0, at.Sub(d.begun)))
		d.span("replay to the target", began, at)
		if !d.o.Pause && end.After(at) {
			d.span("promotion", at, end)
		}
	}
}

// firstOf is the first time that is known.
func firstOf(times ...time.Time) time.Time {
	for _, t := range times {
		if !t.IsZero() {
			return t
		}
	}
	return time.Time{}
}

// span notes a part of the drill by the server's clock, which is this host's.
func (d *drill) span(name string, from, to time.Time) {
	d.report.Steps = append(d.report.Steps, Step{
		Name: name, Start: seconds(max(0, from.Sub(d.report.Started))), Seconds: seconds(max(0, to.Sub(from))),
	})
}

// enlarge gives the next server the sizes that this one lacked.
func (d *drill) enlarge(ctx context.Context, short map[string]int) error {
	grown := false
	for name, n := range short {
		if n > max(d.sized[name], sizes[name]) {
			d.sized[name], grown = n, true
		}
	}
	d.server.halt()
	d.server.awaitLog()
	if !grown {
		return d.serverFailed("the server finds its settings too small")
	}
	d.log.Info("the primary had larger settings; the server is started again with them")
	if err := d.place.configure(d.place.settingsOf(d.plan.Backup.Major, d.o.Pause, d.sized)); err != nil {
		return d.fail(ServerFailed, err.Error())
	}
	return ctx.Err()
}

// replayFailed says why a server did not come to the target.
func (d *drill) replayFailed(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return err
	case errors.Is(err, errFull):
		return d.fail(ScratchFull, "the disk of the scratch directory is full", d.server.log.reasons()...)
	case errors.Is(err, errStalled):
		return d.fail(Stalled, fmt.Sprintf("replay made no progress for %v, at %s", d.o.Stall, d.server.log.state().Current), d.server.log.reasons()...)
	}
	return d.serverFailed("the server ended before the target was reached")
}

// serverFailed quotes what an ended server said.
func (d *drill) serverFailed(message string) error {
	if d.server.ended() {
		d.server.awaitLog()
		message += "; it " + d.server.how()
	}
	reasons := d.server.log.reasons()
	kind := ServerFailed
	missed := func(line string) bool {
		return strings.Contains(line, "recovery ended before configured recovery target was reached")
	}
	switch {
	case d.server.log.state().Full:
		kind = ScratchFull
	case slices.ContainsFunc(reasons, missed):
		kind = TargetMissed
	}
	return d.fail(kind, message, reasons...)
}

// unusable says that a server at the target lets nobody in.
func (d *drill) unusable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}
	if d.server.ended() {
		return d.serverFailed("the server ended at the target")
	}
	return d.fail(ServerFailed, "the server cannot be connected to: "+err.Error(), d.server.log.reasons()...)
}

// login is a connection, and as whom.
type login struct {
	*pgconn.PgConn
	user string
}

// any connects to whatever database there is.
func (r *restored) any(ctx context.Context) (login, error) {
	var errs []error
	for _, database := range []string{r.database, "postgres", emergencyDatabase} {
		conn, user, err := r.p.connect(ctx, database, r.roles)
		if err == nil {
			return login{conn, user}, nil
		}
		errs = append(errs, err)
	}
	return login{}, errors.Join(errs...)
}
