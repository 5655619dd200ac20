package local_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/walrecv/walrecv/internal/vfs"
	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/local"
)

// onlyStore hides the abilities of a store that are optional.
type onlyStore struct{ storage.Store }

func dirs(ctx context.Context, t *testing.T, s storage.Store, prefix string) []string {
	t.Helper()
	var names []string
	err := storage.ListDirs(ctx, s, prefix, func(name string) error {
		names = append(names, name)
		return nil
	})
	if err != nil {
		t.Fatalf("%q: %v", prefix, err)
	}
	return names
}

// The directories are those that a listing of everything would show.
func TestListDirsIsAListing(t *testing.T) {
	disk := vfs.NewMem()
	if err := disk.Mkdir("/root", 0o700); err != nil {
		t.Fatal(err)
	}
	s := local.New(disk, "/root", local.Private)
	for _, key := range []string{"a/b/c", "a/b/d", "a/e", "a-b/f/g", "a.b", "z/y/x/w", "0/1"} {
		if err := s.Put(t.Context(), key, storage.BytesSource([]byte(key))); err != nil {
			t.Fatal(err)
		}
	}
	if err := disk.Mkdir("/root/lost+found", 0o700); err != nil {
		t.Fatal(err)
	}
	for prefix, want := range map[string][]string{
		"": {"0", "a-b", "a", "z"}, "a/": {"b"}, "a-b/": {"f"}, "a-b/f/": nil, "z/": {"y"}, "nothing/": nil, "a/nothing/": nil,
	} {
		if got := dirs(t.Context(), t, s, prefix); !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", prefix, got, want)
		}
		if got := dirs(t.Context(), t, onlyStore{s}, prefix); !slices.Equal(got, want) {
			t.Errorf("%q, by listing everything: %v, want %v", prefix, got, want)
		}
		if got := dirs(t.Context(), t, storage.WithDeadline(s), prefix); !slices.Equal(got, want) {
			t.Errorf("%q, with a deadline: %v, want %v", prefix, got, want)
		}
	}
}

func TestListDirsFails(t *testing.T) {
	disk := vfs.NewMem()
	s := local.New(disk, "/root", local.Private)
	never := func(string) error { t.Error("a directory was named"); return nil }
	if err := storage.ListDirs(t.Context(), s, "", never); !errors.Is(err, storage.ErrNoRoot) {
		t.Errorf("without a root: %v", err)
	}
	if err := disk.Mkdir("/root", 0o700); err != nil {
		t.Fatal(err)
	}
	for _, prefix := range []string{"a", "/", "../", "a//"} {
		if err := s.ListDirs(t.Context(), prefix, never); err == nil {
			t.Errorf("%q was taken for a prefix", prefix)
		}
		if err := storage.ListDirs(t.Context(), onlyStore{s}, prefix, never); err == nil {
			t.Errorf("%q was taken for a prefix of a listing", prefix)
		}
	}
	if err := s.Put(t.Context(), "a/b", storage.BytesSource(nil)); err != nil {
		t.Fatal(err)
	}
	enough := errors.New("enough")
	for _, store := range []storage.Store{s, onlyStore{s}, storage.WithDeadline(s)} {
		err := storage.ListDirs(t.Context(), store, "", func(string) error { return enough })
		if err != enough {
			t.Errorf("%T: %v", store, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, store := range []storage.Store{s, onlyStore{s}, storage.WithDeadline(s)} {
		if err := storage.ListDirs(ctx, store, "", never); !errors.Is(err, context.Canceled) {
			t.Errorf("%T: %v", store, err)
		}
	}
}
