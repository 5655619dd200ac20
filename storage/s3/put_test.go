package s3

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/s3test"
	"github.com/walrecv/walrecv/storage"
)

// at is the store at an archive URL.
func at(t *testing.T, url string, environ []string, o Options) *Store {
	t.Helper()
	loc, err := storage.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	o.Environ, o.times = environ, patient
	return newStore(t, loc.S3, o)
}

func putText(t *testing.T, s *Store, key, text string) error {
	t.Helper()
	return s.Put(t.Context(), key, storage.BytesSource([]byte(text)))
}

// TestLostAnswer: an object whose first answer was lost is there when it is put
// again, and its key is taken.
func TestLostAnswer(t *testing.T) {
	server := s3test.Start(t)
	p := server.Proxy(t)
	s := at(t, p.URL("x"), p.Environ(), Options{})
	p.FailAt(1, s3test.After)
	if err := putText(t, s, "key", "content"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("%v, want fs.ErrExist", err)
	}
	if p.Total() != 2 {
		t.Errorf("%d requests", p.Total())
	}
	p.ResetCounts()
	p.FailAt(1, s3test.Before)
	if err := putText(t, s, "other", "content"); err != nil {
		t.Errorf("not even begun: %v", err)
	}
	for _, when := range []s3test.When{s3test.Before, s3test.After} {
		p.ResetCounts()
		for k := range 3 {
			p.FailAt(k+1, when)
		}
		checkError(t, "put", putText(t, s, "third", "content"), nil)
	}
	info, err := s.Stat(t.Context(), "third")
	if err != nil || info.Size != 7 {
		t.Errorf("after it took effect: %v, %v", info, err)
	}
}

// TestRequests: one request for an object, whatever is done with it.
func TestRequests(t *testing.T) {
	p := s3test.Start(t).Proxy(t)
	s := at(t, p.URL("x"), p.Environ(), Options{})
	if err := putText(t, s, "a/key", strings.Repeat("content", 10_000)); err != nil {
		t.Fatal(err)
	}
	if got := p.Counts(); len(got) != 1 || got["PutObject"] != 1 {
		t.Errorf("put: %v", got)
	}
	all := calls(t.Context(), s)
	delete(all, "put")
	for call, do := range all {
		p.ResetCounts()
		if err := do(); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", call, err)
		}
		if p.Total() != 1 {
			t.Errorf("%s: %v", call, p.Counts())
		}
	}
	p.ResetCounts()
	tail, info, err := s.ReadTail(t.Context(), "a/key", 9)
	if string(tail) != "ntcontent" || info.Size != 70_000 || err != nil || p.Total() != 1 {
		t.Errorf("tail: %q of %v, %v", tail, info, err)
	}
	head, info, err := s.ReadHead(t.Context(), "a/key", 9)
	if string(head) != "contentco" || info.Size != 70_000 || err != nil || p.Total() != 2 {
		t.Errorf("head: %q of %v, %v", head, info, err)
	}
}

// TestUnsafeStore has a store that ignores conditions, and one that refuses them.
func TestUnsafeStore(t *testing.T) {
	server := s3test.Start(t)
	p := server.Proxy(t)
	p.IgnoreConditions(true)
	trusting := at(t, p.URL("x"), p.Environ(), Options{})
	for _, text := range []string{"one", "two"} {
		if err := putText(t, trusting, "key", text); err != nil {
			t.Error(err)
		}
	}
	careful := at(t, p.URL("x"), p.Environ(), Options{Unsafe: true})
	if err := putText(t, careful, "key", "three"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("%v, want fs.ErrExist", err)
	}
	if err := putText(t, careful, "new", "three"); err != nil {
		t.Error(err)
	}

	refusing := map[string]func(w http.ResponseWriter){
		"501": xml(501, "NotImplemented", "A header you provided implies functionality that is not implemented."),
		"400": xml(400, "InvalidArgument", "unsupported header If-None-Match"),
	}
	for name, refuse := range refusing {
		f := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
			switch {
			case r.Method == http.MethodGet:
				errorAnswer(w, 404, "NoSuchKey", "")
			case r.Header.Get("If-None-Match") != "":
				refuse(w)
			default:
				found(w)
			}
		})
		checkError(t, name, putText(t, f.store(t, patient), "key", "x"), storage.ErrUnsafe)
		s := newStore(t, storage.S3{Bucket: "bucket", Endpoint: f.URL}, Options{Environ: keys, Unsafe: true, times: patient})
		for _, key := range []string{"a", "b"} {
			if err := putText(t, s, key, "x"); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// TestChecksums: of every kind of digest the store finds that it is right, also
// for a bucket with object lock.
func TestChecksums(t *testing.T) {
	server := s3test.StartLocked(t)
	for _, kind := range storage.S3Checksums {
		s := at(t, server.URL("x")+"&checksum="+kind, server.Environ(), Options{})
		if err := putText(t, s, kind, "content of "+kind); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// TestHeaders are what a location asks of a store.
func TestHeaders(t *testing.T) {
	var got http.Header
	f := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		got = r.Header
		found(w)
	})
	loc := storage.S3{
		Bucket: "bucket", Endpoint: f.URL, SSE: "aws:kms", KMSKeyID: "the-key", StorageClass: "STANDARD_IA",
	}
	s := newStore(t, loc, Options{Environ: keys, Classed: func(key string) bool { return key == "large" }})
	for _, key := range []string{"large", "small"} {
		if err := putText(t, s, key, "x"); err != nil {
			t.Fatal(err)
		}
		class := map[string]string{"large": "STANDARD_IA"}[key]
		for name, want := range map[string]string{
			"X-Amz-Server-Side-Encryption": "aws:kms", "X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id": "the-key",
			"X-Amz-Storage-Class": class, "If-None-Match": "*", "Content-Encoding": "", "Expect": "",
			"X-Amz-Checksum-Sha256": "LXEWQrcmsEQBYnyp+6wy9chTD7GQPMTbAiWHF5IaSIE=", // of "x"
			"X-Amz-Content-Sha256":  "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881",
		} {
			if got.Get(name) != want {
				t.Errorf("%s: %s is %q, want %q", key, name, got.Get(name), want)
			}
		}
	}
}

// policies are those of docs/s3.md, in their order, for a prefix.
func policies(t *testing.T, prefix string) [][]s3test.Statement {
	t.Helper()
	doc, err := os.ReadFile("../../docs/s3.md")
	if err != nil {
		t.Fatal(err)
	}
	var all [][]s3test.Statement
	for _, block := range strings.Split(string(doc), "```json\n")[1:] {
		block, _, _ = strings.Cut(block, "```")
		var policy struct {
			Statement []struct {
				Effect, Resource string
				Action           []string
			}
		}
		if err := json.Unmarshal([]byte(block), &policy); err != nil {
			t.Fatal(err)
		}
		var statements []s3test.Statement
		for _, st := range policy.Statement {
			resource, ok := strings.CutPrefix(st.Resource, "arn:aws:s3:::BUCKET")
			if st.Effect != "Allow" || !ok {
				t.Fatalf("a statement that this test does not know: %+v", st)
			}
			keys := strings.Replace(strings.TrimPrefix(resource, "/"), "PREFIX", prefix, 1)
			statements = append(statements, s3test.Statement{Actions: st.Action, Keys: keys})
		}
		all = append(all, statements)
	}
	if len(all) != 4 {
		t.Fatalf("docs/s3.md has %d policies", len(all))
	}
	return all
}

// TestRights has keys that may do some things: those of docs/s3.md, and one that
// may only put.
func TestRights(t *testing.T) {
	server := s3test.Start(t)
	owner := at(t, server.URL("x"), server.Environ(), Options{})
	documented := policies(t, "x")
	for name, test := range map[string]struct {
		rights []s3test.Statement
		may    string
	}{
		"writer without delete": {documented[0], "put upload sweep open stat tail list dirs"},
		"writer":                {documented[1], "put upload sweep open stat tail list dirs"},
		"pruner":                {documented[2], "sweep open stat tail list dirs delete"},
		"reader":                {documented[3], "open stat tail list dirs"},
		"only put":              {[]s3test.Statement{{Actions: []string{"s3:PutObject"}, Keys: "x/*"}}, "put"},
	} {
		user := server.Other(t, test.rights...)
		s := at(t, user.URL("x"), user.Environ(), Options{part: smallestPart})
		for _, key := range []string{"key", "1/tail/0/0-1"} {
			if err := putText(t, owner, key, "content"); err != nil && !errors.Is(err, fs.ErrExist) {
				t.Fatal(err)
			}
		}
		all := calls(t.Context(), s)
		all["put"] = func() error { return putText(t, s, "by-"+strings.ReplaceAll(name, " ", "-"), "content") }
		all["upload"] = func() error { return writeAndDrop(t, s, "up-"+strings.ReplaceAll(name, " ", "-")) }
		all["sweep"] = func() error { _, err := s.Sweep(t.Context(), time.Now().Add(time.Hour)); return err }
		for _, call := range []string{"put", "upload", "sweep", "open", "stat", "tail", "list", "dirs", "delete"} {
			err := all[call]()
			if strings.Contains(" "+test.may+" ", " "+call+" ") {
				if err != nil {
					t.Errorf("%s: %s: %v", name, call, err)
				}
				continue
			}
			checkError(t, name+": "+call, err, fs.ErrPermission)
		}
		if err := s.Delete(t.Context(), "1/tail/0/0-1"); (err == nil) != (name == "writer" || name == "pruner") {
			t.Errorf("%s: delete of a piece of the tail: %v", name, err)
		}
		// Without the right to list, nobody says that a key is missing.
		if _, err := s.Stat(t.Context(), "absent"); errors.Is(err, fs.ErrNotExist) != (name != "only put") {
			t.Errorf("%s: a missing key: %v", name, err)
		}
	}
}

// writeAndDrop puts an object in two parts, and throws another one away.
func writeAndDrop(t *testing.T, s *Store, key string) error {
	t.Helper()
	data := twoParts(6)
	u, err := s.Create(t.Context(), key+"-dropped")
	if err != nil {
		return err
	}
	if _, err := u.Write(data); err != nil {
		_ = u.Abort()
		return err
	}
	if err := u.Abort(); err != nil {
		return err
	}
	return uploadAll(t.Context(), s, key, data)
}

// TestWrongSetups are those that a real server tells from right ones.
func TestWrongSetups(t *testing.T) {
	server := s3test.Start(t)
	wrong := s3test.Keys{Access: "nobody", Secret: "geheim"}
	half := s3test.Keys{Access: server.Keys.Access, Secret: "geheim"}
	for name, test := range map[string]struct {
		url     string
		environ []string
		is      error
	}{
		"bucket": {strings.Replace(server.URL("x"), server.Bucket, "b-none", 1), server.Environ(), storage.ErrNoRoot},
		"region": {strings.Replace(server.URL("x"), "region="+s3test.Region, "region=eu-central-1", 1), server.Environ(), storage.ErrSetup},
		"key":    {server.URL("x"), wrong.Environ(), fs.ErrPermission},
		"secret": {server.URL("x"), half.Environ(), fs.ErrPermission},
	} {
		s := at(t, test.url, test.environ, Options{})
		for call, do := range calls(t.Context(), s) {
			checkError(t, name+": "+call, do(), test.is)
		}
	}
}

// zeros is a source that has nothing in memory.
type zeros int64

func (z zeros) Size() int64 { return int64(z) }

func (z zeros) Open() (io.ReadSeekCloser, error) {
	return unclosed{io.NewSectionReader(zeros(0), 0, int64(z))}, nil
}

func (zeros) ReadAt(p []byte, _ int64) (int, error) {
	clear(p)
	return len(p), nil
}

// TestMemory: no object is held in memory, on its way in or out.
func TestMemory(t *testing.T) {
	const size, most = 64 << 20, 8 << 20
	f := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		n, _ := io.Copy(io.Discard, r.Body)
		if r.Method == http.MethodPut && n != size {
			t.Errorf("%d bytes came", n)
		}
		w.Header().Set("ETag", `"e"`)
		if r.Method == http.MethodGet {
			w.Header().Set("Content-Length", strconv.Itoa(size))
			_, _ = io.Copy(w, io.NewSectionReader(zeros(0), 0, size))
		}
	})
	s := f.store(t, patient)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := s.Put(t.Context(), "key", zeros(size)); err != nil {
		t.Error(err)
	}
	body, _, err := s.Open(t.Context(), "key")
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if n, err := io.Copy(io.Discard, body); n != size || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > most {
		t.Errorf("%d bytes were allocated for an object of %d", used, size)
	}
}
