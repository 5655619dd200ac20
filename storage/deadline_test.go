package storage_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/storagetest"
)

// stuck is a Store that can be made to hang, whatever its contexts say: before
// each call in the store, in the reads of a body, and in its Close.
type stuck struct {
	*storagetest.Mem
	began  chan string   // tells what hangs now
	let    chan struct{} // lets one call go, or all once it is closed
	hangs  atomic.Bool
	closed atomic.Int32 // bodies
}

func newStuck() *stuck {
	return &stuck{Mem: storagetest.NewMem(), began: make(chan string, 100), let: make(chan struct{})}
}

// hang returns once the store lets go.
func (s *stuck) hang(what string) {
	if s.hangs.Load() {
		s.began <- what
		<-s.let
	}
}

// release lets everything go and waits until nothing of it is left.
func (s *stuck) release(t *testing.T) {
	t.Helper()
	s.hangs.Store(false)
	close(s.let)
	goleak.VerifyNone(t)
}

func (s *stuck) Put(ctx context.Context, key string, src storage.Source) error {
	s.hang("put")
	return s.Mem.Put(context.WithoutCancel(ctx), key, src)
}

func (s *stuck) Open(ctx context.Context, key string) (io.ReadCloser, storage.Info, error) {
	s.hang("open")
	body, info, err := s.Mem.Open(context.WithoutCancel(ctx), key)
	return &stuckBody{body, body.(io.ReaderAt), s}, info, err
}

func (s *stuck) Stat(ctx context.Context, key string) (storage.Info, error) {
	s.hang("stat")
	return s.Mem.Stat(context.WithoutCancel(ctx), key)
}

func (s *stuck) List(ctx context.Context, prefix string, fn func(storage.Info) error) error {
	s.hang("list")
	return s.Mem.List(context.WithoutCancel(ctx), prefix, fn)
}

func (s *stuck) Delete(ctx context.Context, key string) error {
	s.hang("delete")
	return s.Mem.Delete(context.WithoutCancel(ctx), key)
}

type stuckBody struct {
	inner io.ReadCloser
	at    io.ReaderAt
	store *stuck
}

func (b *stuckBody) Read(p []byte) (int, error) {
	b.store.hang("read")
	return b.inner.Read(p)
}

func (b *stuckBody) ReadAt(p []byte, off int64) (int, error) {
	b.store.hang("read at")
	return b.at.ReadAt(p, off)
}

func (b *stuckBody) Close() error {
	b.store.hang("close")
	b.store.closed.Add(1)
	return b.inner.Close()
}

// giveUp makes a call, ends its context once the store hangs in it, and checks
// that the call then returns with a clear error.
func giveUp(t *testing.T, s *stuck, what string, cancel context.CancelFunc, call func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- call() }()
	if began := <-s.began; began != what {
		t.Fatalf("the store hangs in %s, want %s", began, what)
	}
	select {
	case err := <-done:
		t.Fatalf("%s returns %v while the store hangs", what, err)
	default:
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("%s: %v, want context.Canceled", what, err)
	}
}

func TestDeadlineOfCalls(t *testing.T) {
	data := []byte("content")
	for what, call := range map[string]func(context.Context, storage.Store) error{
		"put": func(ctx context.Context, s storage.Store) error {
			return s.Put(ctx, "new", storage.BytesSource(data))
		},
		"open": func(ctx context.Context, s storage.Store) error {
			body, info, err := s.Open(ctx, "key")
			if body != nil || info != (storage.Info{}) {
				t.Errorf("open returns %v and %v beside its error", body, info)
			}
			return err
		},
		"stat": func(ctx context.Context, s storage.Store) error { _, err := s.Stat(ctx, "key"); return err },
		"list": func(ctx context.Context, s storage.Store) error {
			return s.List(ctx, "", func(info storage.Info) error {
				t.Errorf("list calls fn with %v", info)
				return nil
			})
		},
		"delete": func(ctx context.Context, s storage.Store) error { return s.(storage.Deleter).Delete(ctx, "key") },
	} {
		inner := newStuck()
		inner.Set("key", data)
		inner.hangs.Store(true)
		ctx, cancel := context.WithCancel(t.Context())
		giveUp(t, inner, what, cancel, func() error { return call(ctx, storage.WithDeadline(inner)) })
		// A call after the end does not reach the store any more.
		if err := call(ctx, storage.WithDeadline(inner)); !errors.Is(err, context.Canceled) {
			t.Errorf("%s with an ended context: %v", what, err)
		}
		if len(inner.began) > 0 {
			t.Errorf("%s with an ended context reaches the store", what)
		}
		inner.release(t)
		if _, there := inner.Get("new"); there {
			t.Errorf("%s: the object came after the put was given up, with a source that is not the store's any more", what)
		}
	}
}

// TestLateBodyIsClosed: the body of an Open that was given up is nobody's.
func TestLateBodyIsClosed(t *testing.T) {
	inner := newStuck()
	inner.Set("key", []byte("content"))
	inner.hangs.Store(true)
	ctx, cancel := context.WithCancel(t.Context())
	giveUp(t, inner, "open", cancel, func() error {
		_, _, err := storage.WithDeadline(inner).Open(ctx, "key")
		return err
	})
	inner.let <- struct{}{} // the open goes on
	if next := <-inner.began; next != "close" {
		t.Errorf("the store sees a %s", next)
	}
	inner.release(t)
	if n := inner.closed.Load(); n != 1 {
		t.Errorf("the body was closed %d times", n)
	}
}

func TestDeadlineOfBodies(t *testing.T) {
	data := bytes.Repeat([]byte("content "), 100_000)
	for what, read := range map[string]func(io.ReadCloser, []byte) error{
		"read":    func(body io.ReadCloser, p []byte) error { _, err := body.Read(p); return err },
		"read at": func(body io.ReadCloser, p []byte) error { _, err := body.(io.ReaderAt).ReadAt(p, 5); return err },
		"close":   func(body io.ReadCloser, _ []byte) error { return body.Close() },
	} {
		inner := newStuck()
		inner.Set("key", data)
		ctx, cancel := context.WithCancel(t.Context())
		body, _, err := storage.WithDeadline(inner).Open(ctx, "key")
		if err != nil {
			t.Fatal(err)
		}
		head := make([]byte, 1000)
		if _, err := io.ReadFull(body, head); err != nil || !bytes.Equal(head, data[:1000]) {
			t.Fatalf("%s: %v", what, err)
		}
		inner.hangs.Store(true)
		// With the race detector this also shows that nothing writes to mine.
		mine := bytes.Repeat([]byte{'x'}, len(data))
		giveUp(t, inner, what, cancel, func() error { return read(body, mine) })
		if what != "close" {
			if err := read(body, mine); !errors.Is(err, context.Canceled) {
				t.Errorf("another %s after the end: %v", what, err)
			}
			if err := body.Close(); !errors.Is(err, context.Canceled) {
				t.Errorf("close after a %s that was given up: %v", what, err)
			}
		}
		inner.release(t)
		if !bytes.Equal(mine, bytes.Repeat([]byte{'x'}, len(data))) {
			t.Errorf("a %s that was given up has changed memory of the caller", what)
		}
	}
}

// slowSource is a Source whose reads can be made to wait.
type slowSource struct {
	reading, let chan struct{}
	inRead       atomic.Bool
	opens        atomic.Int32
	closes       atomic.Int32
}

func (s *slowSource) Size() int64 { return 3 }
func (s *slowSource) Open() (io.ReadSeekCloser, error) {
	s.opens.Add(1)
	return &slowReader{bytes.NewReader([]byte("abc")), s}, nil
}

type slowReader struct {
	*bytes.Reader
	source *slowSource
}

func (r *slowReader) Read(p []byte) (int, error) {
	r.source.inRead.Store(true)
	r.source.reading <- struct{}{}
	<-r.source.let
	n, err := r.Reader.Read(p)
	r.source.inRead.Store(false)
	return n, err
}

func (r *slowReader) Close() error {
	r.source.closes.Add(1)
	return nil
}

// TestDeadlineGivesSourceBack: when a Put has returned, the source is not being
// read, and its readers are closed.
func TestDeadlineGivesSourceBack(t *testing.T) {
	inner := newStuck()
	src := &slowSource{reading: make(chan struct{}, 10), let: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-src.reading
		cancel()
		close(src.let)
	}()
	err := storage.WithDeadline(inner).Put(ctx, "key", src)
	if src.inRead.Load() {
		t.Error("the source is still being read")
	}
	if src.opens.Load() != 1 || src.closes.Load() != 1 {
		t.Errorf("%d readers were opened, %d closed", src.opens.Load(), src.closes.Load())
	}
	inner.release(t)
	if src.opens.Load() != 1 || src.closes.Load() != 1 || len(src.reading) > 1 {
		t.Error("the source was used after its put")
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if data, there := inner.Get("key"); there && string(data) != "abc" {
		t.Errorf("the object is %q", data)
	}
}

// halfway is a Store whose Put hangs after it has read one byte, and then goes
// on with the source.
type halfway struct {
	*stuck
	after chan afterPut
}

// afterPut is what a source answers after its Put was given up.
type afterPut struct{ read, seek, close, open error }

func (h *halfway) Put(_ context.Context, _ string, src storage.Source) error {
	r, err := src.Open()
	if err != nil {
		return err
	}
	p := make([]byte, 1)
	if _, err := r.Read(p); err != nil {
		return err
	}
	h.hang("put")
	var after afterPut
	_, after.read = r.Read(p)
	_, after.seek = r.Seek(0, io.SeekStart)
	after.close = r.Close()
	_, after.open = src.Open()
	h.after <- after
	return nil
}

// TestDeadlineShutsSource: a Put that was given up cannot use its source.
func TestDeadlineShutsSource(t *testing.T) {
	inner := &halfway{stuck: newStuck(), after: make(chan afterPut, 1)}
	inner.hangs.Store(true)
	ctx, cancel := context.WithCancel(t.Context())
	giveUp(t, inner.stuck, "put", cancel, func() error {
		return storage.WithDeadline(inner).Put(ctx, "key", storage.BytesSource([]byte("abc")))
	})
	inner.release(t)
	if a := <-inner.after; a.read == nil || a.seek == nil || a.open == nil || a.close != nil {
		t.Errorf("after the put: %+v", a)
	}
}

// TestDeadlineOfListing ends a listing in the middle, in several ways.
func TestDeadlineOfListing(t *testing.T) {
	inner := newStuck()
	for i := range 500 {
		inner.Set(fmt.Sprintf("key-%03d", i), nil)
	}
	s := storage.WithDeadline(inner)
	func() {
		defer func() {
			if recover() != "fn panics" {
				t.Error("the panic of fn is lost")
			}
		}()
		_ = s.List(t.Context(), "", func(storage.Info) error { panic("fn panics") })
	}()
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	err := s.List(ctx, "", func(storage.Info) error {
		if calls++; calls == 250 {
			cancel()
		}
		return nil
	})
	if calls != 250 || !errors.Is(err, context.Canceled) {
		t.Errorf("list calls fn %d times after its context ended at 250, and returns %v", calls, err)
	}
	inner.release(t)
}

// onlyStore hides every other ability of a Store.
type onlyStore struct{ storage.Store }

// TestDeadlineAbilities: the decorator can do what the store can, and no more.
func TestDeadlineAbilities(t *testing.T) {
	mem := storagetest.NewMem()
	if _, ok := storage.WithDeadline(mem).(storage.Deleter); !ok {
		t.Error("a Deleter loses its Delete")
	}
	if _, ok := storage.WithDeadline(onlyStore{mem}).(storage.Deleter); ok {
		t.Error("a Store that is no Deleter gets a Delete")
	}
	for _, sequential := range []bool{false, true} {
		mem := storagetest.NewMem()
		mem.Sequential = sequential
		mem.Set("key", []byte("content"))
		body, _, err := storage.WithDeadline(mem).Open(t.Context(), "key")
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := body.(io.ReaderAt); ok == sequential {
			t.Errorf("sequential %v, and ReaderAt %v", sequential, ok)
		}
		if err := body.Close(); err != nil {
			t.Error(err)
		}
	}
}
