package extract

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/walrecv/walrecv/internal/manifest"
	"github.com/walrecv/walrecv/internal/vfs"
)

// syncAll makes everything durable that was made so far. That comes in the end and not
// with each file: the system has written most of it by then, and many files share a
// commit of the file system.
func (x *extraction) syncAll(ctx context.Context) error {
	err := x.each(ctx, func(s *space, name string, _ manifest.File) error { return s.sync(name) })
	if err != nil {
		return err
	}
	if err := x.spaces[0].sync(manifestFile); err != nil {
		return err
	}
	for _, s := range slices.Backward(x.spaces) {
		for dir := range s.dirs {
			if err := s.sync(dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// each calls fn for all files of the manifest but global/pg_control, several at a
// time.
func (x *extraction) each(ctx context.Context, fn func(s *space, name string, f manifest.File) error) error {
	group, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range workers() {
		group.Go(func() error {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= x.manifest.Len() {
					return nil
				}
				f := x.manifest.At(i)
				if f.Path == controlFile {
					continue
				}
				s, name := x.locate(f.Path)
				if err := fn(s, name, f); err != nil {
					return err
				}
			}
			return context.Cause(ctx)
		})
	}
	return group.Wait()
}

// locate finds where a file of the manifest is.
func (x *extraction) locate(file string) (*space, string) {
	if rest, ok := strings.CutPrefix(file, linkDir+"/"); ok {
		oid, name, _ := strings.Cut(rest, "/")
		if s := x.spaceOf(oid); s != nil {
			return s, name
		}
	}
	return x.spaces[0], file
}

// sync makes a file or a directory durable.
func (s *space) sync(name string) error {
	f, err := s.root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// rereadAll compares what is on the disk with the manifest, if that is asked for.
func (x *extraction) rereadAll(ctx context.Context) error {
	if !x.options.Reread {
		return nil
	}
	for _, s := range x.spaces {
		if err := x.strangers(s); err != nil {
			return err
		}
	}
	return x.each(ctx, func(s *space, name string, f manifest.File) error {
		return s.reread(ctx, name, f, x.progress)
	})
}

// reread compares a file with what the manifest says of it.
func (s *space) reread(ctx context.Context, name string, f manifest.File, progress func(int64)) error {
	in, err := s.root.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	vfs.DropCache(in)
	checker := f.NewChecker()
	for buf := make([]byte, min(piece, f.Size+1)); ; {
		n, err := in.Read(buf)
		_, _ = checker.Write(buf[:n]) // which never fails
		progress(int64(n))
		if err == io.EOF {
			break
		}
		if err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return err
		}
	}
	if wrong := checker.Mismatch(); wrong != "" {
		return fmt.Errorf("%s is not what was written: %s", s.say(name), wrong)
	}
	return nil
}

// strangers looks for what is in a directory and was not made here.
func (x *extraction) strangers(s *space) error {
	for dir := range s.dirs {
		if dir != "." && x.isSpace(filepath.Join(s.path, dir)) {
			continue // a tablespace within the data directory, which is looked at by itself
		}
		d, err := s.root.Open(dir)
		if err != nil {
			return err
		}
		entries, err := d.ReadDir(-1)
		d.Close()
		if err != nil {
			return err
		}
		for _, e := range entries {
			name := path.Join(dir, e.Name())
			_, listed := x.manifest.Find(s.prefix + name)
			if !listed && !s.dirs[name] && !x.isLink(s, name) && (s.oid != 0 || name != manifestFile) {
				return fmt.Errorf("%s was not there before and does not belong to the backup", s.say(name))
			}
		}
	}
	return nil
}

func (x *extraction) isSpace(dir string) bool {
	return slices.ContainsFunc(x.spaces, func(s *space) bool { return s.path == dir })
}

// prepare lets the caller add files. Like all others they have an owner, and are
// removed if something fails.
func (x *extraction) prepare(context.Context) error {
	if x.options.Prepare == nil {
		return nil
	}
	data := x.spaces[0]
	failed := x.options.Prepare(data.path)
	names, err := data.names()
	if err != nil {
		return errors.Join(failed, err)
	}
	for _, name := range names {
		data.note(name)
	}
	if failed != nil || data.owner == nil {
		return failed
	}
	names = append(names, x.walNames()...)
	for _, name := range names {
		if err := data.chown(name); err != nil {
			return err
		}
	}
	return nil
}

// walNames lists what is in pg_wal, where the caller may have laid WAL.
func (x *extraction) walNames() []string {
	var names []string
	_ = fs.WalkDir(x.spaces[0].root.FS(), "pg_wal", func(name string, _ fs.DirEntry, err error) error {
		if err == nil {
			names = append(names, name)
		}
		return nil
	})
	return names
}

// settleAll gives the directories themselves what they have to have, and makes their
// names durable.
func (x *extraction) settleAll(context.Context) error {
	data := x.spaces[0]
	if data.mode&groupRead != 0 {
		if err := data.root.Chmod(manifestFile, fileMode|groupRead); err != nil {
			return err
		}
	}
	for _, s := range slices.Backward(x.spaces) {
		if err := errors.Join(s.settle(), s.sync("."), s.syncAbove()); err != nil {
			return err
		}
	}
	return nil
}

// publish makes the directory one that a server starts on.
func (x *extraction) publish(context.Context) error {
	data := x.spaces[0]
	if err := data.sync("."); err != nil { // the caller's files have got an owner
		return err
	}
	f, err := data.create(controlFile, x.controls)
	if err != nil {
		return err
	}
	_, err = f.Write(x.control)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = data.sync(path.Dir(controlFile))
	}
	if err == nil && x.options.Reread {
		err = x.rereadControl()
	}
	return err
}

func (x *extraction) rereadControl() error {
	there, err := x.spaces[0].root.ReadFile(controlFile)
	if err == nil && !bytes.Equal(there, x.control) {
		err = fmt.Errorf("%s is not what was written", x.spaces[0].say(controlFile))
	}
	x.progress(int64(len(there)))
	return err
}

// syncAbove makes the names of the directories durable that were made.
func (s *space) syncAbove() error {
	made := s.above
	if s.made {
		made = append(slices.Clone(made), s.path)
	}
	for _, dir := range slices.Backward(made) {
		if err := vfs.OS().SyncDir(filepath.Dir(dir)); err != nil {
			return err
		}
	}
	return nil
}
