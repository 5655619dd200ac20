package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/walrecv/walrecv/internal/s3test"
)

// TestPruneS3 prunes with the rights that docs/s3.md gives to it, is refused with fewer,
// and goes on after a store that went away.
func TestPruneS3(t *testing.T) {
	t.Parallel()
	s := s3test.Start(t)
	const system = "p/7400000000000000001/"
	write := func(key, content string) {
		path := s.Path(system + key)
		err := os.MkdirAll(filepath.Dir(path), 0o700)
		if err == nil {
			err = os.WriteFile(path, []byte(content), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	write("walrecv.json", `{"format":1,"system_identifier":"7400000000000000001","wal_segment_size":1048576,"postgresql_major":15}`)
	for n := range 60 {
		write(fmt.Sprintf("wal/00000001/0000000100000000%08X.zst", n), "1234")
	}
	segments := func() int {
		return len(slices.DeleteFunc(s.Objects(t), func(key string) bool { return !strings.Contains(key, "/wal/") }))
	}
	rights := []s3test.Statement{
		{Actions: []string{"s3:ListBucket", "s3:ListBucketMultipartUploads"}},
		{Actions: []string{"s3:GetObject"}, Keys: "p/*"},
	}
	prune := func(env []string, url string, want int, says string) {
		t.Helper()
		code, stdout, stderr := withStore(t, env, "prune", "--archive", url, "--before", "0/3200000", "--yes")
		if code != want || !strings.Contains(stdout+stderr, says) {
			t.Errorf("exit code %d, want %d and %q: %s%s", code, want, says, stdout, stderr)
		}
	}
	prune(s.Other(t, rights...).Environ(), s.URL("p"), 1, "say in the archive what is removed")
	if segments() != 60 {
		t.Fatalf("%d segments are left", segments())
	}
	p := s.Proxy(t)
	if code, _, stderr := withStore(t, s.Environ(), "prune", "--archive", p.URL("p"), "--before", "0/3200000"); code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	reads := p.Total()
	for k := range 200 { // in the midst of the deletions
		p.FailAt(reads+25+k, s3test.Before)
	}
	prune(s.Environ(), p.URL("p"), 1, "could not be deleted")
	if n := segments(); n <= 10 || n == 60 {
		t.Errorf("%d segments are left", n)
	}
	rights[1].Actions = append(rights[1].Actions, "s3:DeleteObject", "s3:AbortMultipartUpload")
	rights = append(rights, s3test.Statement{Actions: []string{"s3:PutObject"}, Keys: "p/*/pruned/*"})
	prune(s.Other(t, rights...).Environ(), s.URL("p"), 0, "the WAL from 0/3200000 on stays")
	if n := segments(); n != 10 {
		t.Errorf("%d segments are left", n)
	}
}
