package s3

import (
	"testing"

	"github.com/walrecv/walrecv/internal/s3test"
	"github.com/walrecv/walrecv/storage"
	"github.com/walrecv/walrecv/storage/storagetest"
)

func TestConformance(t *testing.T) {
	const page = 100 // so that a few keys are several pages
	storagetest.RunLimited(t, storagetest.Limits{Page: page, Part: 5 << 20}, func(t *testing.T) storage.Store {
		server := s3test.Start(t)
		return at(t, server.URL(""), server.Environ(), Options{page: page, part: 5 << 20})
	})
}
