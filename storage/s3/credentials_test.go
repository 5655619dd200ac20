package s3

import (
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/walrecv/walrecv/storage"
)

// witness is a store, and what else keys can be had from, and remembers what it
// was asked.
type witness struct {
	*httptest.Server
	mu       sync.Mutex
	requests []*http.Request
}

func newWitness(t *testing.T) *witness {
	t.Helper()
	w := &witness{}
	w.Server = httptest.NewServer(w)
	t.Cleanup(w.Close)
	return w
}

// asked returns the requests so far, and forgets them.
func (w *witness) asked() []*http.Request {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.requests
	w.requests = nil
	return all
}

func (w *witness) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	w.requests = append(w.requests, r)
	w.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	in := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	asJSON := func(access string) {
		_, _ = fmt.Fprintf(rw, `{"Code":"Success","Type":"AWS-HMAC","AccessKeyId":%q,"SecretAccessKey":"geheim","Token":"token-of-%s","Expiration":%q,"LastUpdated":%q}`,
			access, access, in, time.Now().UTC().Format(time.RFC3339))
	}
	const role = "/latest/meta-data/iam/security-credentials/"
	switch {
	case r.URL.Path == "/latest/api/token":
		rw.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "600")
		_, _ = io.WriteString(rw, "session")
	case r.URL.Path == role:
		_, _ = io.WriteString(rw, "writer")
	case r.URL.Path == role+"writer":
		asJSON("imds")
	case r.URL.Path == "/container":
		if r.Header.Get("Authorization") == "container-token" {
			asJSON("ecs")
		}
	case strings.Contains(string(body), "Action=AssumeRoleWithWebIdentity") && strings.Contains(string(body), "WebIdentityToken=its-token"):
		rw.Header().Set("Content-Type", "text/xml")
		_, _ = fmt.Fprintf(rw, `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult>`+
			`<Credentials><AccessKeyId>web</AccessKeyId><SecretAccessKey>geheim</SecretAccessKey><SessionToken>token-of-web</SessionToken>`+
			`<Expiration>%s</Expiration></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`, in)
	default:
		found(rw)
	}
}

// lonely takes everything from the environment that keys could come from, and
// makes any address of a cloud the witness's. It returns what is left, in the
// form of os.Environ.
func lonely(t *testing.T, w *witness, more ...string) []string {
	t.Helper()
	for _, pair := range os.Environ() {
		if name, value, _ := strings.Cut(pair, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, value) // puts it back
			if err := os.Unsetenv(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Setenv("HOME", t.TempDir())
	environ := append([]string{
		"AWS_EC2_METADATA_SERVICE_ENDPOINT=" + w.URL,
		"AWS_CONTAINER_CREDENTIALS_FULL_URI=" + w.URL + "/container",
		"AWS_CONTAINER_AUTHORIZATION_TOKEN=container-token",
		"AWS_ENDPOINT_URL_STS=" + w.URL,
	}, more...)
	for _, pair := range environ { // the SDK looks there, too
		name, value, _ := strings.Cut(pair, "=")
		t.Setenv(name, value)
	}
	return environ
}

func writeFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestKeys finds out whose keys a request is signed with.
func TestKeys(t *testing.T) {
	profiles := `
[default]
aws_access_key_id = profile-default
aws_secret_access_key = geheim
[other]
aws_access_key_id = profile-other
aws_secret_access_key = geheim
aws_session_token = token-of-profile-other
region = eu-profile-1
[process]
credential_process = printf '{"Version":1,"AccessKeyId":"from-process","SecretAccessKey":"geheim"}'
[machine]
role_arn = arn:aws:iam::1:role/r
credential_source = Ec2InstanceMetadata
[empty]
region = eu-empty-1
`
	env := []string{"AWS_ACCESS_KEY_ID=from-env", "AWS_SECRET_ACCESS_KEY=geheim"}
	web := []string{"AWS_WEB_IDENTITY_TOKEN_FILE=" + writeFile(t, "its-token"), "AWS_ROLE_ARN=arn:aws:iam::1:role/r", "AWS_REGION=eu-west-1"}
	shared := []string{"AWS_SHARED_CREDENTIALS_FILE=" + writeFile(t, profiles), "AWS_CONFIG_FILE=/nowhere"}
	all := append(append(append([]string{}, env...), web...), shared...)
	for name, test := range map[string]struct {
		loc     storage.S3
		environ []string
		want    string // access key, region
		token   string
		err     string
		asks    bool // an address for keys
	}{
		"nothing":                {environ: nil, err: "no keys for the archive: there is neither AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, nor"},
		"all":                    {environ: all, want: "from-env/eu-west-1"},
		"env":                    {environ: env, want: "from-env/us-east-1"},
		"session":                {environ: append(env, "AWS_SESSION_TOKEN=t", "AWS_DEFAULT_REGION=r-1"), want: "from-env/r-1", token: "t"},
		"half":                   {environ: env[:1], err: "AWS_SECRET_ACCESS_KEY is not set"},
		"only the secret":        {environ: env[1:], err: "AWS_ACCESS_KEY_ID is not set"},
		"chosen env":             {loc: storage.S3{Credentials: "env"}, environ: shared, err: "AWS_ACCESS_KEY_ID is not set"},
		"web":                    {environ: append(web, shared...), want: "web/eu-west-1", token: "token-of-web", asks: true},
		"chosen web":             {loc: storage.S3{Credentials: "web-identity"}, environ: all, want: "web/eu-west-1", token: "token-of-web", asks: true},
		"web without a role":     {environ: web[:1], err: "AWS_ROLE_ARN, which is not set"},
		"profile":                {environ: shared, want: "profile-default/us-east-1"},
		"chosen profile":         {loc: storage.S3{Credentials: "profile"}, environ: all, want: "profile-default/eu-west-1"},
		"named profile":          {loc: storage.S3{Profile: "other"}, environ: append(env, shared...), want: "profile-other/eu-profile-1", token: "token-of-profile-other"},
		"profile by environment": {environ: append(shared, "AWS_PROFILE=other"), want: "profile-other/eu-profile-1", token: "token-of-profile-other"},
		"profile with a process": {loc: storage.S3{Profile: "process"}, environ: shared, want: "from-process/us-east-1"},
		"profile without keys":   {loc: storage.S3{Profile: "empty"}, environ: shared, err: "profile empty has none"},
		"unknown profile":        {environ: append(shared, "AWS_PROFILE=nowhere"), err: "profile nowhere"},
		"profile of the machine": {loc: storage.S3{Profile: "machine"}, environ: shared, err: "takes them from Ec2InstanceMetadata: add credentials=profile"},
		"machine":                {loc: storage.S3{Credentials: "imds"}, environ: all, want: "imds/eu-west-1", token: "token-of-imds", asks: true},
		"machine, switched off":  {loc: storage.S3{Credentials: "imds"}, environ: append(env, "AWS_EC2_METADATA_DISABLED=true"), err: "AWS_EC2_METADATA_DISABLED is true"},
		"container":              {loc: storage.S3{Credentials: "ecs"}, environ: all, want: "ecs/eu-west-1", token: "token-of-ecs", asks: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWitness(t)
			test.loc.Bucket, test.loc.Endpoint = "bucket", w.URL
			s, err := New(t.Context(), test.loc, Options{Environ: lonely(t, w, test.environ...)})
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) || strings.Contains(err.Error(), "geheim") {
					t.Errorf("%v, want %q in it", err, test.err)
				}
			} else if err != nil {
				t.Fatal(err)
			}
			if asked := w.asked(); len(asked) > 0 {
				t.Errorf("New asks for %v", asked[0].URL)
			}
			if err != nil {
				return
			}
			if _, err := s.Stat(t.Context(), "key"); err != nil {
				t.Fatal(err)
			}
			asked := w.asked()
			if (len(asked) > 1) != test.asks {
				t.Errorf("%d requests for an object", len(asked))
			}
			r := asked[len(asked)-1]
			access, region, _ := strings.Cut(test.want, "/")
			auth := r.Header.Get("Authorization")
			if !strings.Contains(auth, "Credential="+access+"/") || !strings.Contains(auth, "/"+region+"/s3/") {
				t.Errorf("signed by %.120s, want %s", auth, test.want)
			}
			if got := r.Header.Get("X-Amz-Security-Token"); got != test.token {
				t.Errorf("session token %q, want %q", got, test.token)
			}
		})
	}
}

// TestMissingToken: a file that is missing on this host says nothing about an
// object.
func TestMissingToken(t *testing.T) {
	w := newWitness(t)
	s := newStore(t, storage.S3{Bucket: "bucket", Endpoint: w.URL}, Options{
		Environ: lonely(t, w, "AWS_WEB_IDENTITY_TOKEN_FILE=/nowhere/token", "AWS_ROLE_ARN=arn:aws:iam::1:role/r", "AWS_REGION=eu-west-1"), times: patient,
	})
	for call, do := range calls(t.Context(), s) {
		checkError(t, call, do(), nil)
	}
}

func TestNoRegion(t *testing.T) {
	w := newWitness(t)
	environ := lonely(t, w, keys...)
	if _, err := New(t.Context(), storage.S3{Bucket: "bucket"}, Options{Environ: environ}); err == nil || !strings.Contains(err.Error(), "no region") {
		t.Errorf("%v", err)
	}
	for _, variable := range []string{"AWS_REGION=r", "AWS_DEFAULT_REGION=r", "AWS_ENDPOINT_URL_S3=http://h", "AWS_ENDPOINT_URL=http://h"} {
		if _, err := New(t.Context(), storage.S3{Bucket: "bucket"}, Options{Environ: append(environ, variable)}); err != nil {
			t.Errorf("%s: %v", variable, err)
		}
	}
}

func TestTrustedCertificates(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { found(w) }))
	t.Cleanup(server.Close)
	server.Config.ErrorLog = nil
	own := writeFile(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	none := writeFile(t, "nothing")
	for name, test := range map[string]struct {
		loc     storage.S3
		environ string
		make    string // error of New
		use     string // error of a request
	}{
		"the system's":        {use: "x509"},
		"ours":                {loc: storage.S3{CAFile: own}},
		"of the environment":  {environ: "AWS_CA_BUNDLE=" + own},
		"ours wins":           {loc: storage.S3{CAFile: own}, environ: "AWS_CA_BUNDLE=/nowhere"},
		"missing":             {loc: storage.S3{CAFile: "/nowhere"}, make: "ca_file: open /nowhere"},
		"missing of the env.": {environ: "AWS_CA_BUNDLE=/nowhere", make: "AWS_CA_BUNDLE: open /nowhere"},
		"empty":               {loc: storage.S3{CAFile: none}, make: "holds no certificates"},
	} {
		t.Run(name, func(t *testing.T) {
			test.loc.Bucket, test.loc.Endpoint = "bucket", server.URL
			s, err := New(t.Context(), test.loc, Options{Environ: append([]string{test.environ}, keys...), times: patient})
			if err == nil && test.make == "" {
				_, err = s.Stat(t.Context(), "key")
			}
			want := test.make + test.use
			if (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %q", err, want)
			}
			if test.use != "" {
				checkError(t, "stat", err, nil)
			}
		})
	}
	// Certificates that nobody needs are not looked at.
	w := newWitness(t)
	s := newStore(t, storage.S3{Bucket: "bucket", Endpoint: w.URL}, Options{Environ: append([]string{"AWS_CA_BUNDLE=/nowhere"}, keys...)})
	if _, err := s.Stat(t.Context(), "key"); err != nil {
		t.Error(err)
	}
}

// TestProxyAndStyle has a proxy from the environment, which a process reads once,
// and sees which host is asked for the bucket.
func TestProxyAndStyle(t *testing.T) {
	if url := os.Getenv("S3_TEST_URL"); url != "" {
		loc, err := storage.ParseURL(url)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := newStore(t, loc.S3, Options{Environ: keys}).Stat(t.Context(), "key"); err != nil {
			t.Fatal(err)
		}
		return
	}
	for style, want := range map[string]string{
		"":                  "store.invalid:8080/bucket/p/key",
		"&path_style=true":  "store.invalid:8080/bucket/p/key",
		"&path_style=false": "bucket.store.invalid:8080/p/key",
	} {
		w := newWitness(t)
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestProxyAndStyle$")
		child.Env = append(os.Environ(), "HTTP_PROXY="+w.URL, "S3_TEST_URL=s3://bucket/p?endpoint=http://store.invalid:8080"+style)
		if out, err := child.CombinedOutput(); err != nil {
			t.Errorf("%q: %v\n%s", style, err, out)
			continue
		}
		if asked := w.asked(); len(asked) != 1 || asked[0].Host+asked[0].URL.Path != want {
			t.Errorf("%q: %v", style, asked)
		}
	}
}
