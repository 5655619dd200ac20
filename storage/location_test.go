package storage

import (
	"path"
	"strings"
	"testing"
)

func TestParseURL(t *testing.T) {
	for raw, want := range map[string]string{
		"/":                       "/",
		"/archive":                "/archive",
		"/archive/":               "/archive",
		"//archive":               "/archive",
		"/a/../b/./c":             "/b/c",
		"/with space?and#mark%2F": "/with space?and#mark%2F",
		"/user:password@host":     "/user:password@host",
		"file:///archive":         "/archive",
		"FILE:///archive/":        "/archive",
		"file:/archive":           "/archive",
		"file:///a%20b%3Fc":       "/a b?c",
		"file:////archive":        "/archive",
	} {
		got, err := ParseURL(raw)
		if err != nil || got != (Location{Scheme: SchemeFile, Path: want}) {
			t.Errorf("ParseURL(%q) = %+v, %v; want the path %q", raw, got, err, want)
		}
	}
}

func TestParseURLRefuses(t *testing.T) {
	for raw, want := range map[string]string{
		"":                                "empty",
		"archive":                         "must be absolute",
		"./archive":                       "must be absolute",
		"../archive":                      "must be absolute",
		"~/archive":                       "must be absolute",
		":/archive":                       "must be absolute",
		"1file:///archive":                "must be absolute",
		"file:archive":                    "must be absolute",
		"file:":                           "must be absolute",
		"file://":                         "must be absolute",
		"file://host/archive":             "names a host",
		"file://localhost/archive":        "names a host",
		"file://host":                     "names a host",
		"file://user:geheim@host/archive": "user name or a password",
		"file://geheim@/archive":          "user name or a password",
		"file:///archive?mode=geheim":     "query or a fragment",
		"file:///archive?":                "query or a fragment",
		"file:///archive#":                "query or a fragment",
		"file:///archive#geheim":          "query or a fragment",
		"file:///a%zz":                    "malformed",
		"file://host:geheim/archive":      "malformed",
		"file:///a%00b":                   "zero byte",
		"/a\x00b":                         "zero byte",
		"s3://key:geheim@bucket/prefix":   "user name or a password",
		"gs://bucket":                     `unknown scheme "gs"`,
		"https://key:geheim@host/":        "user name or a password",
		"c:\\archive":                     `unknown scheme "c"`,
	} {
		got, err := ParseURL(raw)
		switch {
		case err == nil:
			t.Errorf("ParseURL(%q) = %+v, want an error with %q", raw, got, want)
		case !strings.Contains(err.Error(), want):
			t.Errorf("ParseURL(%q) fails with %q, want %q in it", raw, err, want)
		case strings.Contains(err.Error(), "geheim"):
			t.Errorf("ParseURL(%q) repeats the secret: %q", raw, err)
		case got != (Location{}):
			t.Errorf("ParseURL(%q) returns %+v beside an error", raw, got)
		}
	}
}

// FuzzParseURL checks that what is accepted is an absolute, clean path that
// reads back as itself, and that a secret never gets into an error.
func FuzzParseURL(f *testing.F) {
	for _, raw := range []string{
		"/archive", "file:///archive", "file:///a%20b", "file:/a/../b", "archive",
		"file://user:@host/path", "s3://bucket/prefix?endpoint=x", "file:///a?b#c", "//a//b/",
		"s3://bucket/a/b?endpoint=http://h:1&region=r&sse=aws:kms&sse_kms_key_id=arn:x%2Fy&profile=a%20b",
	} {
		f.Add(raw, "s3cr3t")
	}
	f.Fuzz(func(t *testing.T, raw, secret string) {
		checkParsed(t, raw)
		const marker = "geheim-4711"
		for _, with := range []string{
			"file://user:" + secret + marker + "@host/path",
			"s3://user:" + secret + marker + "@host/path",
			"file://host:" + secret + marker + "/path",
			strings.Replace(raw, "://", "://user:"+marker+"@", 1),
			raw + "?secret=" + marker,
		} {
			if _, err := ParseURL(with); err != nil && strings.Contains(err.Error(), marker) {
				t.Errorf("ParseURL(%q) repeats the secret: %q", with, err)
			}
		}
	})
}

func checkParsed(t *testing.T, raw string) {
	t.Helper()
	got, err := ParseURL(raw)
	if err != nil {
		return
	}
	soundFile := got.Scheme == SchemeFile && path.IsAbs(got.Path) && path.Clean(got.Path) == got.Path && !strings.Contains(got.Path, "\x00")
	soundS3 := got.Scheme == SchemeS3 && isBucket(got.S3.Bucket) && (got.S3.Prefix == "" || CheckKey(got.S3.Prefix) == nil)
	if !soundFile && !soundS3 {
		t.Errorf("ParseURL(%q) = %+v", raw, got)
	}
	again, err := ParseURL(got.String())
	if err != nil || again != got {
		t.Errorf("ParseURL(%q) = %+v, which reads back as %+v, %v", raw, got, again, err)
	}
}
