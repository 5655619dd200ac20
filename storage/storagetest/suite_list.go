package storagetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/walrecv/walrecv/storage"
)

// testListOrder lists random keys of few characters, among them those that sort
// below and above the slash, with random prefixes.
func testListOrder(t *testing.T, s storage.Store) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	keys := []string{"a-b", "a/b", "a.b", "a+b", "a0", "a=", "A", "a/b-c/d", "a/b.c", "a-/x", "a/c/d/e"}
	for range 150 {
		if key := randomKey(r); storage.CheckKey(key) == nil && !slices.ContainsFunc(keys, func(other string) bool {
			return key == other || strings.HasPrefix(key, other+"/") || strings.HasPrefix(other, key+"/")
		}) {
			keys = append(keys, key)
		}
	}
	// "a/b" is a directory and an object; the object goes.
	keys = slices.DeleteFunc(keys, func(key string) bool {
		return slices.ContainsFunc(keys, func(other string) bool { return strings.HasPrefix(other, key+"/") })
	})
	sizes := map[string]int{}
	for _, key := range keys {
		sizes[key] = r.IntN(50)
		put(t, s, key, content(sizes[key], seed))
	}
	slices.Sort(keys)
	for i := range 200 {
		prefix := ""
		if i > 0 {
			key := keys[r.IntN(len(keys))]
			prefix = key[:r.IntN(len(key)+1)] + []string{"", "", "a", "-"}[r.IntN(4)]
		}
		var want []storage.Info
		for _, key := range keys {
			if strings.HasPrefix(key, prefix) {
				want = append(want, storage.Info{Key: key, Size: int64(sizes[key])})
			}
		}
		if blocked(keys, prefix) {
			continue
		}
		if got := list(t, s, prefix); !slices.EqualFunc(got, want, same) {
			t.Fatalf("list %q:\n%v, want\n%v", prefix, got, want)
		}
	}
}

// blocked reports whether an object is where a prefix has a directory: a store
// may not be able to tell.
func blocked(keys []string, prefix string) bool {
	return slices.ContainsFunc(keys, func(key string) bool { return strings.HasPrefix(prefix, key+"/") })
}

func randomKey(r *rand.Rand) string {
	const alphabet = "ab-.0A//"
	key := make([]byte, 1+r.IntN(7))
	for i := range key {
		key[i] = alphabet[r.IntN(len(alphabet))]
	}
	return string(key)
}

func testListMany(t *testing.T, s storage.Store, page int) {
	n := 2*page + page/10 // more than two pages
	var keys []string
	for i := range n {
		keys = append(keys, fmt.Sprintf("many/%d/%08X", i%2, i*i))
	}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := w; i < n; i += 8 {
				if err := s.Put(t.Context(), keys[i], storage.BytesSource(nil)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	slices.Sort(keys)
	for _, prefix := range []string{"", "m", "many/", "many/1", "many/1/", "many/1/000"} {
		want := slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return !strings.HasPrefix(key, prefix) })
		var got []string
		for _, info := range list(t, s, prefix) {
			got = append(got, info.Key)
		}
		if len(want) == 0 || !slices.Equal(got, want) {
			t.Errorf("list %q: %d keys, want %d", prefix, len(got), len(want))
		}
	}
}

func putABC(t *testing.T, s storage.Store) {
	t.Helper()
	for _, key := range []string{"d/a", "d/b/x", "d/c"} {
		put(t, s, key, []byte(key))
	}
}

func testListError(t *testing.T, s storage.Store) {
	putABC(t, s)
	for n := 1; n <= 3; n++ {
		stop := errors.New("stop")
		calls := 0
		err := s.List(t.Context(), "d/", func(storage.Info) error {
			calls++
			if calls == n {
				return stop
			}
			return nil
		})
		if err != stop || calls != n {
			t.Errorf("fn fails at call %d: list returns %v after %d calls", n, err, calls)
		}
	}
}

func testListCancelled(t *testing.T, s storage.Store) {
	putABC(t, s)
	for n := 1; n <= 2; n++ {
		ctx, cancel := context.WithCancel(t.Context())
		calls := 0
		err := s.List(ctx, "", func(storage.Info) error {
			if calls++; calls == n {
				cancel()
			}
			return nil
		})
		cancel()
		if !errors.Is(err, context.Canceled) || calls != n {
			t.Errorf("cancelled in call %d: list returns %v after %d calls", n, err, calls)
		}
	}
}

// testListReenters uses the store from within a listing.
func testListReenters(t *testing.T, s storage.Store) {
	putABC(t, s)
	var keys []string
	err := s.List(t.Context(), "d", func(info storage.Info) error {
		keys = append(keys, info.Key)
		expect(t, s, info.Key, []byte(info.Key))
		put(t, s, "copy/"+info.Key, nil)
		return nil
	})
	if want := []string{"d/a", "d/b/x", "d/c"}; err != nil || !slices.Equal(keys, want) {
		t.Errorf("list: %v, %v; want %v", keys, err, want)
	}
	if n := len(list(t, s, "copy/")); n != 3 {
		t.Errorf("%d objects were put while listing, want 3", n)
	}
}

// testListFrom begins at every key, and at others around them.
func testListFrom(t *testing.T, s storage.Store) {
	keys := []string{"a-b/c", "a/b-c", "a/b.c", "a/b/c", "a/b/d", "a/c", "a/c-/d", "b/c"}
	for _, key := range keys {
		put(t, s, key, nil)
	}
	slices.Sort(keys)
	from := []string{"", "0", "a", "a-", "a-b/", "a/", "a/b/", "a/b/cc", "a/b/e", "a/b0", "a/c/", "b/", "c", "~"}
	for _, from := range append(from, keys...) {
		for _, prefix := range []string{"", "a", "a/", "a/b", "a/b/", "a/c-/", "c/"} {
			var got []string
			err := storage.ListFrom(t.Context(), s, prefix, from, func(info storage.Info) error {
				got = append(got, info.Key)
				return nil
			})
			want := slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return !strings.HasPrefix(key, prefix) || key < from })
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("list %q from %q: %q, %v; want %q", prefix, from, got, err, want)
			}
		}
	}
	stop := errors.New("stop")
	calls := 0
	if err := storage.ListFrom(t.Context(), s, "a/", "a/b/", func(storage.Info) error { calls++; return stop }); err != stop || calls != 1 {
		t.Errorf("fn fails: %v after %d calls", err, calls)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := storage.ListFrom(ctx, s, "", "", func(storage.Info) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v", err)
	}
}

// testListDirs wants the directories that a listing of everything would show.
func testListDirs(t *testing.T, s storage.Store) {
	for _, key := range []string{"a/b/c", "a/b/d", "a/b-/e", "a/f", "a-b/c/d", "a.b", "z/y/x", "0/1"} {
		put(t, s, key, nil)
	}
	for prefix, want := range map[string][]string{
		"": {"0", "a-b", "a", "z"}, "a/": {"b-", "b"}, "a/b/": nil, "z/": {"y"}, "b/": nil, "nowhere/at/all/": nil,
	} {
		var names []string
		err := storage.ListDirs(t.Context(), s, prefix, func(name string) error {
			names = append(names, name)
			return nil
		})
		if err != nil || !slices.Equal(names, want) {
			t.Errorf("directories below %q: %v, %v; want %v", prefix, names, err, want)
		}
	}
	stop := errors.New("stop")
	if err := storage.ListDirs(t.Context(), s, "", func(string) error { return stop }); err != stop {
		t.Errorf("fn fails: %v", err)
	}
	for _, prefix := range []string{"a", "../", "/", "a//"} {
		if err := storage.ListDirs(t.Context(), s, prefix, func(string) error { return nil }); err == nil || isAnswer(err) {
			t.Errorf("directories below %q: %v", prefix, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := storage.ListDirs(ctx, s, "", func(string) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v", err)
	}
}
