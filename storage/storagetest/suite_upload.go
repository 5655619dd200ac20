package storagetest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/walrecv/walrecv/storage"
)

func create(t *testing.T, s storage.Store, key string) storage.Upload {
	t.Helper()
	u, err := storage.Create(t.Context(), s, key)
	if err != nil {
		t.Fatalf("create %s: %v", key, err)
	}
	t.Cleanup(func() { _ = u.Abort() })
	return u
}

// write writes data in pieces, from memory that it changes afterwards.
func write(t *testing.T, u storage.Upload, data []byte, piece int) {
	t.Helper()
	buf := make([]byte, piece)
	for len(data) > 0 {
		n := copy(buf, data)
		if got, err := u.Write(buf[:n]); got != n || err != nil {
			t.Fatalf("write of %d bytes: %d, %v", n, got, err)
		}
		clear(buf)
		data = data[n:]
	}
}

func testUploadSizes(t *testing.T, s storage.Store, part int) {
	for i, size := range []int{0, 1, 4096, part - 1, part, part + 1, 2*part + part/10} {
		key, data := fmt.Sprintf("uploads/%d", size), content(size, uint64(i))
		u := create(t, s, key)
		half := size / 2
		write(t, u, data[:half], 1+size/3)
		expectAbsent(t, s, key)
		if infos := list(t, s, key); len(infos) > 0 {
			t.Errorf("a list shows the upload: %v", infos)
		}
		write(t, u, data[half:], 100_000)
		expectAbsent(t, s, key)
		if err := u.Commit(); err != nil {
			t.Fatalf("commit %d bytes: %v", size, err)
		}
		expect(t, s, key, data)
		if err := u.Abort(); err != nil {
			t.Errorf("abort after a commit: %v", err)
		}
		expect(t, s, key, data)
		expectOver(t, u)
	}
}

// expectOver checks that nothing can be done any more with an upload.
func expectOver(t *testing.T, u storage.Upload) {
	t.Helper()
	if _, err := u.Write([]byte("more")); err == nil || isAnswer(err) {
		t.Errorf("a write when it is over: %v", err)
	}
	if err := u.Commit(); err == nil || isAnswer(err) {
		t.Errorf("a commit when it is over: %v", err)
	}
	if err := u.Abort(); err != nil {
		t.Errorf("an abort when it is over: %v", err)
	}
}

// testUploadTaken takes the key before an upload begins, and while it is under way.
func testUploadTaken(t *testing.T, s storage.Store, part int) {
	first, second := []byte("the first one"), content(part+part/5, 1)
	put(t, s, "dir/early", first)
	u, err := storage.Create(t.Context(), s, "dir/early")
	if err == nil {
		if _, err = u.Write(second); err == nil {
			err = u.Commit()
		}
		if err := u.Abort(); err != nil {
			t.Error(err)
		}
	}
	if !errors.Is(err, fs.ErrExist) {
		t.Errorf("upload to a taken key: %v, want fs.ErrExist", err)
	}
	expect(t, s, "dir/early", first)
	for _, size := range []int{10, len(second)} {
		key := fmt.Sprintf("dir/late-%d", size)
		u := create(t, s, key)
		write(t, u, second[:size], part/3)
		put(t, s, key, first)
		if err := u.Commit(); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%d bytes to a key that was taken meanwhile: %v, want fs.ErrExist", size, err)
		}
		if _, err := u.Write(first); err == nil {
			t.Error("a write succeeds after a commit that failed")
		}
		if err := u.Commit(); err == nil {
			t.Error("another commit succeeds after one that failed")
		}
		if err := u.Abort(); err != nil {
			t.Errorf("abort after a commit that failed: %v", err)
		}
		expect(t, s, key, first)
	}
}

func testUploadAbort(t *testing.T, s storage.Store, part int) {
	data := content(part+part/5, 2)
	for _, size := range []int{0, 1000, len(data)} {
		u := create(t, s, "dir/aborted")
		write(t, u, data[:size], part/3)
		if err := u.Abort(); err != nil {
			t.Errorf("abort after %d bytes: %v", size, err)
		}
		expectAbsent(t, s, "dir/aborted")
		expectOver(t, u)
	}
	expectAbsent(t, s, "dir/aborted")
	u := create(t, s, "dir/aborted")
	write(t, u, data, part/3)
	if err := u.Commit(); err != nil {
		t.Error(err)
	}
	expect(t, s, "dir/aborted", data)
}

// testUploadCancelled ends the context at every step. Nothing is left, and the
// answers say so.
func testUploadCancelled(t *testing.T, s storage.Store, part int) {
	data := content(part+part/5, 3)
	for _, step := range []string{"create", "write", "commit", "abort"} {
		key := "dir/" + step
		ctx, cancel := context.WithCancel(t.Context())
		end := func(at string) {
			if at == step {
				cancel()
			}
		}
		end("create")
		u, err := storage.Create(ctx, s, key)
		if err == nil {
			write(t, u, data[:1000], 1000)
			end("write")
			_, err = u.Write(data[1000:])
			end("commit")
			end("abort")
			if err == nil && step == "commit" {
				err = u.Commit()
			}
			if abortErr := u.Abort(); abortErr != nil {
				t.Errorf("%s: abort: %v", step, abortErr)
			}
			expectOver(t, u)
		}
		cancel()
		if step != "abort" && !errors.Is(err, context.Canceled) || isAnswer(err) {
			t.Errorf("cancelled before the %s: %v, want context.Canceled", step, err)
		}
		expectAbsent(t, s, key)
	}
}

// testRacingUploads has uploads and puts of one key end at the same moment.
func testRacingUploads(t *testing.T, s storage.Store, part int) {
	var wg sync.WaitGroup
	errs, start := make([]error, 8), make(chan struct{})
	for i := range errs {
		data := content((part+part/5)*(i%2)+20_000+i, uint64(i))
		if i%4 == 2 {
			wg.Go(func() {
				<-start
				errs[i] = s.Put(t.Context(), "new/race", storage.BytesSource(data))
			})
			continue
		}
		u := create(t, s, "new/race")
		write(t, u, data, part/3)
		wg.Go(func() {
			<-start
			errs[i] = u.Commit()
		})
	}
	close(start)
	wg.Wait()
	winner := -1
	for i, err := range errs {
		switch {
		case err == nil && winner >= 0:
			t.Errorf("%d and %d both won", winner, i)
		case err == nil:
			winner = i
		case !errors.Is(err, fs.ErrExist):
			t.Errorf("upload %d: %v, want fs.ErrExist", i, err)
		}
	}
	if winner < 0 {
		t.Fatal("nobody won")
	}
	expect(t, s, "new/race", content((part+part/5)*(winner%2)+20_000+winner, uint64(winner)))
}

// testConcurrentUploads writes several objects at a time, in random pieces.
func testConcurrentUploads(t *testing.T, s storage.Store, part int) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	var wg sync.WaitGroup
	for w := range uint64(4) {
		key, data := fmt.Sprintf("many/%d", w), content(part+int(w)*part/2, w)
		u := create(t, s, key)
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, w))
			for rest := data; len(rest) > 0; {
				n := min(len(rest), r.IntN(part))
				if _, err := u.Write(rest[:n]); err != nil {
					t.Error(err)
					return
				}
				rest = rest[n:]
			}
			if err := u.Commit(); err != nil {
				t.Error(err)
			}
			expect(t, s, key, data)
		})
	}
	wg.Wait()
}

// testModified wants a time that fits from who knows any.
func testModified(t *testing.T, s storage.Store, part int) {
	const apart = 2 * time.Second // some tell seconds only
	begin := time.Now()
	put(t, s, "dir/put", []byte("x"))
	u := create(t, s, "dir/upload")
	write(t, u, content(part+part/5, 4), part/3)
	if err := u.Commit(); err != nil {
		t.Fatal(err)
	}
	end := time.Now()
	for _, info := range list(t, s, "dir/") {
		if m := info.Modified; m.IsZero() {
			continue
		}
		if m := info.Modified; m.Before(begin.Add(-apart)) || m.After(end.Add(apart)) || m.Location() != time.UTC {
			t.Errorf("%s was written at %v, it is said, between %v and %v", info.Key, m, begin, end)
		}
		for name, ask := range map[string]func() (storage.Info, error){
			"stat": func() (storage.Info, error) { return s.Stat(t.Context(), info.Key) },
			"head": func() (storage.Info, error) {
				_, got, err := storage.ReadHead(t.Context(), s, info.Key, 1)
				return got, err
			},
		} {
			got, err := ask()
			if err != nil || !got.Modified.IsZero() && !got.Modified.Equal(info.Modified) {
				t.Errorf("%s: %+v, %v; the list has %v", name, got, err, info.Modified)
			}
		}
	}
}
