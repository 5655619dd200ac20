package push

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/pgdata"
	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/storage"
)

// DefaultPatience is how long the store may be in trouble before a call gives up.
const DefaultPatience = time.Minute

// ErrNotWAL says that a path is not that of a file that a server archives.
var ErrNotWAL = errors.New("not a file of pg_wal: want a segment, .partial, .history or .backup")

// Options is what one call needs to know.
type Options struct {
	FS      vfs.FS
	Path    string // %p: of the file, relative to WorkDir or absolute
	WorkDir string

	// Location names the archive, for messages and for the note in the data
	// directory. Open opens its store and is called once. Mountable says that it is
	// a directory of this host, which may be a mount point.
	Location  string
	Open      func(context.Context) (storage.Store, error)
	Mountable bool
	Keys      archive.Keys

	// Unsafe lets in a store in which one writer can overwrite another.
	Unsafe bool

	Scratch      string        // a directory for what is made before it is put
	AcceptBranch bool          // archive histories that a clone may have made
	Patience     time.Duration // 0: DefaultPatience
	Logger       *slog.Logger  // told what is wrong with a file that is put all the same
}

// Run puts the file. nil says that the archive durably holds it, or all of it that
// the archive should have. [ErrNotWAL], findings of package archive and those that
// wrap [segment.ErrWrongCluster] or [segment.ErrBranch] do not pass by themselves;
// for all other errors the server does well to ask again.
//
// It ends once nothing of the file has got on for Options.Patience, or soon after
// the server begins to shut down while the store is in trouble. A store that hangs
// must let go when its context ends: see [storage.WithDeadline].
//
// A panic is an error: whatever happens, the server is never told that a file is
// archived which is not.
func Run(ctx context.Context, o Options) (err error) {
	defer func() {
		if r := recover(); r != nil {
			o.Logger.Error("push has panicked", "file", o.Path, "panic", r, "stack", string(debug.Stack()))
			err = fmt.Errorf("internal error: %v", r)
		}
	}()
	c, err := newCall(o)
	if err != nil {
		return err
	}
	ctx, stop := c.patience.watch(ctx)
	defer stop()
	return c.run(ctx)
}

// call is one call of archive_command.
type call struct {
	o        Options
	log      *slog.Logger
	file     file
	path     string
	dir      pgdata.Dir
	cluster  cluster
	patience *patience
	archive  *archive.Archive
	scratch  *archive.Scratch
}

func newCall(o Options) (*call, error) {
	if o.Patience == 0 {
		o.Patience = DefaultPatience
	}
	c := &call{o: o, log: o.Logger, path: o.Path, scratch: archive.NewPrivateScratch(o.FS, o.Scratch)}
	if !filepath.IsAbs(c.path) {
		c.path = filepath.Join(o.WorkDir, c.path)
	}
	var err error
	if c.file, err = parseFile(filepath.Base(c.path)); err != nil {
		return nil, err
	}
	if c.dir, err = pgdata.Find(o.FS, c.path, o.WorkDir); err != nil {
		return nil, err
	}
	c.patience = newPatience(o.Patience, c.dir.Stopping)
	return c, nil
}

func (c *call) run(ctx context.Context) error {
	if err := c.learnCluster(); err != nil {
		return err
	}
	if err := c.openArchive(ctx); err != nil {
		return err
	}
	if c.file.kind == history {
		content, err := c.read()
		if err != nil {
			return err
		}
		return c.putHistory(ctx, c.file.timeline, content)
	}
	if err := c.checkTimeline(ctx); err != nil {
		return err
	}
	switch c.file.kind {
	case backup:
		content, err := c.read()
		if err != nil {
			return err
		}
		return c.try(ctx, func(ctx context.Context) error { return c.archive.PutBackup(ctx, c.file.base, content) })
	case partial:
		return c.putPartial(ctx)
	}
	return c.putSegment(ctx)
}

// maxSmall bounds the files that are read as a whole, in bytes.
const maxSmall = 1 << 20

// read reads a small file.
func (c *call) read() ([]byte, error) {
	f, size, err := c.open()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if size > maxSmall {
		return nil, fmt.Errorf("%s: %d bytes are more than such a file can have", c.file.base, size)
	}
	content := make([]byte, size)
	if n, err := f.ReadAt(content, 0); n < len(content) {
		return nil, fmt.Errorf("read %s: %w", c.file.base, err)
	}
	return content, nil
}

// open opens the file to be archived.
func (c *call) open() (vfs.File, int64, error) {
	f, err := c.o.FS.OpenRead(c.path)
	if err != nil {
		return nil, 0, err
	}
	size, err := f.Size()
	if err != nil {
		f.Close() // nothing was written through it
		return nil, 0, err
	}
	return f, size, nil
}

// openArchive opens the archive of the cluster, or makes it.
func (c *call) openArchive(ctx context.Context) error {
	store, err := c.o.Open(ctx)
	if err != nil {
		return err
	}
	store = c.patience.watched(store)
	err = c.try(ctx, func(ctx context.Context) (err error) {
		c.archive, err = archive.Open(ctx, c.anchored(store), c.cluster.system, c.o.Keys)
		if errors.Is(err, fs.ErrNotExist) {
			return c.makeArchive(ctx, store)
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := c.cluster.check(c.archive.Identity()); err != nil {
		return err
	}
	if !c.o.Mountable && !c.o.Unsafe {
		if err := c.try(ctx, c.archive.ProveCreateOnly); err != nil {
			return err
		}
	}
	return c.note()
}

func (c *call) anchored(store storage.Store) storage.Store {
	if !c.o.Mountable {
		return store
	}
	return archive.Anchor(store, archive.Identity{SystemID: c.cluster.system})
}

// makeArchive makes the archive of a cluster that never had one there.
func (c *call) makeArchive(ctx context.Context, store storage.Store) error {
	used, err := c.noted()
	if err != nil {
		return &final{err}
	}
	if used {
		return c.lost()
	}
	id, err := c.identity()
	if err != nil {
		return &final{err}
	}
	c.archive, err = archive.Init(ctx, c.anchored(store), id, c.o.Keys)
	return err
}
