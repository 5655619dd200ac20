package storage

import (
	"context"
	"fmt"
	"time"
)

// abortTime is how long an Abort is waited for, whatever has become of the context:
// what has to be thrown away is thrown away because that has ended, mostly.
const abortTime = 10 * time.Second

// Create implements [Creator], if the Store below does.
func (d deadline) Create(ctx context.Context, key string) (Upload, error) {
	inner, err := wait(ctx, "put "+key, func() (Upload, error) { return Create(ctx, d.store, key) },
		func(u Upload) { _ = u.Abort() }) // nobody is there to hear of an error
	if err != nil {
		return nil, err
	}
	return &deadlineUpload{ctx: ctx, key: key, inner: inner, calls: make(chan struct{}, 1)}, nil
}

// deadlineUpload bounds the waiting for an Upload by the context of its Create. The
// store never sees the caller's memory: it gets buffers of ours, and one that it was
// given up with is never used again.
type deadlineUpload struct {
	ctx   context.Context
	key   string
	inner Upload

	calls chan struct{} // of capacity 1, full during every call to inner, given up or not
	err   error         // the first one
	over  bool
}

func (u *deadlineUpload) Write(p []byte) (int, error) {
	total := 0
	for total < len(p) {
		n, err := u.write(p[total:])
		total += n
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// write passes on the beginning of p.
func (u *deadlineUpload) write(p []byte) (int, error) {
	type result struct {
		n   int
		err error // of the write
	}
	if err := u.usable(); err != nil {
		return 0, err
	}
	buf := bodyBuffers.Get().(*[bodyBuffer]byte)
	n := copy(buf[:], p)
	r, err := wait(u.ctx, "put "+u.key, func() (result, error) {
		u.calls <- struct{}{}
		defer func() { <-u.calls }()
		n, err := u.inner.Write(buf[:n])
		return result{n, err}, nil
	}, nil)
	if err != nil {
		u.err = err // buf stays with the write that was given up
		return 0, err
	}
	bodyBuffers.Put(buf)
	Moved(u.ctx, r.n)
	u.err = r.err
	return r.n, r.err
}

func (u *deadlineUpload) Commit() error {
	if err := u.usable(); err != nil {
		return err
	}
	_, err := wait(u.ctx, "put "+u.key, func() (struct{}, error) {
		u.calls <- struct{}{}
		defer func() { <-u.calls }()
		return struct{}{}, u.inner.Commit()
	}, nil)
	u.over, u.err = err == nil, err
	return err
}

// usable is the error of a call to an Upload that is over, or was given up.
func (u *deadlineUpload) usable() error {
	if u.over {
		return fmt.Errorf("put %s: %w", u.key, errUploadOver)
	}
	if u.err == nil && u.ctx.Err() != nil {
		u.err = gaveUp(u.ctx, "put "+u.key)
	}
	return u.err
}

// Abort comes after the call to the store that was given up, if there is one.
func (u *deadlineUpload) Abort() error {
	if u.over {
		return nil
	}
	u.over = true
	ctx, cancel := context.WithTimeout(context.WithoutCancel(u.ctx), abortTime)
	defer cancel()
	_, err := wait(ctx, "abort "+u.key, func() (struct{}, error) {
		u.calls <- struct{}{}
		defer func() { <-u.calls }()
		return struct{}{}, u.inner.Abort()
	}, nil)
	return err
}
