package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/walrecv/walrecv/internal/archive"
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

// anchor holds on to an archive that has been opened, or is being made.
func anchor(store storage.Store, id archive.Identity) storage.Store {
	return &anchored{store, archive.Object{System: id.SystemID, Kind: archive.KindIdentity}.Key()}
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
	putErr := s.Store.Put(ctx, key, src)
	if putErr == nil || errors.Is(putErr, fs.ErrExist) {
		if err := s.holds(ctx); err != nil {
			return err
		}
	}
	return putErr
}

// List implements storage.Store.
func (s *anchored) List(ctx context.Context, prefix string, fn func(storage.Info) error) error {
	if err := s.holds(ctx); err != nil {
		return err
	}
	return s.Store.List(ctx, prefix, fn)
}

// holds fails if the identity is not there or cannot be seen.
func (s *anchored) holds(ctx context.Context) error {
	_, err := s.Stat(ctx, s.key)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the archive has lost its %s: is its disk still mounted?", s.key)
	}
	return err
}
