package s3_test

import (
	"testing"

	"github.com/walrecv/walrecv/internal/s3test"
	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/s3"
	"github.com/walrecv/walrecv/storage/storagetest"
)

// open opens the store at an archive URL with the keys in environ.
func open(t testing.TB, url string, environ []string, o s3.Options) *s3.Store {
	t.Helper()
	loc, err := storage.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	o.Environ = environ
	s, err := s3.New(t.Context(), loc.S3, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConformance(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storage.Store {
		server := s3test.Start(t)
		return open(t, server.URL(""), server.Environ(), s3.Options{})
	})
}
