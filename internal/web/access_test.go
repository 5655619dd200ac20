package web

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	toolkit "github.com/prometheus/exporter-toolkit/web"
	"golang.org/x/crypto/bcrypt"

	"github.com/walrecv/walrecv/internal/monitor"
)

// settings is a directory with a web configuration and its files.
type settings struct {
	t   *testing.T
	dir string
	log *bytes.Buffer
}

func newSettings(t *testing.T) *settings { return &settings{t, t.TempDir(), &bytes.Buffer{}} }

func (s *settings) file() string { return filepath.Join(s.dir, "web.yml") }

func (s *settings) write(name, content string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(content), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *settings) access() *Access {
	s.t.Helper()
	a, err := NewAccess(s.file(), slog.New(slog.NewTextHandler(s.log, nil)))
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

// pair makes a certificate with a name, signed by another one or by itself, and writes
// NAME.crt and NAME.key.
func (s *settings) pair(name string, parent *tls.Certificate) tls.Certificate {
	s.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: parent == nil, BasicConstraintsValid: true,
	}
	signer, issuer := any(key), template
	if parent != nil {
		signer = parent.PrivateKey
		if issuer, err = x509.ParseCertificate(parent.Certificate[0]); err != nil {
			s.t.Fatal(err)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), signer)
	if err != nil {
		s.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		s.t.Fatal(err)
	}
	s.write(name+".crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	s.write(name+".key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// later is as if the files had been looked at some time ago, and now.
func (a *Access) later() {
	a.forget()
	for known := false; !known; _, known = a.look() { // which is not waited for for long
	}
}

// forget is as if the files had been looked at some time ago.
func (a *Access) forget() {
	a.look = monitor.Cached(func() (struct{}, error) { a.reread(); return struct{}{}, nil })
}

// hashed is a line of basic_auth_users.
func hashed(t *testing.T, user, password string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("basic_auth_users:\n  %s: %s\n", user, hash)
}

// guarded is a server that answers with access, for the rest of the test.
func guarded(t *testing.T, a *Access) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- New(Options{Monitor: streaming(false), Access: a}).Serve(ctx, l, slog.New(slog.DiscardHandler))
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// client asks a server.
type client struct {
	http.Client
	user, password string
}

// get is the code of an answer, 0 without one.
func (c *client) get(t *testing.T, url string) (code int, header http.Header) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.user != "" {
		r.SetBasicAuth(c.user, c.password)
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Log(err)
		return 0, nil
	}
	resp.Body.Close()
	return resp.StatusCode, resp.Header
}

func expectCode(t *testing.T, c *client, url string, want int) {
	t.Helper()
	if code, _ := c.get(t, url); code != want {
		t.Errorf("%s for %q: %d, want %d", url, c.user, code, want)
	}
}

// everyPath is what only those see who may, and openPaths what everybody does.
var (
	everyPath = []string{"/", "/metrics", "/api/live", "/api/hour", "/api/status", "/elsewhere", "//healthz", "/healthz/", "/Healthz"}
	openPaths = []string{"/healthz", "/readyz"}
)

func TestPasswords(t *testing.T) {
	s := newSettings(t)
	s.write("web.yml", hashed(t, "prometheus", "sesame"))
	a := s.access()
	url := "http://" + guarded(t, a)
	if !a.Secures() || a.Encrypts() {
		t.Errorf("secures %v, encrypts %v", a.Secures(), a.Encrypts())
	}
	for _, c := range []*client{{}, {user: "prometheus", password: "open"}, {user: "nobody", password: "sesame"}, {user: "prometheus", password: ""}} {
		for _, path := range everyPath {
			expectCode(t, c, url+path, 401)
		}
		for _, path := range openPaths {
			expectCode(t, c, url+path, 200)
		}
	}
	known := &client{user: "prometheus", password: "sesame"}
	for range 2 {
		expectCode(t, known, url+"/metrics", 200)
	}
	expectCode(t, known, url+"/elsewhere", 404)
	expectCode(t, &client{user: "nobody", password: "sesame"}, url+"/metrics", 401) // after a good one of the same hash
	remembered := 0
	a.now().known.Range(func(any, any) bool { remembered++; return true })
	if remembered != 1 {
		t.Errorf("%d are remembered", remembered)
	}
	if _, header := (&client{}).get(t, url+"/"); header.Get("WWW-Authenticate") != `Basic realm="walrecv"` || header.Get("X-Frame-Options") != "DENY" {
		t.Error(header)
	}
}

// TestConfigurationChanges while it is in use. What is broken, or would let in everybody,
// changes nothing.
func TestConfigurationChanges(t *testing.T) {
	s := newSettings(t)
	s.write("web.yml", hashed(t, "a", "old"))
	a := s.access()
	url := "http://" + guarded(t, a) + "/metrics"
	before, after := &client{user: "a", password: "old"}, &client{user: "a", password: "new"}
	expectCode(t, before, url, 200)
	for _, broken := range []string{"", "basic_auth_users:\n  a: new\n", "basic_auth", "nonsense: 1\n", "rate_limit:\n  burst: 1\n"} {
		s.log.Reset()
		s.write("web.yml", broken)
		for range 2 {
			a.later()
			expectCode(t, before, url, 200)
			expectCode(t, &client{}, url, 401)
		}
		if n := strings.Count(s.log.String(), "cannot be used; what was in force stays"); n != 1 {
			t.Errorf("%q: %d lines in the log: %s", broken, n, s.log)
		}
	}
	s.write("web.yml", hashed(t, "a", "new"))
	a.later()
	expectCode(t, before, url, 401)
	expectCode(t, after, url, 200)
	if !strings.Contains(s.log.String(), "is in force") {
		t.Error(s.log)
	}
	if err := os.Remove(s.file()); err != nil {
		t.Fatal(err)
	}
	a.later()
	expectCode(t, after, url, 200)
	expectCode(t, before, url, 401)
}

// TestConfigurationLosesItsEnd: a file that is half written can have TLS, and no
// passwords yet. TLS alone lets in everybody.
func TestConfigurationLosesItsEnd(t *testing.T) {
	s := newSettings(t)
	ca := s.pair("ca", nil)
	s.pair("server", &ca)
	const files = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
	for _, whole := range []string{
		files + hashed(t, "a", "old"),
		files + "  client_ca_file: ca.crt\n  client_auth_type: RequireAndVerifyClientCert\n",
		files + "  client_auth_type: RequireAndVerifyClientCert\n  client_allowed_sans: [good]\n",
	} {
		s.write("web.yml", whole)
		a := s.access()
		url := "https://" + guarded(t, a) + "/metrics"
		stranger := trusting(ca)
		want, _ := stranger.get(t, url)
		for _, half := range []string{files, files + "  client_auth_type: RequireAndVerifyClientCert\n"} {
			s.write("web.yml", half)
			a.later()
			if code, _ := stranger.get(t, url); want == 200 || code != want {
				t.Errorf("%d, then %d", want, code)
			}
		}
	}
}

// TestFilesThatHang: nobody waits for a file system that does not answer, and what was in
// force stays until it does.
func TestFilesThatHang(t *testing.T) {
	s := newSettings(t)
	ca := s.pair("ca", nil)
	s.pair("server", &ca)
	const files = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
	s.write("web.yml", files+hashed(t, "a", "old"))
	a := s.access()
	url := "https://" + guarded(t, a)
	as := func(password string) *client {
		c := trusting(ca)
		c.user, c.password, c.Timeout = "a", password, 30*time.Second
		return c
	}
	expectCode(t, as("old"), url+"/metrics", 200)

	pipe := filepath.Join(s.dir, "pipe") // who opens it to read waits for who writes
	if err := errors.Join(syscall.Mkfifo(pipe, 0o600), os.Rename(pipe, s.file())); err != nil {
		t.Fatal(err)
	}
	a.forget()
	expectCode(t, as("old"), url+"/healthz", 200)
	expectCode(t, as("old"), url+"/metrics", 200)
	expectCode(t, as("new"), url+"/metrics", 401)
	if err := os.Rename(s.file(), pipe); err != nil {
		t.Fatal(err)
	}
	s.write("web.yml", files+hashed(t, "a", "new"))
	s.write("pipe", files+hashed(t, "a", "new"))
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if code, _ := as("new").get(t, url+"/metrics"); code == 200 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the new password is not known")
		}
	}
	expectCode(t, as("old"), url+"/metrics", 401)
}

// trusting is a client over TLS that may have a certificate itself.
func trusting(ca tls.Certificate, own ...tls.Certificate) *client {
	pool := x509.NewCertPool()
	cert, _ := x509.ParseCertificate(ca.Certificate[0])
	pool.AddCert(cert)
	config := &tls.Config{RootCAs: pool}
	if len(own) > 0 { // shown whether the server knows who has signed it or not
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &own[0], nil }
	}
	return &client{Client: http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true, ForceAttemptHTTP2: true}}}
}

func TestTLS(t *testing.T) {
	s := newSettings(t)
	ca := s.pair("ca", nil)
	s.pair("server", &ca)
	s.write("web.yml", "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\nhttp_server_config:\n  headers:\n    Strict-Transport-Security: max-age=1\n    X-Frame-Options: sameorigin\n")
	a := s.access()
	address := guarded(t, a)
	if !a.Secures() || !a.Encrypts() {
		t.Errorf("secures %v, encrypts %v", a.Secures(), a.Encrypts())
	}
	for _, path := range []string{"/", "/metrics", "/healthz", "/readyz"} {
		expectCode(t, trusting(ca), "https://"+address+path, 200)
		expectCode(t, &client{}, "http://"+address+path, 400)
		expectCode(t, &client{}, "https://"+address+path, 0) // whose certificate nobody knows
	}
	if _, header := trusting(ca).get(t, "https://"+address+"/metrics"); header.Get("Strict-Transport-Security") != "max-age=1" || header.Get("X-Frame-Options") != "sameorigin" {
		t.Error(header)
	}

	other := s.pair("other", nil)
	s.pair("server", &other) // the certificate is renewed
	a.later()
	expectCode(t, trusting(other), "https://"+address+"/", 200)
	s.write("server.key", "half of a k")
	a.later()
	expectCode(t, trusting(other), "https://"+address+"/", 200)
}

// TestClientCertificates: probes have none, and everybody else needs one.
func TestClientCertificates(t *testing.T) {
	s := newSettings(t)
	ca := s.pair("ca", nil)
	s.pair("server", &ca)
	good, other, stranger := s.pair("good", &ca), s.pair("other", &ca), s.pair("stranger", nil)
	const files = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n  client_auth_type: "
	for _, c := range []struct {
		config                          string
		none, withGood, withOther, with int // codes: without, and with a stranger's
	}{
		{files + "RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n", 403, 200, 200, 0},
		{files + "RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n  client_allowed_sans: [good]\n", 403, 200, 0, 0},
		{files + "VerifyClientCertIfGiven\n  client_ca_file: ca.crt\n", 200, 200, 200, 0},
		{files + "RequireAnyClientCert\n", 403, 200, 200, 200},
		{files + "RequestClientCert\n", 200, 200, 200, 200},
	} {
		s.write("web.yml", c.config)
		url := "https://" + guarded(t, s.access())
		for _, path := range openPaths {
			expectCode(t, trusting(ca), url+path, 200)
		}
		expectCode(t, trusting(ca), url+"/metrics", c.none)
		expectCode(t, trusting(ca, good), url+"/metrics", c.withGood)
		expectCode(t, trusting(ca, other), url+"/metrics", c.withOther)
		expectCode(t, trusting(ca, stranger), url+"/metrics", c.with)
	}
}

// TestAuthorityIsNamed: Prometheus' exporters let in who has a certificate of any authority
// that the system trusts, unless it has to be of somebody.
func TestAuthorityIsNamed(t *testing.T) {
	s := newSettings(t)
	ca := s.pair("ca", nil)
	s.pair("server", &ca)
	const files = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n  client_auth_type: RequireAndVerifyClientCert\n"
	for content, complain := range map[string]string{
		files: "needs client_ca_file",
		files + "  client_allowed_sans: [prometheus.example.org]\n": "",
	} {
		s.write("web.yml", content)
		_, err := NewAccess(s.file(), slog.New(slog.DiscardHandler))
		if (err == nil) != (complain == "") || err != nil && !strings.Contains(err.Error(), complain) {
			t.Errorf("%v, of\n%s", err, content)
		}
		if theirs := toolkit.Validate(s.file()); theirs != nil {
			t.Errorf("exporters refuse it, too: %v", theirs)
		}
	}
}

func TestRateLimit(t *testing.T) {
	s := newSettings(t)
	s.write("web.yml", "rate_limit:\n  burst: 2\n  interval: 1h\n")
	url := "http://" + guarded(t, s.access())
	for _, want := range []int{200, 200, 429, 429} {
		expectCode(t, &client{}, url+"/api/live", want)
		expectCode(t, &client{}, url+"/healthz", 200)
	}
}

// TestConfigurationIsThatOfExporters: what the toolkit of Prometheus takes and refuses is
// taken and refused here.
func TestConfigurationIsThatOfExporters(t *testing.T) {
	s := newSettings(t)
	ca := s.pair("ca", nil)
	s.pair("server", &ca)
	const pair = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
	read := func(name string) string {
		content, err := os.ReadFile(filepath.Join(s.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return "|\n    " + strings.ReplaceAll(strings.TrimSpace(string(content)), "\n", "\n    ") + "\n"
	}
	for content, good := range map[string]bool{
		"": true, "tls_server_config: {}\n": true, "no yaml: [": false, "unknown: 1\n": false,
		pair: true, pair + "  min_version: TLS13\n  max_version: TLS13\n": true, pair + "  min_version: TLS09\n": false,
		"tls_server_config:\n  cert: " + read("server.crt") + "  key: " + read("server.key"):                     true,
		"tls_server_config:\n  cert_file: " + filepath.Join(s.dir, "server.crt") + "\n":                          false,
		"tls_server_config:\n  key_file: server.key\n":                                                           false,
		"tls_server_config:\n  cert_file: server.crt\n  key_file: ca.key\n":                                      false,
		"tls_server_config:\n  cert_file: gone\n  key_file: server.key\n":                                        false,
		pair + "  client_ca_file: ca.crt\n":                                                                      false,
		pair + "  client_ca_file: ca.crt\n  client_auth_type: NoClientCert\n":                                    false,
		pair + "  client_ca_file: gone\n  client_auth_type: RequireAnyClientCert\n":                              false,
		pair + "  client_ca_file: ca.crt\n  client_auth_type: RequireAndVerifyClientCert\n":                      true,
		pair + "  client_auth_type: RequireClientCert\n  client_ca: " + read("ca.crt"):                           true,
		pair + "  client_auth_type: Sometimes\n":                                                                 false,
		pair + "  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]\n  prefer_server_cipher_suites: true\n": true,
		pair + "  cipher_suites: [TLS_OF_MY_OWN]\n":                                                              false,
		pair + "  curve_preferences: [X25519, CurveP256]\n":                                                      true,
		pair + "  curve_preferences: [Curve]\n":                                                                  false,
		pair + "http_server_config:\n  http2: false\n":                                                           true,
		"http_server_config:\n  headers:\n    X-Frame-Options: deny\n    X-XSS-Protection: 0\n":                  true,
		"http_server_config:\n  headers:\n    X-Frame-Options: allow\n":                                          false,
		"http_server_config:\n  headers:\n    Server: mine\n":                                                    false,
		"rate_limit:\n  burst: 5\n  interval: 100ms\n":                                                           true,
		"rate_limit:\n  burst: many\n":                                                                           false,
		hashed(t, "a", "b"):                                                                                      true,
		"basic_auth_users:\n  a: plain\n":                                                                        false,
		"basic_auth_users:\n  - a\n":                                                                             false,
	} {
		s.write("web.yml", content)
		_, err := readPolicy(s.file())
		theirs := toolkit.Validate(s.file())
		if (err == nil) != good || (theirs == nil) != good {
			t.Errorf("good: %v; ours: %v; theirs: %v; of\n%s", good, err, theirs, content)
		}
		if err != nil && !strings.Contains(err.Error(), s.file()) {
			t.Errorf("%v", err)
		}
	}
}
