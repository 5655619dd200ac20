package drill

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/backup"
	"github.com/walrecv/walrecv/internal/recovery"
	"github.com/walrecv/walrecv/segment"
)

// Options say what is drilled, and with what.
type Options struct {
	Archive  *archive.Archive
	Location string // of the archive, for people

	BackupID string // "" or "latest": the one that fits
	Target   recovery.Target
	Random   bool   // Target is chosen by chance
	Seed     uint64 // of the choice; the target itself is what repeats it
	Pause    bool   // stop at the target and do not promote

	BinDir string   // of the server's programs; "": look along Path
	Path   string   // as PATH is
	As     *Account // who runs the server

	// TempDir is where the scratch directory is made.
	TempDir string
	// Environ is what the server, and so restore_command, sees of the environment.
	Environ []string
	// RestoreCommand is restore_command for a data directory below dir.
	RestoreCommand func(dir string) string
	// LayForks puts into pg_wal of a data directory what a recovery over forks needs
	// and asks no restore_command for. nil: nothing.
	LayForks func(ctx context.Context, dataDir string, p *recovery.Plan) error
	// Watchdog is the command line that calls [Watch], Confined that which calls
	// [Become], and is followed by directories, "--" and a command.
	Watchdog, Confined []string

	Checks   []string // SQL; each has to give one true
	Database string   // for the checks

	// Server asks the server, if there is one to ask, how far it is.
	Server func(context.Context) (timeline segment.TimelineID, at segment.LSN, err error)

	// Stall is how long replay may make no progress; 0: 10 minutes.
	Stall time.Duration

	Log *slog.Logger // progress
}

// stallDefault is longer than restore_command tries.
const stallDefault = 10 * time.Minute

// SetupError says that a drill cannot be made here with these options, whatever the
// archive holds.
type SetupError struct{ Err error }

func (e *SetupError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *SetupError) Unwrap() error { return e.Err }

// errFailed says that the report has the reason why the drill ended.
var errFailed = errors.New("the drill failed")

// drill is one drill.
type drill struct {
	o      Options
	report *Report
	log    *slog.Logger

	survey   *recovery.Survey
	plan     *recovery.Plan
	programs Programs
	environ  []string

	dog    *watchdog
	place  *place
	server *server
	begun  time.Time // when the server was started first
	sized  map[string]int
}

// Run makes a drill and returns what it found. An error means that nothing was
// drilled: that the archive could not be asked, or a [SetupError]. Nothing is left
// behind in any case, also not by a context that ends.
func Run(ctx context.Context, o Options) (*Report, error) {
	d := &drill{o: o, log: o.Log, sized: map[string]int{}, environ: serverEnviron(o.Environ)}
	if d.o.Stall == 0 {
		d.o.Stall = stallDefault
	}
	d.report = &Report{
		Archive: o.Location, SystemID: fmt.Sprint(o.Archive.Identity().SystemID), Started: time.Now().UTC(),
		Target: targetOf(o), Failures: []Failure{}, Checks: []Check{}, Steps: []Step{}, Notes: []string{},
	}
	err := d.run(ctx)
	if err != nil && !errors.Is(err, errFailed) && ctx.Err() != nil {
		d.report.fail(Interrupted, context.Cause(ctx).Error())
		err = errFailed
	}
	if left := d.clear(); left != nil {
		d.report.fail(LeftBehind, left.Error())
	}
	if err != nil && !errors.Is(err, errFailed) {
		return nil, err
	}
	r := d.report
	r.Finished = time.Now().UTC()
	r.Times.Total = seconds(r.Finished.Sub(r.Started))
	r.Success = len(r.Failures) == 0
	return r, nil
}

// run does everything that clear has to clean up after.
func (d *drill) run(ctx context.Context) error {
	if err := d.choose(ctx); err != nil {
		return err
	}
	if err := d.prepare(ctx); err != nil {
		return err
	}
	if err := d.download(ctx); err != nil {
		return err
	}
	return d.recover(ctx)
}

// choose decides what is restored, before anything is written.
func (d *drill) choose(ctx context.Context) error {
	defer d.step("choose", time.Now())
	entries, err := backup.List(ctx, d.o.Archive, d.report.Started)
	if err != nil {
		return d.archiveFailed(err)
	}
	if err := d.pick(ctx, entries); err != nil {
		return err
	}
	d.loss(ctx)
	b := d.plan.Backup
	d.report.Backup = &Backup{
		ID: b.ID, Major: b.Major, Started: b.Started.UTC(), Finished: b.Finished.UTC(),
		StartLSN: b.StartLSN, EndLSN: b.EndLSN, PlainSize: b.PlainSize, StoredSize: b.StoredSize,
	}
	d.report.Target.Timeline = uint32(d.plan.Timeline)
	if d.plan.Note != "" {
		d.report.Notes = append(d.report.Notes, d.plan.Note)
	}
	return nil
}

// archiveFailed tells what is wrong with the archive from an archive that does not
// answer, which says nothing about it.
func (d *drill) archiveFailed(err error) error {
	var damaged *archive.DamagedError
	if errors.As(err, &damaged) {
		return d.fail(Damaged, err.Error())
	}
	return err
}

// fail notes a reason and ends the drill.
func (d *drill) fail(kind Kind, message string, log ...string) error {
	d.report.fail(kind, message, log...)
	return errFailed
}

// step notes a part of the drill that ends now.
func (d *drill) step(name string, began time.Time) {
	d.report.Steps = append(d.report.Steps, Step{Name: name, Start: seconds(began.Sub(d.report.Started)), Seconds: since(began)})
}

// clear ends the server, and removes all that was made.
func (d *drill) clear() error {
	if d.server != nil {
		d.server.halt()
	}
	var err error
	if d.place != nil {
		began := time.Now()
		err = Clear(d.place.dirs())
		d.step("remove", began)
	}
	if d.server != nil {
		d.server.awaitLog()
	}
	switch {
	case d.dog == nil:
	case err != nil:
		d.dog.leave() // perhaps it can later
	default:
		_ = d.dog.dismiss() // nothing is left that it could be needed for
	}
	return err
}
