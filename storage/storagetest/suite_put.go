package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"testing"

	"github.com/walrecv/walrecv/storage"
)

func testSizes(t *testing.T, s storage.Store) {
	for i, size := range []int{0, 1, 511, 4096, 256<<10 - 1, 256 << 10, 256<<10 + 1, 5<<20 + 17} {
		key, data := fmt.Sprintf("sizes/%d", size), content(size, uint64(i))
		src := newSource(data)
		if err := s.Put(t.Context(), key, src); err != nil {
			t.Fatalf("put %d bytes: %v", size, err)
		}
		if src.leaks() {
			t.Errorf("%d bytes: %d readers were opened, %d closed", size, src.opens.Load(), src.closes.Load())
		}
		expect(t, s, key, data)
	}
}

func testCreateOnly(t *testing.T, s storage.Store) {
	first := []byte("the first one")
	put(t, s, "dir/key", first)
	for _, second := range []string{"the first one", "another one", "", "one that is longer than the first one"} {
		src := newSource([]byte(second))
		if err := s.Put(t.Context(), "dir/key", src); !errors.Is(err, fs.ErrExist) {
			t.Errorf("put of a taken key: %v, want fs.ErrExist", err)
		}
		if src.leaks() {
			t.Error("put of a taken key leaves a reader open")
		}
		expect(t, s, "dir/key", first)
	}
}

func testRacingPuts(t *testing.T, s storage.Store) {
	for round := range 5 {
		key := fmt.Sprintf("new-%d/race", round)
		var wg sync.WaitGroup
		errs := make([]error, 16)
		start := make(chan struct{})
		for i := range errs {
			wg.Go(func() {
				<-start
				errs[i] = s.Put(t.Context(), key, storage.BytesSource(content(20_000+i, uint64(i))))
			})
		}
		close(start)
		wg.Wait()
		winner := -1
		for i, err := range errs {
			switch {
			case err == nil && winner >= 0:
				t.Errorf("round %d: %d and %d both won", round, winner, i)
			case err == nil:
				winner = i
			case !errors.Is(err, fs.ErrExist):
				t.Errorf("round %d: put %d: %v, want fs.ErrExist", round, i, err)
			}
		}
		if winner < 0 {
			t.Fatalf("round %d: nobody won", round)
		}
		expect(t, s, key, content(20_000+winner, uint64(winner)))
	}
}

func testFailingSources(t *testing.T, s storage.Store) {
	data := content(600_000, 1)
	broken := errors.New("broken")
	failing := func(err error) *source {
		src := newSource(data)
		src.hook = func(_ int, done int64) error {
			if done > 300_000 {
				return err
			}
			return nil
		}
		return src
	}
	short, long, negative := newSource(data), newSource(data), newSource(nil)
	short.size++
	long.size--
	negative.size = -1
	for name, test := range map[string]struct {
		src  *source
		want error // in the chain
	}{
		"broken":            {failing(broken), broken},
		"not there":         {failing(fs.ErrNotExist), nil},
		"there":             {failing(fs.ErrExist), nil},
		"unexpected EOF":    {failing(io.ErrUnexpectedEOF), io.ErrUnexpectedEOF},
		"EOF too early":     {failing(io.EOF), nil},
		"not opened":        {&source{size: 3, openErr: broken}, broken},
		"nothing to open":   {&source{size: 3, openErr: fs.ErrNotExist}, nil},
		"one byte too few":  {short, nil},
		"one byte too many": {long, nil},
		"a negative size":   {negative, nil},
	} {
		err := s.Put(t.Context(), "failing/key", test.src)
		if err == nil || isAnswer(err) || test.want != nil && !errors.Is(err, test.want) {
			t.Errorf("source with %s: put returns %v", name, err)
		}
		if test.src.leaks() {
			t.Errorf("source with %s: a reader is left open", name)
		}
		expectAbsent(t, s, "failing/key")
	}
	if left := list(t, s, ""); len(left) > 0 {
		t.Errorf("failed puts leave %v", left)
	}
	put(t, s, "failing/key", data)
	expect(t, s, "failing/key", data)
}

// testSourceIsReadAgain has two puts of one source, the first of which fails
// in the middle.
func testSourceIsReadAgain(t *testing.T, s storage.Store) {
	data := content(300_000, 2)
	src := newSource(data)
	src.hook = func(open int, done int64) error {
		if open == 1 && done > 100_000 {
			return ErrInjected
		}
		return nil
	}
	if err := s.Put(t.Context(), "again", src); !errors.Is(err, ErrInjected) {
		t.Errorf("first put: %v", err)
	}
	if err := s.Put(t.Context(), "again", src); err != nil {
		t.Errorf("second put: %v", err)
	}
	if src.leaks() {
		t.Error("a reader is left open")
	}
	expect(t, s, "again", data)
}

// testNoPartIsSeen looks at the store before each read of a source.
func testNoPartIsSeen(t *testing.T, s storage.Store) {
	data := content(2_000_000, 3)
	src := newSource(data)
	looks := 0
	src.hook = func(int, int64) error {
		looks++
		expectAbsent(t, s, "dir/half")
		if infos := list(t, s, ""); len(infos) > 0 {
			t.Errorf("list shows %v", infos)
		}
		return nil
	}
	if err := s.Put(t.Context(), "dir/half", src); err != nil {
		t.Fatal(err)
	}
	if looks < 7 {
		t.Errorf("looked %d times only", looks)
	}
	expect(t, s, "dir/half", data)
}

// testCancelledPut ends the context while the source is read. What the put
// leaves behind may be there or not, but never a part.
func testCancelledPut(t *testing.T, s storage.Store) {
	data := content(1_000_000, 4)
	for i, at := range []int64{0, 500_000, 1_000_000} {
		key := fmt.Sprintf("cancelled/%d", i)
		ctx, cancel := context.WithCancel(t.Context())
		src := newSource(data)
		src.hook = func(_ int, done int64) error {
			if done >= at {
				cancel()
			}
			return nil
		}
		err := s.Put(ctx, key, src)
		cancel()
		if src.leaks() {
			t.Errorf("cancelled at %d: a reader is left open", at)
		}
		switch {
		case err == nil && at == int64(len(data)): // it was all there
			expect(t, s, key, data)
			continue
		case !errors.Is(err, context.Canceled):
			t.Errorf("cancelled at %d: %v, want context.Canceled", at, err)
		}
		if whole, err := wholeOrAbsent(t, s, key, data); err != nil {
			t.Errorf("cancelled at %d: whole %v, %v", at, whole, err)
		}
	}
}

func wholeOrAbsent(t *testing.T, s storage.Store, key string, data []byte) (whole bool, err error) {
	t.Helper()
	body, _, err := s.Open(t.Context(), key)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer body.Close()
	got, err := io.ReadAll(body)
	if err == nil && !bytes.Equal(got, data) {
		err = fmt.Errorf("%d bytes, not those that were put", len(got))
	}
	return true, err
}

func testConcurrent(t *testing.T, s storage.Store) {
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 12 {
				key := fmt.Sprintf("concurrent/%d/%d-%d", i%3, w, i)
				data := content(1000*i+w, uint64(w))
				if err := s.Put(t.Context(), key, storage.BytesSource(data)); err != nil {
					t.Errorf("put %s: %v", key, err)
					return
				}
				expect(t, s, key, data)
			}
		})
	}
	wg.Wait()
	if n := len(list(t, s, "concurrent/")); n != 8*12 {
		t.Errorf("%d objects, want %d", n, 8*12)
	}
}

func testDelete(t *testing.T, s storage.Store) {
	deleter, ok := s.(storage.Deleter)
	if !ok {
		return
	}
	put(t, s, "dir/one", []byte("1"))
	put(t, s, "dir/two", []byte("2"))
	for _, key := range []string{"dir/one", "dir/one", "dir/three", "nowhere/one", "dir"} {
		if err := deleter.Delete(t.Context(), key); err != nil {
			t.Errorf("delete %s: %v", key, err)
		}
	}
	expectAbsent(t, s, "dir/one")
	expect(t, s, "dir/two", []byte("2"))
	put(t, s, "dir/one", []byte("a new one"))
	expect(t, s, "dir/one", []byte("a new one"))
}
