package storage_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"testing"
	"testing/synctest"
	"time"

	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/storagetest"
)

// stuckUpload is an upload of a store that can be made to hang.
type stuckUpload struct {
	storage.Upload
	store *stuck
}

func (s *stuck) Create(ctx context.Context, key string) (storage.Upload, error) {
	s.hang("create")
	u, err := s.Mem.Create(context.WithoutCancel(ctx), key)
	return &stuckUpload{u, s}, err
}

func (u *stuckUpload) Write(p []byte) (int, error) {
	u.store.hang("write")
	return u.Upload.Write(p)
}

func (u *stuckUpload) Commit() error {
	u.store.hang("commit")
	return u.Upload.Commit()
}

func (u *stuckUpload) Abort() error {
	u.store.began <- "abort"
	return u.Upload.Abort()
}

// TestDeadlineOfUploads: every call returns once the context has ended, nothing of
// the caller's memory is used after that, and what is left behind is thrown away.
func TestDeadlineOfUploads(t *testing.T) {
	for _, what := range []string{"create", "write", "commit"} {
		inner := newStuck()
		ctx, cancel := context.WithCancel(t.Context())
		mine := bytes.Repeat([]byte("mine"), 200_000)
		var u storage.Upload
		if what != "create" {
			var err error
			if u, err = storage.Create(ctx, storage.WithDeadline(inner), "key"); err != nil {
				t.Fatal(err)
			}
		}
		inner.hangs.Store(true)
		giveUp(t, inner, what, cancel, func() (err error) {
			switch what {
			case "create":
				_, err = storage.Create(ctx, storage.WithDeadline(inner), "key")
			case "write":
				_, err = u.Write(mine)
			case "commit":
				err = u.Commit()
			}
			return err
		})
		clear(mine) // with the race detector: nobody reads it
		if what == "write" {
			if err := u.Commit(); !errors.Is(err, context.Canceled) {
				t.Errorf("commit after a write that was given up: %v", err)
			}
		}
		inner.release(t)
		if u != nil {
			if err := u.Abort(); err != nil {
				t.Errorf("abort after a %s that was given up: %v", what, err)
			}
		}
		if len(inner.began) != 1 {
			t.Errorf("%s was given up, and what was left of it is thrown away %d times", what, len(inner.began))
		}
		if _, there := inner.Get("key"); there != (what == "commit") {
			t.Errorf("%s was given up, and the object is there: %v", what, there)
		}
	}
}

// TestAbortIsBounded: a store that does not even let go of a write is left alone.
func TestAbortIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := newStuck()
		ctx, cancel := context.WithCancel(t.Context())
		u, err := storage.Create(ctx, storage.WithDeadline(inner), "key")
		if err != nil {
			t.Fatal(err)
		}
		inner.hangs.Store(true)
		giveUp(t, inner, "write", cancel, func() error { _, err := u.Write([]byte("x")); return err })
		began := time.Now()
		if err := u.Abort(); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 15*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		close(inner.let)
	})
}

// TestPatienceWithUploads: what is written slowly is not given up.
func TestPatienceWithUploads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = time.Minute
		ctx, cancel := storage.WithPatience(t.Context(), limit)
		defer cancel()
		u, err := storage.Create(ctx, storage.WithDeadline(storagetest.NewMem()), "key")
		if err != nil {
			t.Fatal(err)
		}
		for range 10 {
			time.Sleep(limit - time.Second)
			if n, err := u.Write([]byte("slowly")); n != 6 || err != nil {
				t.Fatal(n, err)
			}
		}
		time.Sleep(2 * limit)
		if err := u.Commit(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after a long time without anything: %v", err)
		}
	})
}

// TestMeterTellsOfUploads: an upload is one put, told of at its end.
func TestMeterTellsOfUploads(t *testing.T) {
	injected := storagetest.Fault{Before: storagetest.ErrInjected}
	for name, test := range map[string]struct {
		fails  int  // the request that does; 0: none
		commit bool // else it is aborted
		want   []string
	}{
		"committed":     {0, true, []string{"put <nil>"}},
		"aborted":       {0, false, nil},
		"not created":   {1, true, []string{"put injected fault"}},
		"write fails":   {2, false, []string{"put injected fault"}},
		"fails, commit": {2, true, []string{"put injected fault"}},
		"commit fails":  {3, true, []string{"put injected fault"}},
	} {
		s, told := meterOf(storagetest.NewFaulty(storagetest.NewMem(), storagetest.FailAt(test.fails, injected)))
		u, err := storage.Create(t.Context(), s, "key")
		if err == nil {
			_, err = u.Write([]byte("content"))
			expectTold(t, name+": so far", told)
			if test.commit {
				err = u.Commit()
			}
			if err := u.Abort(); err != nil {
				t.Errorf("%s: abort: %v", name, err)
			}
		}
		if (err != nil) != (test.fails > 0) {
			t.Errorf("%s: %v", name, err)
		}
		expectTold(t, name, told, test.want...)
	}
}

// TestCreateUnsupported: a store that cannot do it says so, and nothing else.
func TestCreateUnsupported(t *testing.T) {
	plain := onlyStore{storagetest.NewMem()}
	for _, s := range []storage.Store{plain, storage.WithDeadline(plain), storage.WithMeter(plain, func(storage.Op, error) {})} {
		_, err := storage.Create(t.Context(), s, "key")
		if !errors.Is(err, errors.ErrUnsupported) || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%T: %v", s, err)
		}
	}
}
