package storagetest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/walrecv/walrecv/storage"
)

// Create implements [storage.Creator].
func (m *Mem) Create(ctx context.Context, key string) (storage.Upload, error) {
	if err := check(ctx, key); err != nil {
		return nil, err
	}
	if _, taken := m.Get(key); taken {
		return nil, &fs.PathError{Op: "put", Path: key, Err: fs.ErrExist}
	}
	return &memUpload{ctx: ctx, store: m, key: key}, nil
}

type memUpload struct {
	ctx   context.Context
	store *Mem
	key   string
	data  []byte
	err   error // what ended it
}

var errOver = errors.New("the upload is over")

func (u *memUpload) Write(p []byte) (int, error) {
	if err := u.usable(); err != nil {
		return 0, err
	}
	u.data = append(u.data, p...)
	return len(p), nil
}

func (u *memUpload) usable() error {
	if err := u.ctx.Err(); err != nil && u.err == nil {
		u.err = fmt.Errorf("put %s: %w", u.key, err)
	}
	return u.err
}

func (u *memUpload) Commit() error {
	err := u.usable()
	u.err = errOver
	if err != nil {
		return err
	}
	return u.store.add(u.key, u.data)
}

func (u *memUpload) Abort() error {
	u.err = errOver
	return nil
}
