package extract

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/backup"
	"github.com/walrecv/walrecv/internal/manifest"
)

// Archive is what is needed of an archive: see [archive.Archive].
type Archive interface {
	Identity() archive.Identity
	OpenStored(ctx context.Context, backupID string, s archive.Stored) (io.ReadCloser, error)
}

// Owner is a user and a group, by number.
type Owner struct{ UID, GID int }

// Options say where a backup goes.
type Options struct {
	// Dir is the data directory: an absolute path. It must be empty, or is made
	// with the directories above it.
	Dir string

	// Mapping says of tablespaces, by the absolute paths that they had, where they
	// go; the others go where they were. Each is a directory like Dir. Those of
	// allow_in_place_tablespaces are part of Dir, mapped or not.
	Mapping map[string]string

	// Apart are directories of others, by absolute paths: nothing may be restored into
	// one of them, or below.
	Apart []string

	// Owner gets all files and directories; nil: they belong to who makes them.
	Owner *Owner

	// Reread reads all files again once they are durable, from the disk where the
	// system can do that, and compares them with the manifest once more.
	Reread bool

	// Progress is told how many bytes of files are done, and of how many, often and
	// from several goroutines. nil: nobody is told.
	Progress func(done, total int64)

	// Prepare is called when everything but global/pg_control is there and durable,
	// to add files to Dir, which it makes durable itself; they get the owner, and
	// are removed like all others if the run fails. nil: nothing is added.
	Prepare func(dir string) error
}

// Result is what was restored.
type Result struct {
	Files       int
	Bytes       int64             // of the files
	Tablespaces map[uint32]string // where they are now: absolute paths, by OID
}

// workers is how many objects are extracted at a time: a store answers with some
// delay, and decompression takes a core.
func workers() int { return max(4, min(runtime.GOMAXPROCS(0), 16)) }

// Run lays out a backup. nil says that all files are there, are those that the
// server sent, and are durable. After an error nothing is left that this call made,
// unless the error says otherwise. A [NotEmptyError], a [MappingError] and a [PlaceError]
// leave everything as it was; a [DamagedError] says that the backup is not what it was.
//
// What the store fails with is tried again for a while; what it says of an object is
// final.
func Run(ctx context.Context, a Archive, b *backup.Backup, o Options) (Result, error) {
	x := &extraction{archive: a, backup: b, options: o, tries: defaultTries}
	return x.run(ctx)
}

// extraction is one call of Run.
type extraction struct {
	archive Archive
	backup  *backup.Backup
	options Options
	tries   tries

	spaces   []*space // the data directory is the first one
	manifest *manifest.Manifest
	seen     []atomic.Bool // by index in the manifest
	done     atomic.Int64  // bytes
	total    int64         // bytes that there are to do
	control  []byte        // global/pg_control
	controls fs.FileMode   // its permissions
}

func (x *extraction) run(ctx context.Context) (result Result, err error) {
	if err := x.plan(); err != nil {
		return result, err
	}
	defer func() {
		if err != nil {
			err = x.undo(err)
		}
		x.release()
	}()
	if err := x.claim(); err != nil {
		return result, err
	}
	for _, step := range []func(context.Context) error{
		x.readManifest, x.unpackAll, x.complete, x.link, x.syncAll, x.rereadAll, x.settleAll, x.prepare, x.publish,
	} {
		if err := ctx.Err(); err != nil {
			return result, context.Cause(ctx)
		}
		if err := step(ctx); err != nil {
			return result, err
		}
	}
	result = Result{Files: x.manifest.Len(), Bytes: x.manifest.Size(), Tablespaces: map[uint32]string{}}
	for _, s := range x.spaces[1:] {
		result.Tablespaces[s.oid] = s.path
	}
	return result, nil
}

// unpackAll extracts all tars.
func (x *extraction) unpackAll(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(workers())
	for _, s := range x.spaces {
		for _, o := range x.backup.Pieces(s.tablespace) {
			group.Go(func() error { return x.unpackObject(ctx, s, o) })
		}
	}
	return group.Wait()
}

// complete looks whether all files came.
func (x *extraction) complete(context.Context) error {
	missing, example := 0, ""
	for i := range x.seen {
		if !x.seen[i].Load() {
			missing++
			example = x.manifest.At(i).Path
		}
	}
	switch {
	case missing > 0:
		return x.damaged("it lacks %d of the files in its manifest, %q among them", missing, example)
	case x.control == nil:
		return x.damaged("it has no %s", controlFile)
	}
	return nil
}

// progress counts bytes that are done.
func (x *extraction) progress(n int64) {
	done := x.done.Add(n)
	if x.options.Progress != nil {
		x.options.Progress(done, x.total)
	}
}

// DamagedError says that a backup in the archive is not what it was, or never was
// one: another try gives the same.
type DamagedError struct {
	Backup string // ID
	Err    error
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("base backup %s is damaged: %v", e.Backup, e.Err)
}

// Unwrap gives what was found.
func (e *DamagedError) Unwrap() error { return e.Err }

func (x *extraction) damaged(format string, args ...any) error {
	return &DamagedError{Backup: x.backup.ID, Err: fmt.Errorf(format, args...)}
}
