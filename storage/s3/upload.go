package s3

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/walrecv/walrecv/storage"
)

// Create implements [storage.Creator]. What fits in one part is one PutObject, made
// by Commit. What is larger is a multipart upload: while one part is filled, others
// are on their way, held in memory until the store has them. That is 8 MiB for each
// upload, and 24 MiB for all uploads of a Store; for one of more than 8 GiB it is up
// to a 250th of the object.
//
// A part that fails is tried again for minutes: nobody has its bytes any more.
func (s *Store) Create(ctx context.Context, key string) (storage.Upload, error) {
	if err := check(ctx, "put "+key, key); err != nil {
		return nil, err
	}
	return &upload{store: s, ctx: ctx, key: key}, nil
}

// upload is an object that is being written.
type upload struct {
	store *Store
	ctx   context.Context
	key   string
	parts *parts // nil until one part was full
	data  []byte // of the part that is filled; nil before the first byte
	err   error  // the first one
	over  bool
}

var errOver = errors.New("the upload is over")

func (u *upload) Write(p []byte) (int, error) {
	total := 0
	for total < len(p) {
		if err := u.makeRoom(); err != nil {
			return total, u.fail(err)
		}
		n := min(cap(u.data)-len(u.data), len(p)-total)
		u.data = append(u.data, p[total:total+n]...)
		total += n
	}
	return total, u.usable()
}

// makeRoom sees to it that another byte fits: a part that is full goes only when it
// is known not to be the whole object.
func (u *upload) makeRoom() (err error) {
	if err := u.usable(); err != nil {
		return err
	}
	if u.data == nil {
		u.data = u.store.buffer()
		return nil
	}
	if len(u.data) < cap(u.data) {
		return nil
	}
	if u.parts == nil {
		if u.parts, err = u.store.newParts(u.ctx, u.key); err != nil {
			return err
		}
	}
	full := u.data
	u.data = nil
	if err := u.parts.send(full); err != nil {
		return err
	}
	u.data = u.parts.buffer()
	return nil
}

// usable is the error of a call for which there is nothing to be done.
func (u *upload) usable() error {
	if u.over {
		return fmt.Errorf("put %s: %w", u.key, errOver)
	}
	if u.err == nil {
		u.err = ended(u.ctx, "put "+u.key)
	}
	return u.err
}

func (u *upload) fail(err error) error {
	if u.err == nil && !u.over {
		u.err = err
	}
	return err
}

func (u *upload) Commit() error {
	err := u.usable()
	if err == nil {
		err = u.commit()
	}
	if err != nil {
		return u.fail(err)
	}
	u.over = true
	u.release()
	return nil
}

func (u *upload) commit() error {
	if u.parts == nil {
		return u.store.putWhole(u.ctx, u.key, u.data)
	}
	last := u.data
	u.data = nil
	if err := u.parts.send(last); err != nil {
		return err
	}
	return u.parts.complete()
}

// abortTime is how long an Abort takes at most.
const abortTime = 8 * time.Second

func (u *upload) Abort() error {
	if u.over {
		return nil
	}
	u.over = true
	defer u.release()
	if u.parts == nil {
		return nil // nothing of it has left this host
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(u.ctx), abortTime)
	defer cancel()
	return u.parts.abort(ctx)
}

// release gives the memory back.
func (u *upload) release() {
	u.store.recycle(u.data)
	u.data = nil
}

// putWhole puts an object that fits in one part.
func (s *Store) putWhole(ctx context.Context, key string, data []byte) error {
	if s.options.Unsafe {
		if err := s.free(ctx, key); err != nil {
			return err
		}
	}
	whole := finished{size: int64(len(data)), sum: s.sum(data)}
	return s.unlessOurs(ctx, key, []finished{whole}, func(ctx context.Context) error {
		return s.putFree(ctx, key, partSource{ctx, data})
	})
}

// free is nil if there is no object under a key, and fs.ErrExist if there is one.
func (s *Store) free(ctx context.Context, key string) error {
	_, err := s.Stat(ctx, key)
	switch {
	case err == nil:
		return &fs.PathError{Op: "put", Path: key, Err: fs.ErrExist}
	case errors.Is(err, fs.ErrNotExist):
		return nil
	}
	return err
}
