package s3test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// Region is that of every server.
const Region = "us-east-1"

// Server is a bucket of a real S3 server that is its test's alone. It is safe for
// concurrent use.
type Server struct {
	Endpoint string // http://127.0.0.1:PORT
	Bucket   string
	Keys     Keys // of the owner, who may do everything
	dir      string
}

// Keys are what requests are signed with.
type Keys struct{ Access, Secret string }

// Environ is what a program needs in its environment to use them, and to look
// for no others.
func (k Keys) Environ() []string {
	return []string{
		"AWS_ACCESS_KEY_ID=" + k.Access, "AWS_SECRET_ACCESS_KEY=" + k.Secret,
		"AWS_EC2_METADATA_DISABLED=true",
	}
}

// Other returns the same bucket as another user knows it: with the keys of one
// who has the rights that a policy of the bucket grants, and no others.
func (s *Server) Other(t testing.TB, statements ...Statement) *Server {
	t.Helper()
	p, err := theServer()
	if err != nil {
		t.Fatalf("s3test: %v", err)
	}
	other := *s
	other.Keys = Keys{"user" + rand.Text(), rand.Text()}
	cmd := exec.CommandContext(t.Context(), p.bin, "admin", "--endpoint-url", s.Endpoint, "--access", p.keys.Access, "--secret", p.keys.Secret,
		"create-user", "--access", other.Keys.Access, "--secret", other.Keys.Secret, "--role", "user")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("s3test: make a user: %v\n%s", err, out)
	}
	other.grant(t, p.keys, statements)
	return &other
}

// Statement is one of a policy: what is allowed on which keys, "" for those that
// concern the bucket.
type Statement struct {
	Actions []string
	Keys    string
}

// grant sets the policy of the bucket: the rights of nobody else stay.
func (s *Server) grant(t testing.TB, owner Keys, statements []Statement) {
	t.Helper()
	var list []map[string]any
	for _, st := range statements {
		resource := "arn:aws:s3:::" + s.Bucket
		if st.Keys != "" {
			resource += "/" + st.Keys
		}
		list = append(list, map[string]any{
			"Effect": "Allow", "Principal": map[string]any{"AWS": []string{s.Keys.Access}}, "Action": st.Actions, "Resource": resource,
		})
	}
	policy, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": list})
	if err == nil {
		err = request(t.Context(), s.Endpoint, owner, http.MethodPut, "/"+s.Bucket+"?policy", policy)
	}
	if err != nil {
		t.Fatalf("s3test: policy of %s: %v", s.Bucket, err)
	}
}

// theServer is started at the first use.
var theServer = sync.OnceValues(startServer)

// Start returns a bucket that is empty, and is removed at the end of the test.
func Start(t testing.TB) *Server {
	t.Helper()
	return startWith(t)
}

// StartLocked returns a bucket with object lock, which takes no object without a
// digest.
func StartLocked(t testing.TB) *Server {
	t.Helper()
	return startWith(t, [2]string{"X-Amz-Bucket-Object-Lock-Enabled", "true"})
}

func startWith(t testing.TB, header ...[2]string) *Server {
	t.Helper()
	p, err := theServer()
	if err != nil {
		t.Fatalf("s3test: %v", err)
	}
	s := &Server{Endpoint: p.endpoint, Bucket: "b-" + strings.ToLower(rand.Text()), Keys: p.keys}
	s.dir = filepath.Join(p.dir, dataDir, s.Bucket)
	if err := request(t.Context(), s.Endpoint, s.Keys, http.MethodPut, "/"+s.Bucket, nil, header...); err != nil {
		t.Fatalf("s3test: make the bucket %s: %v", s.Bucket, err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(s.dir); err != nil {
			t.Errorf("s3test: %v", err)
		}
	})
	return s
}

// URL is the archive URL of a prefix of the bucket; "" for the bucket itself.
func (s *Server) URL(prefix string) string { return bucketURL(s.Bucket, prefix, s.Endpoint) }

func bucketURL(bucket, prefix, endpoint string) string {
	return fmt.Sprintf("s3://%s/%s?endpoint=%s&region=%s", bucket, prefix, endpoint, Region)
}

// Environ is what a program needs in its environment to use the bucket.
func (s *Server) Environ() []string { return s.Keys.Environ() }

// Path is the file in which the server keeps an object, for tests that damage
// or remove one behind the server's back.
func (s *Server) Path(key string) string { return filepath.Join(s.dir, key) }

// Objects lists the keys of all objects, in lexical order of their paths.
func (s *Server) Objects(t testing.TB) []string {
	t.Helper()
	var keys []string
	err := filepath.WalkDir(s.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		key, err := filepath.Rel(s.dir, path)
		if d.IsDir() && strings.HasPrefix(d.Name(), ".sgwtmp") {
			return filepath.SkipDir // of the server itself
		}
		if !d.IsDir() {
			keys = append(keys, filepath.ToSlash(key))
		}
		return err
	})
	if err != nil {
		t.Fatalf("s3test: %v", err)
	}
	return keys
}

// request makes one signed request. path begins with a slash.
func request(ctx context.Context, endpoint string, k Keys, method, path string, body []byte, header ...[2]string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, endpoint+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	for _, h := range header {
		req.Header.Set(h[0], h[1])
	}
	if err := sign(req, k, payloadHash(body)); err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %s: %.300s", method, path, res.Status, answer)
	}
	return err
}

// client keeps no connection: tests look for what is left of theirs.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// sign signs a request, whose header has no trace of an older signature.
func sign(req *http.Request, k Keys, hash string) error {
	req.Header.Set("X-Amz-Content-Sha256", hash)
	return v4.NewSigner().SignHTTP(req.Context(), aws.Credentials{AccessKeyID: k.Access, SecretAccessKey: k.Secret},
		req, hash, "s3", Region, time.Now())
}

// parsed is a URL that was made here.
func parsed(raw string) *url.URL {
	u, err := url.Parse(raw)
	if err != nil {
		panic(err) // made here
	}
	return u
}
