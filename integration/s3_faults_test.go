package integration

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/internal/s3test"
)

// wrongStore is a store that cannot be used, and what is to be said of it.
type wrongStore struct {
	name, url string
	env       []string
	want      string
}

// wrongStores are those of a bucket. prefix is one below which nothing is.
func wrongStores(t testing.TB, s *s3test.Server, prefix string) []wrongStore {
	t.Helper()
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = fmt.Fprint(w, "<html>Welcome</html>")
	}))
	t.Cleanup(page.Close)
	url := s.URL(prefix)
	stranger := s3test.Keys{Access: "nobody", Secret: "geheim"}
	return []wrongStore{
		{"bucket", strings.Replace(url, s.Bucket, "no-such-bucket", 1), s.Environ(), "the bucket no-such-bucket at " + s.Endpoint + " does not exist"},
		{"region", strings.Replace(url, s3test.Region, "eu-central-1", 1), s.Environ(), "is not in this region: correct region= in the archive URL"},
		{"keys", url, stranger.Environ(), "the keys for bucket " + s.Bucket + " at " + s.Endpoint + " are wrong"},
		{"no S3", strings.Replace(url, s.Endpoint, page.URL, 1), s.Environ(), "does not speak S3: a web page came back"},
	}
}

// TestS3Refused has stores that cannot be used. A receiver that finds one at its
// first start says so in one line and ends.
func TestS3Refused(t *testing.T) {
	s := s3test.Start(t)
	c := pgtest.New(t, pgtest.Options{Major: pgtest.Version(t), WALSegmentSize: 1 << 20})
	c.Start()
	stores := wrongStores(t, s, "x")
	reader := s.Other(t, s3test.Statement{Actions: []string{"s3:ListBucket"}}, s3test.Statement{Actions: []string{"s3:GetObject"}, Keys: "*"})
	stores = append(stores, wrongStore{"reader", s.URL("x"), reader.Environ(), "refuses it: the keys lack a right (AccessDenied"})
	p := s.Proxy(t)
	p.IgnoreConditions(true)
	stores = append(stores, wrongStore{"unsafe", p.URL("unsafe"), s.Environ(), "the store does not support conditional writes"},
		wrongStore{"no keys", s.URL("x"), nil, "no keys for the archive"})
	for _, store := range stores {
		t.Run(store.name, func(t *testing.T) {
			r := newReceiver(t, c, "--archive", store.url)
			r.t, r.env = t, store.env
			r.launch()
			code := r.Wait(patience)
			wantCode := 1
			if store.name == "no keys" {
				wantCode = 2
			}
			if code != wantCode || !strings.Contains(lastLine(r.Stderr()), store.want) || strings.Contains(r.Stderr(), "geheim") {
				t.Errorf("receive: exit %d, want %d and %q:\n%s", code, wantCode, store.want, r.Stderr())
			}
		})
	}
	if left := s.Objects(t); len(left) != 1 || !strings.HasSuffix(left[0], "walrecv.json") {
		t.Errorf("left in the bucket: %v", left) // by the one that is unsafe
	}
	// Whoever says so may use the unsafe one.
	r := newReceiver(t, c, "--archive", p.URL("unsafe"), "--allow-unsafe-store")
	r.env = s.Environ()
	r.start()
	last := walFile(c)
	c.SwitchWAL()
	pgtest.Eventually(t, patience, func() bool {
		_, err := os.Stat(s.Path("unsafe/" + c.SystemID() + "/wal/" + last[:8] + "/" + last + ".zst"))
		return err == nil
	}, "%s does not get archived", last)
	r.stop()
}

// TestS3RestoreRefused: a restore takes no store that cannot be used for an empty
// archive.
func TestS3RestoreRefused(t *testing.T) {
	s := s3test.Start(t)
	stores := append(wrongStores(t, s, "x"), wrongStore{"no keys", s.URL("x"), nil, "no keys for the archive"})
	type call struct {
		*pgtest.Process
		store wrongStore
		code  int
	}
	var all []call
	for _, store := range stores {
		for signal, code := range map[string]int{"recovery.signal": 200, "standby.signal": 1} {
			if store.name == "bucket" && code == 200 {
				code = 201 // as for a directory that is not mounted
			}
			dir := pgtest.TempDir(t)
			if err := os.Mkdir(filepath.Join(dir, "pg_wal"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, signal), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			pgtest.Give(t, dir)
			p := pgtest.Command(t, pgtest.Build(t), "restore", "--archive", store.url, "--retry-for", "1s",
				"000000010000000000000001", "pg_wal/RECOVERYXLOG")
			p.Env, p.Dir = store.env, dir
			all = append(all, call{p.Start(), store, code})
		}
	}
	for _, c := range all {
		code := c.Wait(time.Minute)
		if last := lastLine(c.Stderr()); code != c.code || !strings.Contains(last, c.store.want) || strings.Contains(last, "geheim") {
			t.Errorf("%s: exit %d, want %d and %q:\n%s", c.store.name, code, c.code, c.store.want, c.Stderr())
		}
	}
}

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndexByte(text, '\n')+1:]
}
