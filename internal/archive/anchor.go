package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/walrecv/walrecv/storage"
)

// anchored is a store in a directory of this host, which may be a mount point.
// When its disk is unmounted, the directory is still there, and empty. What is
// put there would be confirmed, would then leave the spool, and would be hidden
// when the disk is back: a hole. So nothing is put, and nothing is listed, where
// the archive's identity is not.
type anchored struct {
	storage.Store
	key string // of the identity
}

type anchoredDeleter struct {
	*anchored
	storage.Deleter
}

// Anchor returns a Store on store that holds on to an archive that has been
// opened, or is being made: but for its identity, nothing is put, confirmed,
// listed or said to be absent where that is not seen. Every other Put costs two requests more. An
// archive that is reached by the name of its bucket needs none of this.
//
// The returned Store is a [storage.Deleter] if store is one.
func Anchor(store storage.Store, id Identity) storage.Store {
	a := &anchored{store, id.key()}
	if deleter, ok := store.(storage.Deleter); ok {
		return anchoredDeleter{a, deleter}
	}
	return a
}

// Put implements storage.Store. The identity is looked for before, so that
// nothing is written below a mount point, and after, so that nothing is
// confirmed that was.
func (s *anchored) Put(ctx context.Context, key string, src storage.Source) error {
	if key == s.key {
		return s.Store.Put(ctx, key, src)
	}
	if err := s.holds(ctx); err != nil {
		return err
	}
	return s.unlessGone(ctx, s.Store.Put(ctx, key, src))
}

// Open implements storage.Store. What is not below a mount point is not absent.
func (s *anchored) Open(ctx context.Context, key string) (io.ReadCloser, storage.Info, error) {
	body, info, err := s.Store.Open(ctx, key)
	return body, info, s.unlessLost(ctx, key, err)
}

// Stat implements storage.Store.
func (s *anchored) Stat(ctx context.Context, key string) (storage.Info, error) {
	info, err := s.Store.Stat(ctx, key)
	return info, s.unlessLost(ctx, key, err)
}

// unlessLost keeps an object from passing for absent where the identity is not.
func (s *anchored) unlessLost(ctx context.Context, key string, err error) error {
	if key == s.key || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if lost := s.holds(ctx); lost != nil {
		return lost
	}
	return err
}

// List implements storage.Store.
func (s *anchored) List(ctx context.Context, prefix string, fn func(storage.Info) error) error {
	if err := s.holds(ctx); err != nil {
		return err
	}
	return s.Store.List(ctx, prefix, fn)
}

// ListDirs implements [storage.DirLister], whether or not the Store below does.
func (s *anchored) ListDirs(ctx context.Context, prefix string, fn func(name string) error) error {
	if err := s.holds(ctx); err != nil {
		return err
	}
	return storage.ListDirs(ctx, s.Store, prefix, fn)
}

// ListFrom implements [storage.FromLister], whether or not the Store below does.
func (s *anchored) ListFrom(ctx context.Context, prefix, from string, fn func(storage.Info) error) error {
	if err := s.holds(ctx); err != nil {
		return err
	}
	return storage.ListFrom(ctx, s.Store, prefix, from, fn)
}

// Confirm implements [storage.Confirmer], whether or not the Store below does.
func (s *anchored) Confirm(ctx context.Context, key string) error {
	return storage.Confirm(ctx, s.Store, key)
}

// holds fails if the identity is not there or cannot be seen.
func (s *anchored) holds(ctx context.Context) error {
	_, err := s.Store.Stat(ctx, s.key)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the archive has lost its %s: is its disk still mounted?", s.key)
	}
	return err
}
