package storage

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"strings"
)

// The schemes of an archive URL: a directory of this host, a bucket of S3 or of
// a store that speaks its protocol.
const (
	SchemeFile = "file"
	SchemeS3   = "s3"
)

// Location says where an archive is. It holds no secrets. Locations can be
// compared; the zero one is none.
type Location struct {
	Scheme string // SchemeFile or SchemeS3
	Path   string // of SchemeFile: absolute and clean
	S3     S3     // of SchemeS3
}

// String returns the location in a form that ParseURL reads back.
func (l Location) String() string {
	if l.Scheme == SchemeS3 {
		return l.S3.url()
	}
	return l.Path
}

// Reasons why an archive URL is refused. None repeats the URL: what is wrong
// with it may be a password in the wrong place.
var (
	errEmpty      = errors.New("archive URL is empty")
	errSyntax     = errors.New("archive URL is malformed; expected /path, file:///path or s3://bucket/prefix")
	errRelative   = errors.New("archive path must be absolute, as in /path or file:///path")
	errNUL        = errors.New("archive path has a zero byte")
	errSecret     = errors.New("archive URL must not carry a user name or a password")
	errHost       = errors.New("archive URL names a host; expected file:///path with three slashes")
	errParameters = errors.New("archive URL must not have a query or a fragment; write ? as %3F and # as %23, or give the plain path")
)

// ParseURL reads an archive URL: an absolute path, taken byte for byte, a file
// URL, which is percent-decoded, or an s3 URL. Errors never repeat what may be a
// secret.
func ParseURL(raw string) (Location, error) {
	if raw == "" {
		return Location{}, errEmpty
	}
	if raw[0] == '/' {
		return fileLocation(raw)
	}
	scheme, rest, ok := strings.Cut(raw, ":")
	if !ok || !isScheme(scheme) {
		return Location{}, errRelative
	}
	if hasUserinfo(rest) {
		return Location{}, errSecret
	}
	switch strings.ToLower(scheme) {
	case SchemeFile:
		return parseFileURL(raw, rest)
	case SchemeS3:
		s3, err := parseS3(rest)
		if err != nil {
			return Location{}, err
		}
		return Location{Scheme: SchemeS3, S3: s3}, nil
	}
	return Location{}, fmt.Errorf("archive URL has the unknown scheme %q; expected /path, file:///path or s3://bucket/prefix", scheme)
}

func parseFileURL(raw, rest string) (Location, error) {
	if strings.ContainsAny(rest, "?#") {
		return Location{}, errParameters
	}
	if !strings.HasPrefix(rest, "/") {
		return Location{}, errRelative
	}
	u, err := url.Parse(raw)
	if err != nil {
		return Location{}, errSyntax // err repeats parts of the URL
	}
	if u.Host != "" {
		return Location{}, errHost
	}
	if u.Path == "" {
		return Location{}, errRelative
	}
	return fileLocation(u.Path)
}

func fileLocation(p string) (Location, error) {
	if strings.IndexByte(p, 0) >= 0 {
		return Location{}, errNUL
	}
	return Location{Scheme: SchemeFile, Path: path.Clean(p)}, nil
}

// hasUserinfo reports whether the authority of a URL, which is given without
// its scheme, has a part before an "@".
func hasUserinfo(rest string) bool {
	authority, ok := strings.CutPrefix(rest, "//")
	if !ok {
		return false
	}
	if end := strings.IndexAny(authority, "/?#"); end >= 0 {
		authority = authority[:end]
	}
	return strings.Contains(authority, "@")
}

// isScheme reports whether s is a URL scheme: a letter, then letters, digits
// and "+-.".
func isScheme(s string) bool {
	for i := range len(s) {
		c := s[i] | 0x20
		letter := 'a' <= c && c <= 'z'
		other := '0' <= s[i] && s[i] <= '9' || strings.IndexByte("+-.", s[i]) >= 0
		if !letter && (i == 0 || !other) {
			return false
		}
	}
	return s != ""
}
