// Package storagetest is for tests: the conformance suite that every
// [storage.Store] has to pass, a Store in memory, and one that fails on demand.
package storagetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"testing"

	"github.com/walrecv/walrecv/storage"
)

// Run checks every sentence of the contract of [storage.Store], and of
// [storage.Deleter] if the store is one. newStore returns an empty store.
func Run(t *testing.T, newStore func(t *testing.T) storage.Store) {
	RunPaged(t, 1000, newStore)
}

// RunPaged is Run for a store that lists so many keys at a time.
func RunPaged(t *testing.T, page int, newStore func(t *testing.T) storage.Store) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, storage.Store)
	}{
		{"Sizes", testSizes},
		{"CreateOnly", testCreateOnly},
		{"RacingPuts", testRacingPuts},
		{"FailingSources", testFailingSources},
		{"SourceIsReadAgain", testSourceIsReadAgain},
		{"NoPartIsSeen", testNoPartIsSeen},
		{"CancelledPut", testCancelledPut},
		{"Absent", testAbsent},
		{"Body", testBody},
		{"BodyContext", testBodyContext},
		{"Cancelled", testCancelled},
		{"OddKeys", testOddKeys},
		{"RefusedKeys", testRefusedKeys},
		{"KeyAndDirectory", testKeyAndDirectory},
		{"ListOrder", testListOrder},
		{"ListMany", func(t *testing.T, s storage.Store) { testListMany(t, s, page) }},
		{"ListError", testListError},
		{"ListCancelled", testListCancelled},
		{"ListReenters", testListReenters},
		{"ListFrom", testListFrom},
		{"ListDirs", testListDirs},
		{"Ends", testEnds},
		{"Concurrent", testConcurrent},
		{"Delete", testDelete},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, newStore(t)) })
	}
}

// content returns n bytes that differ for every seed.
func content(n int, seed uint64) []byte {
	data := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, uint64(n)))
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	return data
}

func put(t *testing.T, s storage.Store, key string, data []byte) {
	t.Helper()
	if err := s.Put(t.Context(), key, storage.BytesSource(data)); err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
}

// expect checks that Open, Stat and List all tell of an object, with these
// bytes.
func expect(t *testing.T, s storage.Store, key string, data []byte) {
	t.Helper()
	want := storage.Info{Key: key, Size: int64(len(data))}
	if info, err := s.Stat(t.Context(), key); err != nil || info != want {
		t.Errorf("stat %s: %+v, %v; want %+v", key, info, err, want)
	}
	body, info, err := s.Open(t.Context(), key)
	if err != nil {
		t.Errorf("open %s: %v", key, err)
		return
	}
	defer body.Close()
	if info != want {
		t.Errorf("open %s: %+v, want %+v", key, info, want)
	}
	got, err := io.ReadAll(body)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("open %s: %d bytes, %v; want %d other ones or no error", key, len(got), err, len(data))
	}
	found := false
	err = s.List(t.Context(), key, func(info storage.Info) error {
		found = found || info == want
		return nil
	})
	if err != nil || !found {
		t.Errorf("list %s: found %v, %v", key, found, err)
	}
}

// expectAbsent checks that neither Open nor Stat nor List tell of an object.
func expectAbsent(t *testing.T, s storage.Store, key string) {
	t.Helper()
	if info, err := s.Stat(t.Context(), key); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("stat %s: %+v, %v; want fs.ErrNotExist", key, info, err)
	}
	if body, _, err := s.Open(t.Context(), key); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open %s: %v, want fs.ErrNotExist", key, err)
		if err == nil {
			body.Close()
		}
	}
	for _, got := range list(t, s, key) {
		if got.Key == key {
			t.Errorf("list %s: shows it", key)
		}
	}
}

func list(t *testing.T, s storage.Store, prefix string) []storage.Info {
	t.Helper()
	var infos []storage.Info
	err := s.List(t.Context(), prefix, func(info storage.Info) error {
		infos = append(infos, info)
		return nil
	})
	if err != nil {
		t.Errorf("list %q: %v", prefix, err)
	}
	return infos
}

// isAnswer reports whether an error says something about an object.
func isAnswer(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist)
}

// calls has one call of each method that takes a key.
func calls(s storage.Store) map[string]func(ctx context.Context, key string) error {
	m := map[string]func(ctx context.Context, key string) error{
		"put": func(ctx context.Context, key string) error {
			return s.Put(ctx, key, storage.BytesSource([]byte("new")))
		},
		"open": func(ctx context.Context, key string) error {
			body, _, err := s.Open(ctx, key)
			if err == nil {
				body.Close()
			}
			return err
		},
		"stat": func(ctx context.Context, key string) error {
			_, err := s.Stat(ctx, key)
			return err
		},
	}
	if deleter, ok := s.(storage.Deleter); ok {
		m["delete"] = deleter.Delete
	}
	return m
}
