package main

import (
	"os"
	"path/filepath"
	"testing"
)

func mkdirs(t *testing.T, paths ...string) {
	t.Helper()
	for _, path := range paths {
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
}

// The directory is outside of the data directory, also where pg_wal is elsewhere.
func TestPrefetchDir(t *testing.T) {
	root := t.TempDir()
	temp := filepath.Join(root, "tmp")
	mkdirs(t, filepath.Join(root, "a/data/pg_wal"), filepath.Join(root, "b/data"), filepath.Join(root, "disk/main/wal"), filepath.Join(root, "shared/data/pg_wal"), temp)
	t.Setenv("TMPDIR", temp)
	if err := os.Symlink(filepath.Join(root, "disk/main/wal"), filepath.Join(root, "b/data/pg_wal")); err != nil {
		t.Fatal(err)
	}
	open := filepath.Join(root, "shared", prefetchBase)
	mkdirs(t, open)
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	own, err := filepath.Glob(filepath.Join(temp, "*"))
	if err != nil || len(own) > 0 {
		t.Fatalf("%v, %v", own, err)
	}
	for _, c := range []struct{ given, pgWAL, want string }{
		{"", "a/data/pg_wal", "a/walrecv-prefetch"},
		{"", "a/data/pg_wal", "a/walrecv-prefetch"}, // it is there now
		{"", "b/data/pg_wal", "disk/walrecv-prefetch"},
		{"given", "a/data/pg_wal", "given"},
		{"shared/walrecv-prefetch", "a/data/pg_wal", ""},
		{"no/such/parent", "a/data/pg_wal", ""},
		{"", "shared/data/pg_wal", "tmp/*"},
		{"", "nowhere/pg_wal", "tmp/*"},
	} {
		given := c.given
		if given != "" {
			given = filepath.Join(root, given)
		}
		got, err := prefetchDir(given, filepath.Join(root, c.pgWAL))
		rel, _ := filepath.Rel(root, got) // both are absolute
		if matches, _ := filepath.Match(c.want, rel); c.want == "" && err == nil || c.want != "" && (err != nil || !matches) {
			t.Errorf("%q, %s: %s, %v; want %s", c.given, c.pgWAL, rel, err, c.want)
		}
	}
	link := filepath.Join(root, "link")
	if err := os.Symlink(filepath.Join(root, "given"), link); err != nil {
		t.Fatal(err)
	}
	if got, err := prefetchDir(link, ""); err == nil {
		t.Errorf("a link was taken: %s", got)
	}
}
