package storage

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"
)

// S3 says where a bucket is and how to use it. Empty fields have the default
// that stands with them; those that say "environment" take it from the variables
// that every program for S3 knows.
type S3 struct {
	Bucket string
	Prefix string // of all keys, without slashes at its ends; may be empty

	Endpoint    string // scheme://host[:port]; empty: environment, else AWS
	Region      string // empty: environment
	PathStyle   string // "true" or "false"; empty: true with an endpoint
	Credentials string // one of S3Credentials; empty: see there
	Profile     string // of the shared configuration; empty: environment, else "default"
	CAFile      string // certificates to trust instead of the system's; empty: environment

	SSE          string // one of S3Encryptions; empty: what the bucket says
	KMSKeyID     string // with SSE aws:kms; empty: the account's key
	StorageClass string // of whole segments; empty: the bucket's default
	Checksum     string // one of S3Checksums; empty: the first
}

// What the parameters of an s3 URL may be.
var (
	// S3Credentials are the sources of keys. Without one it is the first of env,
	// web-identity and profile that is there; the others, which ask an address
	// of the machine's cloud, have to be chosen.
	S3Credentials = []string{"env", "profile", "web-identity", "imds", "ecs"}
	// S3Encryptions is what a store is asked to encrypt objects with.
	S3Encryptions = []string{"AES256", "aws:kms", "aws:kms:dsse"}
	// S3Checksums are the digests that a store compares an object with.
	S3Checksums = []string{"sha256", "crc32c", "crc64nvme", "none"}
)

// s3Parameter is one parameter of an s3 URL.
type s3Parameter struct {
	name  string
	field func(*S3) *string
	check func(string) error
}

var s3Parameters = []s3Parameter{
	{"endpoint", func(s *S3) *string { return &s.Endpoint }, checkEndpoint},
	{"region", func(s *S3) *string { return &s.Region }, printable("a-z A-Z 0-9 -", "-")},
	{"path_style", func(s *S3) *string { return &s.PathStyle }, oneOf("true", "false")},
	{"credentials", func(s *S3) *string { return &s.Credentials }, oneOf(S3Credentials...)},
	{"profile", func(s *S3) *string { return &s.Profile }, text},
	{"ca_file", func(s *S3) *string { return &s.CAFile }, absolute},
	{"sse", func(s *S3) *string { return &s.SSE }, oneOf(S3Encryptions...)},
	{"sse_kms_key_id", func(s *S3) *string { return &s.KMSKeyID }, text},
	{"storage_class", func(s *S3) *string { return &s.StorageClass }, checkClass},
	{"checksum", func(s *S3) *string { return &s.Checksum }, oneOf(S3Checksums...)},
}

var (
	errS3Syntax   = errors.New("archive URL is malformed; expected s3://bucket/prefix?parameter=value")
	errNoBucket   = errors.New("archive URL names no bucket; expected s3://bucket/prefix")
	errBucket     = errors.New("archive URL has a bucket that cannot be one: 3 to 63 of a-z 0-9 . - (older ones also A-Z _), beginning and ending with a letter or digit")
	errPort       = errors.New("archive URL has a port after the bucket; the address of a store goes into endpoint=http://host:port")
	errFragment   = errors.New("archive URL must not have a fragment; write # as %23")
	errPrefixLong = fmt.Errorf("archive URL has a prefix of more than %d bytes", maxS3Prefix)
	errSecretKey  = errors.New("archive URL must not carry keys: give them in the environment or in a profile")
)

// maxS3Prefix leaves the keys of the archive room enough, in bytes.
const maxS3Prefix = 512

// parseS3 reads what follows "s3:".
func parseS3(rest string) (S3, error) {
	rest, ok := strings.CutPrefix(rest, "//")
	if !ok {
		return S3{}, errS3Syntax
	}
	if strings.Contains(rest, "#") {
		return S3{}, errFragment
	}
	where, query, _ := strings.Cut(rest, "?")
	bucket, prefix, _ := strings.Cut(where, "/")
	switch {
	case bucket == "":
		return S3{}, errNoBucket
	case strings.Contains(bucket, ":"):
		return S3{}, errPort
	case !isBucket(bucket):
		return S3{}, errBucket
	}
	s := S3{Bucket: bucket}
	var err error
	if s.Prefix, err = parseS3Prefix(prefix); err != nil {
		return S3{}, err
	}
	if err := s.parseQuery(query); err != nil {
		return S3{}, err
	}
	if s.KMSKeyID != "" && !strings.HasPrefix(s.SSE, "aws:kms") {
		return S3{}, errors.New("archive URL has sse_kms_key_id without sse=aws:kms")
	}
	return s, nil
}

func parseS3Prefix(raw string) (string, error) {
	prefix, err := url.PathUnescape(raw)
	if err != nil {
		return "", errS3Syntax // err repeats parts of the URL
	}
	prefix = strings.Trim(prefix, "/")
	if prefix == "" {
		return "", nil
	}
	if len(prefix) > maxS3Prefix {
		return "", errPrefixLong
	}
	if err := CheckKey(prefix); err != nil || path.Clean(prefix) != prefix {
		return "", errors.New("archive URL has a prefix that is not made of A-Z a-z 0-9 . _ - + = between single slashes")
	}
	return prefix, nil
}

// parseQuery reads the parameters. A plus sign is itself.
func (s *S3) parseQuery(query string) error {
	for pair := range strings.SplitSeq(query, "&") {
		if pair == "" {
			continue
		}
		name, raw, _ := strings.Cut(pair, "=")
		p, ok := parameter(name)
		if !ok {
			return unknownParameter(name)
		}
		value, err := url.PathUnescape(raw)
		switch {
		case err != nil:
			return fmt.Errorf("archive URL has a malformed %s", name)
		case *p.field(s) != "":
			return fmt.Errorf("archive URL has %s twice", name)
		}
		if err := s.Set(name, value); err != nil {
			return fmt.Errorf("archive URL has %w", err)
		}
	}
	return nil
}

func parameter(name string) (s3Parameter, bool) {
	i := slices.IndexFunc(s3Parameters, func(p s3Parameter) bool { return p.name == name })
	if i < 0 {
		return s3Parameter{}, false
	}
	return s3Parameters[i], true
}

// IsS3Parameter tells whether an s3 URL can have a parameter.
func IsS3Parameter(name string) bool {
	_, ok := parameter(name)
	return ok
}

// Set gives a parameter a value. Errors do not repeat it.
func (s *S3) Set(name, value string) error {
	p, ok := parameter(name)
	if !ok {
		return unknownParameter(name)
	}
	if value == "" {
		return fmt.Errorf("an empty %s", name)
	}
	if err := p.check(value); err != nil {
		article := "a"
		if name == "endpoint" {
			article = "an"
		}
		return fmt.Errorf("%s %s that cannot be one: %w", article, name, err)
	}
	*p.field(s) = value
	return nil
}

// Or takes the parameters from other that s does not have. Bucket and prefix stay.
func (s S3) Or(other S3) S3 {
	for _, p := range s3Parameters {
		if field := p.field(&s); *field == "" {
			*field = *p.field(&other)
		}
	}
	return s
}

// NamesSecret tells whether something that is called so is likely to be a secret.
func NamesSecret(name string) bool {
	lower := strings.ToLower(name)
	return slices.ContainsFunc([]string{"secret", "token", "key", "password"}, func(word string) bool {
		return strings.Contains(lower, word)
	})
}

// unknownParameter does not repeat the name, which may be a value out of place.
func unknownParameter(name string) error {
	if NamesSecret(name) {
		return errSecretKey
	}
	return fmt.Errorf("archive URL has an unknown parameter; there are %s", strings.Join(S3Parameters(), ", "))
}

// S3Parameters lists the parameters that an s3 URL can have.
func S3Parameters() (names []string) {
	for _, p := range s3Parameters {
		names = append(names, p.name)
	}
	return names
}

// url is the location as a URL, with the parameters that were given.
func (s S3) url() string {
	out := "s3://" + s.Bucket
	if s.Prefix != "" {
		out += "/" + s.Prefix
	}
	sep := "?"
	for _, p := range s3Parameters {
		if value := *p.field(&s); value != "" {
			out += sep + p.name + "=" + escapeParameter(value)
			sep = "&"
		}
	}
	return out
}

// escapeParameter leaves what can stand in a query as it is: people read it.
func escapeParameter(value string) string {
	return strings.NewReplacer("%", "%25", "&", "%26", "#", "%23", " ", "%20", "?", "%3F").Replace(value)
}

func isBucket(s string) bool {
	if len(s) < 3 || len(s) > 255 {
		return false
	}
	alnum := func(c byte) bool {
		return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
	}
	for i := range len(s) {
		if !alnum(s[i]) && strings.IndexByte(".-_", s[i]) < 0 {
			return false
		}
	}
	return alnum(s[0]) && alnum(s[len(s)-1]) && !strings.Contains(s, "..")
}

// checkEndpoint wants scheme://host[:port]. Its errors repeat nothing.
func checkEndpoint(value string) error {
	u, err := url.Parse(value)
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
		return errors.New("want http://host:port or https://host:port")
	case u.User != nil:
		return errors.New("it must not carry a user name or a password")
	case u.Path != "" && u.Path != "/", u.RawQuery != "", u.Fragment != "":
		return errors.New("it must end after host and port")
	}
	return text(value)
}

// checkClass refuses the classes from which nothing can be read at once.
func checkClass(value string) error {
	switch value {
	case "GLACIER", "DEEP_ARCHIVE":
		return fmt.Errorf("what is stored as %s cannot be read without waiting for hours", value)
	}
	return printable("A-Z 0-9 _", "_")(value)
}

func oneOf(values ...string) func(string) error {
	return func(value string) error {
		if slices.Contains(values, value) {
			return nil
		}
		return errors.New("want " + strings.Join(values, ", "))
	}
}

// printable allows letters, digits and what other has.
func printable(what, other string) func(string) error {
	return func(value string) error {
		for i := range len(value) {
			c := value[i] | 0x20
			if ('a' > c || c > 'z') && ('0' > value[i] || value[i] > '9') && strings.IndexByte(other, value[i]) < 0 {
				return errors.New("want " + what)
			}
		}
		return nil
	}
}

// text allows what stands in one line.
func text(value string) error {
	for i := range len(value) {
		if value[i] < ' ' || value[i] == 0x7f {
			return errors.New("it has a control character")
		}
	}
	return nil
}

func absolute(value string) error {
	if !path.IsAbs(value) {
		return errors.New("want an absolute path")
	}
	return text(value)
}
