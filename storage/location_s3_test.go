package storage

import (
	"strings"
	"testing"
)

func TestParseS3URL(t *testing.T) {
	for raw, want := range map[string]S3{
		"s3://bucket":                         {Bucket: "bucket"},
		"S3://bucket/":                        {Bucket: "bucket"},
		"s3://my.bucket-1/a/b/":               {Bucket: "my.bucket-1", Prefix: "a/b"},
		"s3://Old_Bucket//a":                  {Bucket: "Old_Bucket", Prefix: "a"},
		"s3://bucket/a%2Bb":                   {Bucket: "bucket", Prefix: "a+b"},
		"s3://bucket?":                        {Bucket: "bucket"},
		"s3://bucket?region=eu-central-1&":    {Bucket: "bucket", Region: "eu-central-1"},
		"s3://bucket/p?endpoint=http://[::1]": {Bucket: "bucket", Prefix: "p", Endpoint: "http://[::1]"},
		"s3://bucket?endpoint=https%3A%2F%2Fstore.example%3A9000&path_style=false&ca_file=/etc/ca%20of%20ours.pem": {
			Bucket: "bucket", Endpoint: "https://store.example:9000", PathStyle: "false", CAFile: "/etc/ca of ours.pem",
		},
		"s3://bucket?credentials=web-identity&checksum=crc32c&storage_class=STANDARD_IA": {
			Bucket: "bucket", Credentials: "web-identity", Checksum: "crc32c", StorageClass: "STANDARD_IA",
		},
		"s3://bucket?profile=a%26b+c&sse=aws:kms&sse_kms_key_id=arn:aws:kms:eu-west-1:1:key/2": {
			Bucket: "bucket", Profile: "a&b+c", SSE: "aws:kms", KMSKeyID: "arn:aws:kms:eu-west-1:1:key/2",
		},
	} {
		got, err := ParseURL(raw)
		if err != nil || got != (Location{Scheme: SchemeS3, S3: want}) {
			t.Errorf("ParseURL(%q) = %+v, %v; want %+v", raw, got, err, want)
			continue
		}
		if again, err := ParseURL(got.String()); err != nil || again != got {
			t.Errorf("%q is written as %q, which reads as %+v, %v", raw, got, again, err)
		}
	}
}

func TestS3URLAsText(t *testing.T) {
	const url = "s3://bucket/a/b?endpoint=http://127.0.0.1:7070&region=us-east-1&path_style=true"
	if got, err := ParseURL(url); err != nil || got.String() != url {
		t.Errorf("%q reads as %q, %v", url, got, err)
	}
}

func TestParseS3URLRefuses(t *testing.T) {
	for raw, want := range map[string]string{
		"s3:":                    "expected s3://bucket/prefix",
		"s3:bucket/prefix":       "expected s3://bucket/prefix",
		"s3://":                  "names no bucket",
		"s3:///prefix":           "names no bucket",
		"s3://?region=x":         "names no bucket",
		"s3://b":                 "cannot be one",
		"s3://bu..cket":          "cannot be one",
		"s3://-bucket":           "cannot be one",
		"s3://b%61cket":          "cannot be one",
		"s3://key:geheim/bucket": "goes into endpoint=",
		"s3://key:geheim@bucket": "user name or a password",
		"s3://bucket/a//b":       "single slashes",
		"s3://bucket/a/../b":     "single slashes",
		"s3://bucket/geheim%zz":  "malformed",
		"s3://bucket/a b":        "single slashes",
		"s3://bucket/" + strings.Repeat("a/", 300):   "more than 512 bytes",
		"s3://bucket#geheim":                         "fragment",
		"s3://bucket?secret_access_key=geheim":       "must not carry keys",
		"s3://bucket?session_token=geheim":           "must not carry keys",
		"s3://bucket?aws_access_key_id=geheim":       "must not carry keys",
		"s3://bucket?geheim=x":                       "unknown parameter; there are endpoint,",
		"s3://bucket?Region=geheim":                  "unknown parameter",
		"s3://bucket?region=":                        "empty region",
		"s3://bucket?region":                         "empty region",
		"s3://bucket?region=a&region=b":              "region twice",
		"s3://bucket?region=geheim/":                 "region that cannot be one",
		"s3://bucket?endpoint=geheim":                "archive URL has an endpoint that cannot be one",
		"s3://bucket?region=%zzgeheim":               "malformed region",
		"s3://bucket?endpoint=geheim:9000":           "want http://host:port",
		"s3://bucket?endpoint=http://":               "want http://host:port",
		"s3://bucket?endpoint=http://u:geheim@h":     "user name or a password",
		"s3://bucket?endpoint=http://h/geheim":       "must end after host and port",
		"s3://bucket?endpoint=http://h%3Fkey=geheim": "must end after host and port",
		"s3://bucket?path_style=1":                   "want true, false",
		"s3://bucket?credentials=geheim":             "want env, profile",
		"s3://bucket?ca_file=geheim.pem":             "want an absolute path",
		"s3://bucket?profile=geheim%0A":              "control character",
		"s3://bucket?sse=AES":                        "want AES256",
		"s3://bucket?sse_kms_key_id=k":               "without sse=aws:kms",
		"s3://bucket?sse=AES256&sse_kms_key_id=k":    "without sse=aws:kms",
		"s3://bucket?storage_class=DEEP_ARCHIVE":     "cannot be read without waiting",
		"s3://bucket?storage_class=GLACIER":          "cannot be read without waiting",
		"s3://bucket?storage_class=a-b":              "want A-Z",
		"s3://bucket?checksum=md5":                   "want sha256",
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
