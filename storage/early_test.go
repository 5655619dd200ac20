package storage_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/storagetest"
)

// slow is a Store whose requests take a second.
type slow struct {
	*storagetest.Mem
	open atomic.Int32 // bodies that are
}

func (s *slow) wait(ctx context.Context) error {
	select {
	case <-time.After(time.Second):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *slow) Open(ctx context.Context, key string) (io.ReadCloser, storage.Info, error) {
	if err := s.wait(ctx); err != nil {
		return nil, storage.Info{}, err
	}
	body, info, err := s.Mem.Open(ctx, key)
	if err != nil {
		return nil, info, err
	}
	s.open.Add(1)
	return &countedBody{body, s}, info, nil
}

type countedBody struct {
	io.ReadCloser
	store *slow
}

func (b *countedBody) Close() error {
	b.store.open.Add(-1)
	return b.ReadCloser.Close()
}

func (s *slow) List(ctx context.Context, prefix string, fn func(storage.Info) error) error {
	if err := s.wait(ctx); err != nil {
		return err
	}
	return s.Mem.List(ctx, prefix, fn)
}

// inSlow runs a test on a slow store with the objects a/1, a/2, b/1, and tells how many
// seconds it takes.
func inSlow(t *testing.T, seconds int, test func(t *testing.T, s *slow, e *storage.Early)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &slow{Mem: storagetest.NewMem()}
		for _, key := range []string{"a/1", "a/2", "b/1"} {
			s.Set(key, []byte("content of "+key))
		}
		e := storage.NewEarly(s)
		began := time.Now()
		test(t, s, e)
		if took := time.Since(began); took != time.Duration(seconds)*time.Second {
			t.Errorf("it takes %s, want %d s", took, seconds)
		}
		e.End()
		if n := s.open.Load(); n != 0 {
			t.Errorf("%d bodies were left open", n)
		}
	})
}

// content is that of a/1.
func content(t *testing.T, s storage.Store) string {
	t.Helper()
	body, _, err := s.Open(t.Context(), "a/1")
	if err != nil {
		t.Error(err)
		return ""
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	if err != nil {
		t.Error(err)
	}
	return string(data)
}

// listed are the keys of a listing up to one.
func listed(t *testing.T, s storage.Store, prefix, last string) (keys []string) {
	t.Helper()
	enough := errors.New("enough")
	err := s.List(t.Context(), prefix, func(info storage.Info) error {
		keys = append(keys, info.Key)
		if info.Key == last {
			return enough
		}
		return nil
	})
	if err != nil && !errors.Is(err, enough) {
		t.Error(err)
	}
	return keys
}

// TestEarlyTogether: what was begun takes as long as the longest of it, and answers once.
func TestEarlyTogether(t *testing.T) {
	inSlow(t, 1, func(t *testing.T, s *slow, e *storage.Early) {
		e.Begin(t.Context(), storage.OpenRequest("a/1"))
		e.Begin(t.Context(), storage.OpenRequest("c"))
		e.Begin(t.Context(), storage.ListRequest("a/"))
		e.Begin(t.Context(), storage.StatRequest("b/1"))
		if got := content(t, e); got != "content of a/1" {
			t.Error(got)
		}
		if _, _, err := e.Open(t.Context(), "c"); !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
		if got := listed(t, e, "a/", ""); !slices.Equal(got, []string{"a/1", "a/2"}) {
			t.Error(got)
		}
		if info, err := e.Stat(t.Context(), "b/1"); err != nil || info.Size != int64(len("content of b/1")) {
			t.Error(info, err)
		}
	})
	inSlow(t, 2, func(t *testing.T, s *slow, e *storage.Early) {
		e.Begin(t.Context(), storage.OpenRequest("a/1"))
		content(t, e)
		content(t, e) // made anew
	})
}

// TestEarlyOrder: what comes behind a listing begins when that has come to its end.
func TestEarlyOrder(t *testing.T) {
	inSlow(t, 2, func(t *testing.T, s *slow, e *storage.Early) {
		e.Begin(t.Context(), storage.ListRequest("a/"), storage.ListRequest("b/"))
		time.Sleep(time.Second)
		s.Set("b/2", nil)
		listed(t, e, "a/", "")
		if got := listed(t, e, "b/", ""); !slices.Equal(got, []string{"b/1", "b/2"}) {
			t.Error(got)
		}
	})
	inSlow(t, 3, func(t *testing.T, s *slow, e *storage.Early) {
		e.Begin(t.Context(), storage.ListRequest("a/"), storage.ListRequest("b/"))
		time.Sleep(2 * time.Second)
		s.Set("b/2", nil)
		listed(t, e, "a/", "a/1") // not to its end, so what is behind it is made anew
		if got := listed(t, e, "b/", ""); !slices.Equal(got, []string{"b/1", "b/2"}) {
			t.Error(got)
		}
	})
}

// TestEarlyAge: no answer is older than the last Begin of its request.
func TestEarlyAge(t *testing.T) {
	inSlow(t, 2, func(t *testing.T, s *slow, e *storage.Early) {
		e.Begin(t.Context(), storage.OpenRequest("a/1"))
		time.Sleep(time.Second)
		s.Set("a/1", []byte("new"))
		e.Begin(t.Context(), storage.OpenRequest("a/1"))
		if got := content(t, e); got != "new" {
			t.Error(got)
		}
	})
}

// TestEarlyGivesUp: who asks waits no longer than its own context lasts.
func TestEarlyGivesUp(t *testing.T) {
	inSlow(t, 0, func(t *testing.T, s *slow, e *storage.Early) {
		e.Begin(t.Context(), storage.OpenRequest("a/1"))
		e.Begin(t.Context(), storage.ListRequest("a/"))
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if _, _, err := e.Open(ended, "a/1"); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if err := e.List(ended, "a/", func(storage.Info) error { return nil }); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}
