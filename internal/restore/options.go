package restore

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/prefetch"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/storage"
)

// Tail says whether the unfinished last segment is delivered.
type Tail string

// What Tail may be. The zero value is TailAuto.
const (
	TailAuto  Tail = "auto"
	TailNever Tail = "never"
)

// TryOnce as Options.RetryFor is for a call that does not wait at all.
const TryOnce time.Duration = 1

// Place is where WAL can be found. The zero Place is none.
type Place struct {
	// Location names it in messages.
	Location string

	// Open returns the store, whose root is the place. It must honour its
	// context; the calls of the store need not, they are given up on when it
	// ends. A failed Open is tried again.
	Open func(context.Context) (storage.Store, error)

	// Missing is what errors of the store wrap that say that the place itself
	// is not there, a directory that is not mounted for instance. nil: the
	// store has no such errors.
	Missing error

	// Far says that waiting for a request is what it takes, so that it is worthwhile to
	// make several at a time.
	Far bool
}

func (p Place) given() bool { return p.Open != nil }

// Options are all that one call needs to know. Times are taken from package
// time.
type Options struct {
	FS      vfs.FS // of the data directory
	Archive Place  // format 1, or a directory as pg_receivewal leaves it
	Spool   Place  // the directory of a receiver on this host

	// Keys gives what encrypted objects are read with, and is asked when the archive
	// is opened. nil: nothing.
	Keys func() (archive.Keys, error)

	SystemID uint64        // of the cluster; 0: the data directory's, or the only one there
	RetryFor time.Duration // longest wait for an answer; 0: 5 min, on a standby 10 s
	Tail     Tail

	// PrefetchDir finds a directory, given the path of pg_wal, for what one call
	// keeps for the next ones. Nobody but the server's user may be able to write
	// there. nil, or an error: nothing is kept.
	PrefetchDir func(pgWAL string) (string, error)

	Prefetch Prefetch

	File    string // %f
	Path    string // %p
	WorkDir string // of the process, absolute

	Logger *slog.Logger // what a standby must be told although the answer is 1; nil: nobody
}

// Prefetch says how segments are fetched before they are asked for. The zero value is:
// not at all.
type Prefetch struct {
	Ahead int // segments; 0: none

	// Start starts a process that calls [Help] with the same options, and does not wait
	// for it. nil: there is no helper.
	Start func() error

	System prefetch.System // nil: the one that this runs on
}

const (
	retryRecovery = 5 * time.Minute
	retryStandby  = 10 * time.Second
)

// retryFor is how long a call may wait for an answer.
func (o *Options) retryFor(standby bool) time.Duration {
	switch {
	case o.RetryFor > 0:
		return o.RetryFor
	case standby:
		return retryStandby
	}
	return retryRecovery
}

// target is %p as a path that does not depend on the process.
func (o *Options) target() string {
	if filepath.IsAbs(o.Path) {
		return filepath.Clean(o.Path)
	}
	return filepath.Join(o.WorkDir, o.Path)
}

// check finds what makes a call senseless.
func (o *Options) check() error {
	switch {
	case !o.Archive.given() && !o.Spool.given():
		return errors.New("neither an archive nor a spool is configured")
	case o.Path == "":
		return errors.New("the path to restore to is empty")
	case o.RetryFor < 0:
		return errors.New("the time to retry is negative")
	case o.Prefetch.Ahead < 0:
		return errors.New("the number of segments to prefetch is negative")
	case o.Tail != "" && o.Tail != TailAuto && o.Tail != TailNever:
		return errors.New("the tail is neither auto nor never")
	}
	return nil
}
