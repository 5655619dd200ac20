// Package storagetest is for tests: the conformance suite that every
// [storage.Store] has to pass, a Store in memory, and one that fails on demand.
package storagetest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"testing"

	"github.com/walrecv/walrecv/storage"
)

// Run checks every sentence of the contract of [storage.Store], and of
// [storage.Deleter] and [storage.Creator] if the store is one. newStore returns an empty store.
func Run(t *testing.T, newStore func(t *testing.T) storage.Store) {
	RunLimited(t, Limits{Page: 1000, Part: 256 << 10}, newStore)
}

// Limits are those that a store divides its work at.
type Limits struct {
	Page int // keys in one answer to a List
	Part int // bytes of an upload that are sent at a time
}

// RunLimited is Run for a store with other limits than most.
func RunLimited(t *testing.T, limits Limits, newStore func(t *testing.T) storage.Store) {
	part := limits.Part
	upload := func(test func(*testing.T, storage.Store, int)) func(*testing.T, storage.Store) {
		return func(t *testing.T, s storage.Store) { test(t, s, part) }
	}
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
		{"ListMany", func(t *testing.T, s storage.Store) { testListMany(t, s, limits.Page) }},
		{"ListError", testListError},
		{"ListCancelled", testListCancelled},
		{"ListReenters", testListReenters},
		{"ListFrom", testListFrom},
		{"ListDirs", testListDirs},
		{"Ends", testEnds},
		{"Concurrent", testConcurrent},
		{"Delete", testDelete},
		{"UploadSizes", upload(testUploadSizes)},
		{"UploadTaken", upload(testUploadTaken)},
		{"UploadAbort", upload(testUploadAbort)},
		{"UploadCancelled", upload(testUploadCancelled)},
		{"RacingUploads", upload(testRacingUploads)},
		{"ConcurrentUploads", upload(testConcurrentUploads)},
		{"Modified", upload(testModified)},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, newStore(t)) })
	}
}

// content returns n bytes that differ for every seed.
func content(n int, seed uint64) []byte {
	data := make([]byte, n)
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	binary.LittleEndian.PutUint64(key[8:], uint64(n))
	_, _ = rand.NewChaCha8(key).Read(data) // never fails
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
	if info, err := s.Stat(t.Context(), key); err != nil || !same(info, want) {
		t.Errorf("stat %s: %+v, %v; want %+v", key, info, err, want)
	}
	body, info, err := s.Open(t.Context(), key)
	if err != nil {
		t.Errorf("open %s: %v", key, err)
		return
	}
	defer body.Close()
	if !same(info, want) {
		t.Errorf("open %s: %+v, want %+v", key, info, want)
	}
	got, err := io.ReadAll(body)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("open %s: %d bytes, %v; want %d other ones or no error", key, len(got), err, len(data))
	}
	found := false
	err = s.List(t.Context(), key, func(info storage.Info) error {
		found = found || same(info, want)
		return nil
	})
	if err != nil || !found {
		t.Errorf("list %s: found %v, %v", key, found, err)
	}
}

// same leaves out when an object was written.
func same(got, want storage.Info) bool { return got.Key == want.Key && got.Size == want.Size }

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
	if _, ok := s.(storage.Creator); ok {
		m["create"] = func(ctx context.Context, key string) error {
			u, err := storage.Create(ctx, s, key)
			if err == nil {
				err = u.Abort()
			}
			return err
		}
	}
	return m
}
