package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/storage"
)

// Create implements [storage.Creator]. What is written goes into a scratch file in
// the directory of the object.
func (s *Store) Create(ctx context.Context, key string) (storage.Upload, error) {
	scratch, f, err := s.begin(ctx, key)
	if err != nil {
		return nil, err
	}
	return &upload{store: s, ctx: ctx, key: key, scratch: scratch, file: f}, nil
}

// upload is an object that is being written.
type upload struct {
	store   *Store
	ctx     context.Context
	key     string
	scratch string
	file    vfs.File // nil once it is over
	size    int64    // bytes written
	err     error    // the first one of a Write
}

var errOver = errors.New("the upload is over")

func (u *upload) Write(p []byte) (int, error) {
	if err := u.usable(); err != nil {
		return 0, err
	}
	n, err := u.file.WriteAt(p, u.size)
	u.size += int64(n)
	if err != nil {
		u.err = u.store.failed("put "+u.key, err)
	}
	return n, u.err
}

// usable is the error of a call for which there is nothing to be done.
func (u *upload) usable() error {
	if u.file == nil {
		return fmt.Errorf("put %s: %w", u.key, errOver)
	}
	if err := u.ctx.Err(); err != nil && u.err == nil {
		u.err = fmt.Errorf("put %s: %w", u.key, err)
	}
	return u.err
}

// Commit syncs the file and links it to its name.
func (u *upload) Commit() error {
	if err := u.usable(); err != nil {
		return err
	}
	f := u.file
	u.file = nil
	defer f.Close() // all that counts was synced
	return u.store.publish(u.key, u.scratch, f)
}

func (u *upload) Abort() error {
	if u.file == nil {
		return nil
	}
	u.file.Close() // nothing of it counts
	u.file = nil
	if err := u.store.fsys.Remove(u.scratch); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return u.store.failed("abort "+u.key, err)
	}
	return nil
}
