package storagetest_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"runtime"
	"slices"
	"testing"

	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/storagetest"
)

// newPair returns a store with two objects, and a Faulty on it whose first
// request goes wrong.
func newPair(t *testing.T, fault storagetest.Fault) (*storagetest.Mem, *storagetest.Faulty) {
	t.Helper()
	mem := storagetest.NewMem()
	mem.Set("one", []byte("first"))
	mem.Set("two", []byte("second"))
	return mem, storagetest.NewFaulty(mem, storagetest.FailAt(1, fault))
}

// requests has one of each kind, and whether it has had its effect on mem, or
// on what it was called with.
func requests(s storage.Store) map[string]func(context.Context) (effect bool, err error) {
	return map[string]func(context.Context) (bool, error){
		"put": func(ctx context.Context) (bool, error) {
			err := s.Put(ctx, "new", storage.BytesSource([]byte("third")))
			return false, err
		},
		"delete": func(ctx context.Context) (bool, error) {
			return false, s.(storage.Deleter).Delete(ctx, "one")
		},
		"open": func(ctx context.Context) (bool, error) {
			body, info, err := s.Open(ctx, "one")
			return body != nil || info.Key != "", err
		},
		"stat": func(ctx context.Context) (bool, error) {
			info, err := s.Stat(ctx, "one")
			return info.Key != "", err
		},
		"list": func(ctx context.Context) (shown bool, err error) {
			err = s.List(ctx, "", func(storage.Info) error { shown = true; return nil })
			return shown, err
		},
	}
}

func TestFaultyFails(t *testing.T) {
	changes := map[string][]string{"put": {"new", "one", "two"}, "delete": {"two"}}
	for name, test := range map[string]struct {
		fault storagetest.Fault
		want  error
		after bool
	}{
		"before":     {storagetest.Fault{Before: storagetest.ErrInjected}, storagetest.ErrInjected, false},
		"after":      {storagetest.Fault{After: storagetest.ErrInjected}, storagetest.ErrInjected, true},
		"hang":       {storagetest.Fault{Hang: true}, context.Canceled, false},
		"hang after": {storagetest.Fault{HangAfter: true}, context.Canceled, true},
	} {
		for kind := range requests(nil) {
			mem, faulty := newPair(t, test.fault)
			ctx, cancel := context.WithCancel(t.Context())
			if test.want == context.Canceled && !test.after {
				cancel()
			}
			type result struct {
				effect bool
				err    error
			}
			done := make(chan result)
			go func() {
				effect, err := requests(faulty)[kind](ctx)
				done <- result{effect, err}
			}()
			if test.fault.HangAfter {
				awaitEffect(t, mem, faulty, kind)
				cancel()
			}
			r := <-done
			cancel()
			if !errors.Is(r.err, test.want) {
				t.Errorf("%s %s: %v, want %v", kind, name, r.err, test.want)
			}
			// How far a List got before the context ended cannot be awaited.
			open := kind == "list" && test.fault.HangAfter
			if !open && r.effect != (test.after && kind == "list") {
				t.Errorf("%s %s: returns something beside its error: %v", kind, name, r.effect)
			}
			want := []string{"one", "two"}
			if changed, ok := changes[kind]; ok && test.after {
				want = changed
			}
			if keys := mem.Keys(); !slices.Equal(keys, want) {
				t.Errorf("%s %s: leaves %v, want %v", kind, name, keys, want)
			}
			if faulty.Fired() != 1 || faulty.Requests() != 1 {
				t.Errorf("%s %s: %d faults in %d requests", kind, name, faulty.Fired(), faulty.Requests())
			}
			if _, err := requests(faulty)[kind](t.Context()); errors.Is(err, test.want) {
				t.Errorf("%s %s: the next request fails, too", kind, name)
			}
		}
	}
}

// awaitEffect waits until a request that changes the store has done so.
func awaitEffect(t *testing.T, mem *storagetest.Mem, faulty *storagetest.Faulty, kind string) {
	t.Helper()
	for {
		_, isPut := mem.Get("new")
		_, notDeleted := mem.Get("one")
		switch {
		case kind == "put" && isPut, kind == "delete" && !notDeleted:
			return
		case kind != "put" && kind != "delete" && faulty.Requests() == 1:
			return
		}
		runtime.Gosched()
	}
}

func TestFaultyBodies(t *testing.T) {
	for name, test := range map[string]struct {
		cut  storagetest.Cut
		want error
	}{
		"early EOF":      {storagetest.Cut{At: 3, Err: io.EOF}, nil},
		"unexpected EOF": {storagetest.Cut{At: 3, Err: io.ErrUnexpectedEOF}, io.ErrUnexpectedEOF},
		"broken":         {storagetest.Cut{At: 3, Err: storagetest.ErrInjected}, storagetest.ErrInjected},
		"hang":           {storagetest.Cut{At: 3, Hang: true}, context.Canceled},
	} {
		_, faulty := newPair(t, storagetest.Fault{Cut: &test.cut})
		ctx, cancel := context.WithCancel(t.Context())
		body, info, err := faulty.Open(ctx, "two")
		if err != nil || info.Size != 6 {
			t.Fatalf("%s: %+v, %v", name, info, err)
		}
		at := body.(io.ReaderAt)
		p := make([]byte, 2)
		if _, err := at.ReadAt(p, 1); err != nil || string(p) != "ec" {
			t.Errorf("%s: ReadAt before the cut: %q, %v", name, p, err)
		}
		head := make([]byte, 3)
		if _, err := io.ReadFull(body, head); err != nil || string(head) != "sec" {
			t.Errorf("%s: %q, %v", name, head, err)
		}
		if test.cut.Hang {
			cancel()
		}
		if n, err := at.ReadAt(p, 2); n > 1 || err == nil || test.want != nil && !errors.Is(err, test.want) {
			t.Errorf("%s: ReadAt across the cut: %d, %v", name, n, err)
		}
		if rest, err := io.ReadAll(body); len(rest) > 0 || !errors.Is(err, test.want) {
			t.Errorf("%s: after the cut: %q, %v", name, rest, err)
		}
		cancel()
		body.Close()
		body, _, err = faulty.Open(t.Context(), "two")
		if err != nil {
			t.Fatal(err)
		}
		if all, err := io.ReadAll(body); string(all) != "second" || err != nil {
			t.Errorf("%s: the next body: %q, %v", name, all, err)
		}
	}
}

func TestFaultyStaleList(t *testing.T) {
	mem := storagetest.NewMem()
	stale := 0
	faulty := storagetest.NewFaulty(mem, func(r storagetest.Request) storagetest.Fault {
		if r.Op == storagetest.OpList {
			return storagetest.Fault{Stale: stale}
		}
		return storagetest.Fault{}
	})
	for _, key := range []string{"c", "a", "b"} {
		if err := faulty.Put(t.Context(), key, storage.BytesSource(nil)); err != nil {
			t.Fatal(err)
		}
	}
	for n, want := range [][]string{{"a", "b", "c"}, {"a", "c"}, {"c"}, nil, nil} {
		stale = n
		var keys []string
		err := faulty.List(t.Context(), "", func(info storage.Info) error {
			keys = append(keys, info.Key)
			return nil
		})
		if err != nil || !slices.Equal(keys, want) {
			t.Errorf("stale by %d: %v, %v; want %v", n, keys, err, want)
		}
	}
}

// TestFaultySweep is how a sweep over all requests is written.
func TestFaultySweep(t *testing.T) {
	var seen []storagetest.Request
	for k := 1; ; k++ {
		mem := storagetest.NewMem()
		fail := storagetest.FailAt(k, storagetest.Fault{After: storagetest.ErrInjected})
		faulty := storagetest.NewFaulty(mem, func(r storagetest.Request) storagetest.Fault {
			if r.N == k {
				seen = append(seen, r)
			}
			return fail(r)
		})
		_, statErr := faulty.Stat(t.Context(), "key")
		putErr := faulty.Put(t.Context(), "key", storage.BytesSource(nil))
		if faulty.Fired() == 0 {
			break
		}
		if errors.Is(statErr, fs.ErrNotExist) != (k != 1) || errors.Is(putErr, storagetest.ErrInjected) != (k == 2) {
			t.Errorf("fault %d: stat %v, put %v", k, statErr, putErr)
		}
	}
	want := []storagetest.Request{{N: 1, Op: storagetest.OpStat, Key: "key"}, {N: 2, Op: storagetest.OpPut, Key: "key"}}
	if !slices.Equal(seen, want) {
		t.Errorf("requests %v, want %v", seen, want)
	}
}

// TestSetDamages: an object that was opened before keeps its bytes.
func TestSetDamages(t *testing.T) {
	mem := storagetest.NewMem()
	data := []byte("content")
	mem.Set("key", data)
	body, _, err := mem.Open(t.Context(), "key")
	if err != nil {
		t.Fatal(err)
	}
	data[0] = 'X'
	mem.Set("key", data)
	if old, err := io.ReadAll(body); string(old) != "content" || err != nil {
		t.Errorf("the body gives %q, %v", old, err)
	}
	if now, ok := mem.Get("key"); !ok || string(now) != "Xontent" {
		t.Errorf("the object is %q", now)
	}
}
