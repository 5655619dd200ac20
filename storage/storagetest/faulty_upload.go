package storagetest

import (
	"context"

	"github.com/walrecv/walrecv/storage"
)

// Create implements [storage.Creator], if the other Store does. It is a request, and
// so are each Write of its Upload and its Commit. Nothing goes wrong with an Abort.
func (f *Faulty) Create(ctx context.Context, key string) (storage.Upload, error) {
	var inner storage.Upload
	_, err := f.do(ctx, OpCreate, key, func() (err error) {
		inner, err = storage.Create(ctx, f.store, key)
		return err
	})
	if err != nil {
		if inner != nil {
			_ = inner.Abort() // as a writer that crashed is swept away
		}
		return nil, err
	}
	return &faultyUpload{faulty: f, ctx: ctx, key: key, inner: inner}, nil
}

type faultyUpload struct {
	faulty *Faulty
	ctx    context.Context
	key    string
	inner  storage.Upload
	err    error // the first one
}

func (u *faultyUpload) Write(p []byte) (n int, err error) {
	if u.err != nil {
		return 0, u.err
	}
	_, u.err = u.faulty.do(u.ctx, OpWrite, u.key, func() (err error) {
		n, err = u.inner.Write(p)
		return err
	})
	return n, u.err
}

func (u *faultyUpload) Commit() error {
	if u.err != nil {
		return u.err
	}
	_, u.err = u.faulty.do(u.ctx, OpCommit, u.key, func() error {
		err := u.inner.Commit()
		if err == nil {
			u.faulty.putDone(u.key)
		}
		return err
	})
	return u.err
}

func (u *faultyUpload) Abort() error { return u.inner.Abort() }
