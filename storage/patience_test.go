package storage_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/storagetest"
)

func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		outer, cancelOuter := storage.WithPatience(t.Context(), 3*time.Minute)
		defer cancelOuter()
		inner, cancel := storage.WithPatience(outer, time.Minute)
		defer cancel()
		child, cancelChild := context.WithCancel(inner)
		defer cancelChild()
		for range 100 {
			time.Sleep(50 * time.Second)
			storage.Moved(child, 1)
		}
		if err := child.Err(); err != nil {
			t.Fatalf("ended after %v although something moved: %v", time.Since(began), err)
		}
		quiet := time.Now()
		<-child.Done()
		if d := time.Since(quiet); d < time.Minute || d > 2*time.Minute {
			t.Errorf("ended after %v without a byte", d)
		}
		if err := inner.Err(); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(context.Cause(child), context.DeadlineExceeded) {
			t.Errorf("%v, %v", err, context.Cause(child))
		}
		if err := outer.Err(); err != nil {
			t.Errorf("the outer one: %v", err)
		}
		<-outer.Done()
		if d := time.Since(quiet); d < 3*time.Minute || d > 6*time.Minute {
			t.Errorf("the outer one ended after %v", d)
		}
	})
}

func TestPatienceIsNotAskedFor(t *testing.T) {
	storage.Moved(t.Context(), 1)
	parent, end := context.WithCancel(t.Context())
	ctx, cancel := storage.WithPatience(parent, time.Hour)
	defer cancel()
	end()
	if err := ctx.Err(); !errors.Is(err, context.Canceled) {
		t.Errorf("the parent has ended: %v", err)
	}
}

// crawling is a Store whose content moves a little at a time.
type crawling struct{ *storagetest.Mem }

func (c crawling) Put(ctx context.Context, key string, src storage.Source) error {
	r, err := src.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	if _, err := io.Copy(io.Discard, crawl{ctx, r}); err != nil {
		return err
	}
	return c.Mem.Put(ctx, key, src)
}

func (c crawling) Open(ctx context.Context, key string) (io.ReadCloser, storage.Info, error) {
	body, info, err := c.Mem.Open(ctx, key)
	if err != nil {
		return nil, info, err
	}
	return struct {
		io.Reader
		io.Closer
	}{crawl{ctx, body}, body}, info, nil
}

// crawl gives a thousand bytes in a minute.
type crawl struct {
	ctx context.Context
	r   io.Reader
}

func (c crawl) Read(p []byte) (int, error) {
	select {
	case <-time.After(time.Minute):
		return c.r.Read(p[:min(1000, len(p))])
	case <-c.ctx.Done():
		return 0, c.ctx.Err()
	}
}

// A store that is slow is waited for as long as it gets on.
func TestPatienceWithASlowStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storage.WithDeadline(crawling{storagetest.NewMem()})
		data := bytes.Repeat([]byte("content "), 10_000)
		for limit, want := range map[time.Duration]error{90 * time.Second: nil, 20 * time.Second: context.DeadlineExceeded} {
			ctx, cancel := storage.WithPatience(t.Context(), limit)
			key := limit.String()
			if err := s.Put(ctx, key, storage.BytesSource(data)); !errors.Is(err, want) {
				t.Errorf("put with %v: %v, want %v", limit, err, want)
			}
			cancel()
		}
		for limit, want := range map[time.Duration]error{90 * time.Second: nil, 20 * time.Second: context.DeadlineExceeded} {
			ctx, cancel := storage.WithPatience(t.Context(), limit)
			body, _, err := s.Open(ctx, "1m30s")
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(body); !errors.Is(err, want) || err == nil && !bytes.Equal(got, data) {
				t.Errorf("read with %v: %d bytes, %v, want %v", limit, len(got), err, want)
			}
			body.Close()
			cancel()
		}
	})
}
