package storage

import "context"

// Create implements [Creator], if the Store below does. It counts as one put, which
// ends with the Upload: the error told is the first one of it. An Upload that is
// aborted without one was given up by its user, and is not told of.
func (m metered) Create(ctx context.Context, key string) (Upload, error) {
	inner, err := Create(ctx, m.store, key)
	if err != nil {
		m.tell(OpPut, err)
		return nil, err
	}
	return &meteredUpload{inner: inner, tell: m.tell}, nil
}

type meteredUpload struct {
	inner Upload
	tell  func(Op, error) // nil once it was told
	err   error           // the first one
}

func (u *meteredUpload) Write(p []byte) (int, error) {
	n, err := u.inner.Write(p)
	if u.err == nil {
		u.err = err
	}
	return n, err
}

func (u *meteredUpload) Commit() error {
	err := u.inner.Commit()
	if u.err == nil {
		u.err = err
	}
	u.over(true)
	return err
}

func (u *meteredUpload) Abort() error {
	err := u.inner.Abort()
	u.over(u.err != nil)
	return err
}

func (u *meteredUpload) over(tell bool) {
	if tell && u.tell != nil {
		u.tell(OpPut, u.err)
	}
	u.tell = nil
}
