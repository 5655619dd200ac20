package archive

import (
	"context"
	"errors"
	"io/fs"

	"github.com/walrecv/walrecv/storage"
)

// Create implements [storage.Creator], if the Store below does. The identity is
// looked for where a Put does it.
func (s *anchored) Create(ctx context.Context, key string) (storage.Upload, error) {
	if err := s.holds(ctx); err != nil {
		return nil, err
	}
	u, err := storage.Create(ctx, s.Store, key)
	if err != nil {
		return nil, s.unlessGone(ctx, err)
	}
	return &anchoredUpload{u, ctx, s}, nil
}

type anchoredUpload struct {
	storage.Upload
	ctx   context.Context
	store *anchored
}

// Commit implements storage.Upload.
func (u *anchoredUpload) Commit() error { return u.store.unlessGone(u.ctx, u.Upload.Commit()) }

// unlessGone keeps what was written, or was found there, from being confirmed where
// the identity is not.
func (s *anchored) unlessGone(ctx context.Context, putErr error) error {
	if putErr == nil || errors.Is(putErr, fs.ErrExist) {
		if err := s.holds(ctx); err != nil {
			return err
		}
	}
	return putErr
}
