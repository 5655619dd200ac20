package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/segment"
	"github.com/walrecv/walrecv/storage"
)

// End is what is known of a base backup when the server has sent all of it, and has
// said that it is sound.
type End struct {
	LSN           segment.LSN
	Timeline      segment.TimelineID
	Finished      time.Time // when the server said so
	ServerVersion string
}

// Wait says how long a backup that has come waits for its WAL, and for a store that
// does not answer.
type Wait struct {
	For   time.Duration // at most half of [Patience]
	Now   func() time.Time
	Pause func(ctx context.Context, d time.Duration) error // see [Pause]
	// Tell is told what is there of the WAL, or why that is not known, after every look.
	// What is missing can be waited for. It may be nil.
	Tell func(WAL, error)
}

// Pause waits for a time, or for the end of ctx, which is its error.
func Pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

const (
	firstPause = 100 * time.Millisecond
	lastPause  = 5 * time.Second

	// A hole in the WAL is final once it was seen so often, for so long: segments that
	// are uploaded at the same time need not arrive in order. It is at once where more
	// is there behind it than is ever on its way.
	holeLooks = 3
	holeWait  = 30 * time.Second
	farBehind = 64
)

// Finish makes the backup good: once all of its objects are durable and its WAL is in
// the archive, with no damage that is known, it finds each of them there, and then puts
// the last one, and finds the WAL still there. Its error, be it
// one of the store or of the end of ctx, says that this has not come to its end: the
// backup is good only if it is listed so.
func (w *Writer) Finish(ctx context.Context, end End, wait Wait) (*Backup, error) {
	if w.err != nil {
		return nil, w.err
	}
	if w.err = errors.Join(w.endPart(), w.committed()); w.err != nil {
		return nil, w.err
	}
	b := w.backup
	b.EndLSN, b.EndTimeline, b.Finished, b.ServerVersion = end.LSN, end.Timeline, end.Finished.UTC(), end.ServerVersion
	if w.err = b.check(b.ID); w.err != nil {
		return nil, w.err
	}
	// Long before the backup could be taken for an abandoned one, and be removed.
	wait.For = min(wait.For, Patience/2)
	f := finisher{a: w.a, b: &b, wait: wait, deadline: wait.Now().Add(wait.For)}
	for _, step := range []func(context.Context) error{f.findWAL, f.readWAL, f.match, f.put} {
		if w.err = f.persist(ctx, step); w.err != nil {
			return nil, w.err
		}
	}
	if err := f.persist(ctx, f.findAgain); err != nil {
		w.err = fmt.Errorf("the base backup %s was complete, and cannot be restored now if its WAL was removed in the meantime: %w", b.ID, err)
		return nil, w.err
	}
	w.err = errFinished
	return &b, nil
}

var errFinished = errors.New("the base backup is finished")

// finisher makes one backup good.
type finisher struct {
	a        *archive.Archive
	b        *Backup
	wait     Wait
	deadline time.Time

	lack  string    // what was missing in the last look
	since time.Time // of all looks that found the same
	looks int       // that found the same, on end
	again int       // looks that found something missing once the backup was good
}

// finalError is one that no further try mends.
type finalError struct{ error }

func (e finalError) Unwrap() error { return e.error }

// persist takes a step as often as it takes, until the time is over.
func (f *finisher) persist(ctx context.Context, step func(context.Context) error) error {
	for pause := firstPause; ; pause = min(pause*3/2, lastPause) {
		err := step(ctx)
		var final finalError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &final):
			return final.error
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !f.wait.Now().Before(f.deadline):
			return fmt.Errorf("%w; waited for %s", err, f.wait.For)
		}
		if err := f.wait.Pause(ctx, pause); err != nil {
			return err
		}
	}
}

// findWAL fails as long as the WAL is not all in the archive.
func (f *finisher) findWAL(ctx context.Context) error {
	needed := f.b.Needed()
	size := f.a.Identity().SegmentSize
	look, err := look(ctx, f.a, size.Number(needed.Start))
	var wal WAL
	if err == nil {
		wal = needed.In(look, size)
	}
	if f.wait.Tell != nil {
		f.wait.Tell(wal, err)
	}
	if err != nil {
		return err
	}
	lack := wal.Err()
	if lack == nil {
		return nil
	}
	if f.lack != lack.Error() {
		f.lack, f.since, f.looks = lack.Error(), f.wait.Now(), 0
	}
	f.looks++
	stays := wal.Hole || wal.Problem != nil
	if stays && f.looks >= holeLooks && (f.wait.Now().Sub(f.since) >= holeWait || wal.far(look.Listing, size)) {
		return finalError{lack}
	}
	return lack
}

// findAgain fails if the WAL is not in the archive any more: somebody can have removed it
// who had looked before the backup began, and that is final. Every other command sees it,
// too, so that nothing has to be taken back.
func (f *finisher) findAgain(ctx context.Context) error {
	wal, err := f.b.Needed().Find(ctx, f.a)
	if err != nil {
		return err
	}
	if err = wal.Err(); err == nil {
		return nil
	}
	if f.again++; f.again >= holeLooks { // a segment that is completed meanwhile can escape a look
		return finalError{err}
	}
	return err
}

// far tells whether more is there behind what is missing than is ever on its way.
func (w WAL) far(l *archive.Listing, size segment.Size) bool {
	name, err := segment.ParseName(w.Missing, size)
	name.Number += farBehind
	return err == nil && l.After(name)
}

// match fails if the archive does not hold what was put, and nothing else.
func (f *finisher) match(ctx context.Context) error {
	listed, err := listObjects(ctx, f.a, f.b.ID)
	if err != nil {
		return err
	}
	there := &objects{}
	for _, o := range listed {
		there = o
	}
	for _, lack := range there.lacks(f.a, f.b) {
		return finalError{errors.New(lack)}
	}
	if !there.has(archive.BackupStart) {
		return finalError{fmt.Errorf("%s was put, and is not in the archive", f.a.BackupKey(f.b.ID, archive.BackupStart))}
	}
	expected := map[string]bool{archive.BackupStart: true, archive.BackupEnd: true}
	for _, o := range f.b.Objects {
		expected[o.File] = true
	}
	for file := range there.sizes {
		if !expected[file] {
			return finalError{fmt.Errorf("the archive has %s, which is not of this backup", f.a.BackupKey(f.b.ID, file))}
		}
	}
	return nil
}

// put says that the backup is good.
func (f *finisher) put(ctx context.Context) error {
	content, err := encodeBackup(f.b)
	if err != nil {
		return finalError{err}
	}
	err = f.a.PutBackupDocument(ctx, f.b.ID, archive.BackupEnd, content)
	if errors.Is(err, fs.ErrExist) {
		return finalError{storage.Unknown("complete the base backup", err)}
	}
	return err
}
