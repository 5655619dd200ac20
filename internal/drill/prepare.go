package drill

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/backup"
	"github.com/walrecv/walrecv/internal/extract"
	"github.com/walrecv/walrecv/internal/recovery"
)

// pick chooses the target, if that is left to chance, and the backup.
func (d *drill) pick(ctx context.Context, entries []backup.Entry) error {
	named, err := d.named(entries)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(entries, func(e backup.Entry) bool { return e.Backup != nil }) {
		return d.fail(NoBackup, noneGood(entries))
	}
	if d.survey, err = recovery.Look(ctx, d.o.Archive, archive.Pause); err != nil {
		return d.archiveFailed(err)
	}
	windows := d.survey.Windows(entries)
	if d.o.Random {
		d.draw(windows)
	}
	d.plan, err = d.survey.Choose(ctx, entries, d.o.Target, d.o.BackupID)
	var unreachable *recovery.UnreachableError
	var unusable *recovery.DamagedError
	switch {
	case errors.As(err, &unusable):
		return d.fail(kindOf(unusable), err.Error())
	case errors.As(err, &unreachable):
		d.report.moot = d.o.choosy()
		return d.fail(Unreachable, err.Error())
	case err != nil && named != nil && named.Backup == nil:
		d.report.moot = named.State != backup.Damaged
		return d.fail(NoBackup, err.Error())
	case err != nil:
		return d.archiveFailed(err)
	}
	for _, newer := range d.plan.Damaged {
		d.report.fail(kindOf(newer), newer.Error())
	}
	d.report.Loss = &Loss{ArchivedLSN: d.plan.End, Timeline: uint32(d.plan.Timeline)}
	for _, w := range windows {
		if w.Timeline == d.plan.Timeline && w.End == d.plan.End {
			d.lastCommit(w.EndTime)
		}
	}
	return nil
}

// named is the base backup that was asked for, nil if any will do.
func (d *drill) named(entries []backup.Entry) (*backup.Entry, error) {
	id := d.o.BackupID
	if id == "" || id == "latest" {
		return nil, nil //nolint:nilnil // none was asked for
	}
	for i, e := range entries {
		if e.ID == id {
			return &entries[i], nil
		}
	}
	return nil, &SetupError{fmt.Errorf("there is no base backup %s in the archive; walrecv backup list shows what there is", id)}
}

// noneGood says what there is in place of a good base backup.
func noneGood(entries []backup.Entry) string {
	text := "the archive has no base backup that is good"
	if n := len(entries); n > 0 {
		text += fmt.Sprintf(": the newest of %d, %s, is %s", n, entries[n-1].ID, entries[n-1].State)
	}
	return text
}

// choosy tells whether somebody wants to go to a certain point, or along a certain
// timeline, so that it can be their mistake if that is not possible.
func (o Options) choosy() bool {
	return o.Target.Timeline != 0 || !o.Random && o.Target.Kind != recovery.Latest && o.Target.Kind != recovery.Immediate
}

// kindOf is the kind of failure that a damaged backup is.
func kindOf(e *recovery.DamagedError) Kind {
	if e.Missing {
		return Missing
	}
	return Damaged
}

// draw chooses a target by chance: in a window of the newest timeline that has one.
// Where nothing is known of what is behind a base backup, it stays the end.
func (d *drill) draw(windows []recovery.Window) {
	rng := rand.New(rand.NewPCG(d.o.Seed, 0))
	for _, w := range slices.Backward(windows) {
		if t, ok := w.Random(rng); ok {
			d.o.Target = t
			d.report.Target = targetOf(d.o)
			return
		}
	}
	d.o.Pause = false // at the end nobody pauses
	d.report.Target = targetOf(d.o)
	d.report.Notes = append(d.report.Notes, "there was nothing to choose from: no commit or record is known behind the end of a base backup")
}

// targetKinds are the words for targets in reports.
var targetKinds = map[recovery.TargetKind]string{
	recovery.Latest: "latest", recovery.Immediate: "immediate", recovery.Time: "time",
	recovery.LSN: "lsn", recovery.XID: "xid", recovery.Name: "name",
}

func targetOf(o Options) Target {
	return Target{Kind: targetKinds[o.Target.Kind], Text: o.Target.String(), Action: o.action(), Random: o.Random}
}

// action is recovery_target_action.
func (o Options) action() string {
	if o.Pause {
		return "pause"
	}
	return "promote"
}

// loss asks the server how far it is, right after the archive was: so what it has
// written in between counts as lost.
func (d *drill) loss(ctx context.Context) {
	if d.o.Server == nil {
		return
	}
	l := d.report.Loss
	timeline, at, err := d.o.Server(ctx)
	switch {
	case err != nil:
		l.Problem = err.Error()
	case timeline != d.plan.Timeline:
		l.Problem = fmt.Sprintf("it is on timeline %d", timeline)
		l.ServerLSN = at
	default:
		lost := int64(max(at, l.ArchivedLSN) - l.ArchivedLSN)
		l.ServerLSN, l.Bytes = at, &lost
	}
	if l.Problem != "" {
		d.log.Warn("cannot say how much would be lost: the server did not tell how far it is; correct what the reason says, or leave the connection options out", "reason", l.Problem)
	}
}

// lastCommit notes the time of a commit that can be recovered.
func (d *drill) lastCommit(at time.Time) {
	l := d.report.Loss
	if at.IsZero() || at.Before(l.LastCommit) {
		return
	}
	age := seconds(max(0, d.report.Started.Sub(at)))
	l.LastCommit, l.CommitAge = at.UTC(), &age
}

// prepare finds the programs and makes the scratch directory.
func (d *drill) prepare(ctx context.Context) (err error) {
	defer d.step("prepare", time.Now())
	d.programs, err = FindPrograms(ctx, d.o.BinDir, d.o.Path, d.plan.Backup.Major, d.o.As)
	if err != nil {
		return &SetupError{err}
	}
	d.report.Server = &Server{BinDir: d.programs.Dir, User: d.o.As.Name, Confined: canConfine() > 0}
	if d.dog, err = startWatchdog(d.o.Watchdog); err != nil {
		return &SetupError{err}
	}
	if d.place, err = newPlace(ctx, d.o.TempDir, d.o.As, d.dog.guard); err != nil {
		if full(err) {
			return d.fail(ScratchFull, err.Error())
		}
		return &SetupError{err}
	}
	d.environ = append(d.environ, "TMPDIR="+d.place.dir) // of restore_command: it may write nowhere else
	return d.room()
}

// room refuses a disk that cannot even hold the backup.
func (d *drill) room() error {
	var fs unix.Statfs_t
	if unix.Statfs(d.place.dir, &fs) != nil {
		return nil //nolint:nilerr // the disk will say itself
	}
	free := fs.Bavail * uint64(fs.Bsize)
	if need := uint64(d.plan.Backup.PlainSize); free < need {
		return d.fail(ScratchFull, fmt.Sprintf("%s has %d bytes free, and the base backup alone takes %d: set TMPDIR to a larger disk", filepath.Dir(d.place.dir), free, need))
	}
	return nil
}

// full tells whether a disk had no room.
func full(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// download restores the base backup.
func (d *drill) download(ctx context.Context) error {
	b := d.plan.Backup
	d.log.Info("restoring the base backup", "backup", b.ID, "target", d.o.Target.String(), "bytes", b.PlainSize, "directory", d.place.dir)
	began := time.Now()
	defer d.step("download", began)
	o := extract.Options{Dir: d.place.data(), Mapping: d.place.mapping(b.Tablespaces)}
	if d.o.As.other() {
		o.Owner = &extract.Owner{UID: int(d.o.As.UID), GID: int(d.o.As.GID)}
	}
	_, err := extract.Run(ctx, d.o.Archive, b, o)
	d.report.Times.Download = since(began)
	if err != nil {
		return d.downloadFailed(ctx, err)
	}
	return nil
}

func (d *drill) downloadFailed(ctx context.Context, err error) error {
	var object *archive.DamagedError
	var whole *extract.DamagedError
	switch {
	case ctx.Err() != nil:
		return err
	case errors.Is(err, archive.ErrEncrypted):
		return &SetupError{fmt.Errorf("%w; give an identity that fits with --decrypt-with", err)}
	case full(err):
		return d.fail(ScratchFull, err.Error())
	case d.place.gone():
		return d.fail(ScratchGone, err.Error())
	case errors.Is(err, fs.ErrNotExist):
		return d.fail(Missing, err.Error())
	case errors.As(err, &object), errors.As(err, &whole):
		return d.fail(Damaged, err.Error())
	}
	return d.fail(Download, err.Error())
}
