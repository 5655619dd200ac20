package web

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"go.yaml.in/yaml/v2"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/time/rate"
)

// config is a web configuration as Prometheus and its exporters have it: the file of
// github.com/prometheus/exporter-toolkit. docs/page.md says what becomes of each key.
type config struct {
	TLS   tlsConfig         `yaml:"tls_server_config"`
	HTTP  httpConfig        `yaml:"http_server_config"`
	Rate  rateConfig        `yaml:"rate_limit"`
	Users map[string]string `yaml:"basic_auth_users"` // bcrypt hashes of their passwords
}

type tlsConfig struct {
	Cert             string   `yaml:"cert"`
	Key              string   `yaml:"key"`
	ClientCA         string   `yaml:"client_ca"`
	CertFile         string   `yaml:"cert_file"`
	KeyFile          string   `yaml:"key_file"`
	ClientAuth       string   `yaml:"client_auth_type"`
	ClientCAFile     string   `yaml:"client_ca_file"`
	Ciphers          []string `yaml:"cipher_suites"`
	Curves           []string `yaml:"curve_preferences"`
	MinVersion       string   `yaml:"min_version"`
	MaxVersion       string   `yaml:"max_version"`
	PreferCiphers    *bool    `yaml:"prefer_server_cipher_suites"` // without effect, there as here
	ClientAllowedSAN []string `yaml:"client_allowed_sans"`
}

type httpConfig struct {
	HTTP2   *bool             `yaml:"http2"` // HTTP/1.1 is all that is spoken
	Headers map[string]string `yaml:"headers"`
}

type rateConfig struct {
	Burst    int           `yaml:"burst"`
	Interval time.Duration `yaml:"interval"`
}

// policy is what a web configuration asks for.
type policy struct {
	tls        *tls.Config // nil: none
	clientCert bool        // only to who has shown a certificate
	users      map[string]string
	headers    map[string]string
	limiter    *rate.Limiter // nil: no limit
	keys       []string      // files with private keys
	files      []byte        // what it was made of

	known sync.Map // the digests of passwords that were right, by user
}

// secures tells whether not everybody may see what is served, or what passes by.
func (p *policy) secures() bool { return p.tls != nil || p.asks() }

// asks tells whether who wants to see something has to show who he is.
func (p *policy) asks() bool { return p.clientCert || len(p.users) > 0 }

// readPolicy reads a web configuration, and the files that it names.
func readPolicy(file string) (*policy, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var c config
	if err := yaml.UnmarshalStrict(content, &c); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	p := &policy{users: c.Users, headers: c.HTTP.Headers, files: content}
	if c.Rate.Interval > 0 {
		p.limiter = rate.NewLimiter(rate.Every(c.Rate.Interval), c.Rate.Burst)
	}
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if c.TLS.given() {
		p.keys = []string{file}
		if err := c.TLS.policy(p, filepath.Dir(file)); err != nil {
			return nil, fmt.Errorf("%s: tls_server_config: %w", file, err)
		}
	}
	return p, nil
}

// allowedHeaders are those that the configuration may set, with their values if not any
// will do.
var allowedHeaders = map[string][]string{
	"Strict-Transport-Security": nil,
	"X-Content-Type-Options":    {"nosniff"},
	"X-Frame-Options":           {"deny", "sameorigin"},
	"X-XSS-Protection":          nil,
	"Content-Security-Policy":   nil,
}

func (c *config) check() error {
	for user, hash := range c.Users {
		if _, err := bcrypt.Cost([]byte(hash)); err != nil {
			return fmt.Errorf("basic_auth_users: the password of %s has to be a bcrypt hash, as htpasswd -nB makes one: %w", user, err)
		}
	}
	for name, value := range c.HTTP.Headers {
		values, ok := allowedHeaders[name]
		if !ok {
			return fmt.Errorf("http_server_config: the header %s cannot be set", name)
		}
		if values != nil && !slices.Contains(values, value) {
			return fmt.Errorf("http_server_config: the header %s can be %s, and not %s", name, strings.Join(values, " or "), value)
		}
	}
	return nil
}

// given tells whether there is to be TLS.
func (c *tlsConfig) given() bool {
	return c.Cert+c.CertFile+c.Key+c.KeyFile+c.ClientCA+c.ClientCAFile+c.ClientAuth != ""
}

// policy adds the TLS that is asked for, of files in a directory.
func (c *tlsConfig) policy(p *policy, dir string) error {
	read := func(text, file, what string) ([]byte, error) {
		if file == "" {
			if text == "" {
				return nil, fmt.Errorf("%s_file is missing", what)
			}
			return []byte(text), nil
		}
		if !filepath.IsAbs(file) {
			file = filepath.Join(dir, file)
		}
		content, err := os.ReadFile(file)
		if what == "key" {
			p.keys = []string{file}
		}
		p.files = append(append(p.files, 0), content...)
		return content, err
	}
	cert, err := read(c.Cert, c.CertFile, "cert")
	if err != nil {
		return err
	}
	key, err := read(c.Key, c.KeyFile, "key")
	if err != nil {
		return err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return err
	}
	p.tls = &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"http/1.1"}, MinVersion: tls.VersionTLS12}
	if c.ClientCA+c.ClientCAFile != "" {
		ca, err := read(c.ClientCA, c.ClientCAFile, "client_ca")
		if err != nil {
			return err
		}
		p.tls.ClientCAs = x509.NewCertPool()
		if !p.tls.ClientCAs.AppendCertsFromPEM(ca) {
			return errors.New("client_ca_file has no certificate")
		}
	}
	if err := c.numbers(p.tls); err != nil {
		return err
	}
	return c.clients(p)
}

// numbers sets what has names in the file and numbers in the protocol.
func (c *tlsConfig) numbers(t *tls.Config) error {
	versions := map[string]uint16{"TLS10": tls.VersionTLS10, "TLS11": tls.VersionTLS11, "TLS12": tls.VersionTLS12, "TLS13": tls.VersionTLS13}
	curves := map[string]tls.CurveID{"CurveP256": tls.CurveP256, "CurveP384": tls.CurveP384, "CurveP521": tls.CurveP521, "X25519": tls.X25519}
	suites := map[string]uint16{}
	for _, s := range tls.CipherSuites() {
		suites[s.Name] = s.ID
	}
	t.MaxVersion = tls.VersionTLS13
	for _, v := range []struct {
		name string
		into *uint16
	}{{c.MinVersion, &t.MinVersion}, {c.MaxVersion, &t.MaxVersion}} {
		if v.name == "" {
			continue
		}
		number, ok := versions[v.name]
		if !ok {
			return fmt.Errorf("there is no TLS version %q", v.name)
		}
		*v.into = number
	}
	for _, name := range c.Curves {
		curve, ok := curves[name]
		if !ok {
			return fmt.Errorf("there is no curve %q", name)
		}
		t.CurvePreferences = append(t.CurvePreferences, curve)
	}
	for _, name := range c.Ciphers {
		suite, ok := suites[name]
		if !ok {
			return fmt.Errorf("there is no cipher suite %q", name)
		}
		t.CipherSuites = append(t.CipherSuites, suite)
	}
	return nil
}

// clients sets which certificates clients show. None is ever demanded of a handshake: a
// probe has none, and what it asks for is not known before. Who needs one and has none is
// turned away when he asks.
func (c *tlsConfig) clients(p *policy) error {
	switch c.ClientAuth {
	case "", "NoClientCert":
		if p.tls.ClientCAs != nil {
			return errors.New("client_ca_file has no effect without client_auth_type")
		}
	case "RequestClientCert":
		p.tls.ClientAuth = tls.RequestClientCert
	case "RequireClientCert", "RequireAnyClientCert":
		p.tls.ClientAuth, p.clientCert = tls.RequestClientCert, true
	case "VerifyClientCertIfGiven":
		p.tls.ClientAuth = tls.VerifyClientCertIfGiven
	case "RequireAndVerifyClientCert":
		if p.tls.ClientCAs == nil && c.ClientAllowedSAN == nil {
			return errors.New("client_auth_type RequireAndVerifyClientCert needs client_ca_file: everybody can have a certificate of an authority that this system trusts")
		}
		p.tls.ClientAuth, p.clientCert = tls.VerifyClientCertIfGiven, true
	default:
		return fmt.Errorf("there is no client_auth_type %q", c.ClientAuth)
	}
	if c.ClientAllowedSAN != nil {
		p.tls.VerifyConnection = c.allows
	}
	return nil
}

// allows looks for a name that is allowed in the certificate of a client, if it shows one.
func (c *tlsConfig) allows(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return nil
	}
	cert := state.PeerCertificates[0]
	names := slices.Concat(cert.DNSNames, cert.EmailAddresses)
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	for _, uri := range cert.URIs {
		names = append(names, uri.String())
	}
	if !slices.ContainsFunc(names, func(name string) bool { return slices.Contains(c.ClientAllowedSAN, name) }) {
		return fmt.Errorf("the client's certificate is of %q, and client_allowed_sans has none of that", names)
	}
	return nil
}

// set sets the headers that are asked for.
func (p *policy) set(h http.Header) {
	for name, value := range p.headers {
		h.Set(name, value)
	}
}
