package main

import (
	"strings"
	"testing"

	"github.com/walrecv/walrecv/storage"
)

// TestS3Table: what a file says of the store completes an s3 URL, wherever that
// came from, and loses against what the URL has itself.
func TestS3Table(t *testing.T) {
	file := writeFile(t, `
archive = "s3://in-file/p?region=of-the-url"
[s3]
endpoint = "http://store:9000"
region = "of-the-table"
path_style = false
profile = "a b"
`)
	rest := storage.S3{Endpoint: "http://store:9000", PathStyle: "false", Profile: "a b"}
	for _, c := range []struct {
		environ []string
		args    []string
		want    storage.S3
	}{
		{nil, nil, storage.S3{Bucket: "in-file", Prefix: "p", Region: "of-the-url"}},
		{[]string{"WALRECV_ARCHIVE=s3://of-the-environment"}, nil, storage.S3{Bucket: "of-the-environment", Region: "of-the-table"}},
		{nil, []string{"--archive", "s3://flag"}, storage.S3{Bucket: "flag", Region: "of-the-table"}},
	} {
		o := walrecv(c.environ, append([]string{"receive", "-D", "x", "--config", file}, c.args...)...)
		if want := c.want.Or(rest); o.receive == nil || o.receive.archive.location.S3 != want {
			t.Errorf("%v %v: exit %d, %s\n%+v, want %+v", c.environ, c.args, o.code, o.stderr, o.receive, want)
		}
	}
	o := walrecv(nil, "receive", "-D", "x", "--config", file, "--archive", "/path")
	if o.receive == nil || o.receive.archive.location != (storage.Location{Scheme: storage.SchemeFile, Path: "/path"}) {
		t.Errorf("a path: %s, %+v", o.stderr, o.receive)
	}
	if o := walrecv(nil, "receive", "-D", "x", "--config", writeFile(t, "[s3]\nregion = \"r\"\n")); o.receive == nil || o.receive.archive.given() {
		t.Errorf("without an archive: %s, %+v", o.stderr, o.receive)
	}
}

func TestS3TableRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"[s3]\nbucket = \"b\"":                                 ":2:1: unknown key \"bucket\" in [s3]",
		"[s3]\nsecret_access_key = \"geheim\"":                 ":2: secret_access_key does not belong in a configuration file",
		"[s3]\nregion = 1":                                     ":2:1: region must be a string, in quotes",
		"[s3]\nregion = \"\"":                                  ":2:1: an empty region",
		"[s3]\n\nchecksum = \"md5\"":                           ":3:1: a checksum that cannot be one: want sha256",
		"s3.storage_class = \"GLACIER\"":                       "cannot be read without waiting",
		"archive = \"s3://bucket\"\ns3.sse_kms_key_id = \"k\"": "--archive with what [s3] says: archive URL has sse_kms_key_id without",
	} {
		o := walrecv(nil, "receive", "-D", "x", "--config", writeFile(t, text))
		if o.code != exitUsage || !strings.Contains(o.stderr, want) || strings.Contains(o.stderr, "geheim") {
			t.Errorf("%q: exit %d, %s; want %q", text, o.code, o.stderr, want)
		}
	}
}
