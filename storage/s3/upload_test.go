package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/s3test"
	"github.com/walrecv/walrecv/storage"
)

// smallestPart is what every store takes, in bytes.
const smallestPart = 5 << 20

// twoParts is content that is one part and a bit.
func twoParts(seed byte) []byte {
	data := make([]byte, smallestPart+1000)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(data) // never fails
	return data
}

// begin writes all of an upload, without its end.
func begin(t *testing.T, s *Store, key string, data []byte) storage.Upload {
	t.Helper()
	u, err := s.Create(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = u.Abort() })
	if _, err := u.Write(data); err != nil {
		t.Fatal(err)
	}
	return u
}

// uploadAll writes an object and returns the first error.
func uploadAll(ctx context.Context, s *Store, key string, data []byte) error {
	u, err := s.Create(ctx, key)
	if err != nil {
		return err
	}
	_, err = u.Write(data)
	if err == nil {
		err = u.Commit()
	}
	return errors.Join(err, u.Abort())
}

// holds reports whether an object is there and has certain bytes.
func holds(t *testing.T, s *Store, key string, data []byte) bool {
	t.Helper()
	body, _, err := s.Open(t.Context(), key)
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	got, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Equal(got, data)
}

// expectNoUploads fails if a store keeps parts of an object that is none.
func expectNoUploads(t *testing.T, s *Store, when string) {
	t.Helper()
	if n, err := s.Sweep(t.Context(), time.Now().Add(time.Hour)); n != 0 || err != nil {
		t.Errorf("%s: %d uploads are left, %v", when, n, err)
	}
}

func TestUploadRequests(t *testing.T) {
	p := s3test.Start(t).Proxy(t)
	s := at(t, p.URL("x"), p.Environ(), Options{part: smallestPart})
	for size, want := range map[int]string{
		0:                "map[PutObject:1]",
		smallestPart:     "map[PutObject:1]",
		smallestPart + 1: "map[CompleteUpload:1 CreateUpload:1 GetObject:1 UploadPart:2]",
	} {
		p.ResetCounts()
		if err := uploadAll(t.Context(), s, fmt.Sprint("size-", size), make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(p.Counts()); got != want {
			t.Errorf("%d bytes: %s, want %s", size, got, want)
		}
	}
}

// TestUploadWithEveryFault loses each request of an upload, or its answer, once and
// for good. Once nobody hears of it, whatever it was; for good it is an error, the
// object is whole or absent, and nothing else is left.
func TestUploadWithEveryFault(t *testing.T) {
	server := s3test.Start(t)
	clean := at(t, server.URL("x"), server.Environ(), Options{})
	data, last := twoParts(1), 0
	for k := 1; last == 0; k++ {
		for _, when := range []s3test.When{s3test.Before, s3test.After} {
			for _, times := range []int{1, 3} {
				if times == 1 && when == s3test.Before {
					continue // another try, as of every request
				}
				p := server.Proxy(t)
				s := at(t, p.URL("x"), p.Environ(), Options{part: smallestPart})
				for i := range times {
					p.FailAt(k+i, when)
				}
				key := fmt.Sprintf("key-%d-%d-%d", k, when, times)
				err := uploadAll(t.Context(), s, key, data)
				if p.Total() < k {
					last = k
				}
				what := fmt.Sprintf("request %d, after %v, %d times", k, when == s3test.After, times)
				if errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) || err != nil && times == 1 {
					t.Errorf("%s: %v", what, err)
				}
				if there := holds(t, clean, key, data); err == nil && !there {
					t.Errorf("%s: the object is there: %v", what, there)
				}
				expectNoUploadsBut(t, clean, what, when == s3test.After && k == 2)
			}
		}
	}
	if last != 6 {
		t.Errorf("there are %d requests in an upload", last-1)
	}
}

// expectNoUploadsBut is expectNoUploads, except where the answer with the name of an
// upload was lost, which nobody can abort then.
func expectNoUploadsBut(t *testing.T, s *Store, when string, lost bool) {
	t.Helper()
	n, err := s.Sweep(t.Context(), time.Now().Add(time.Hour))
	if err != nil || n > 0 && !lost {
		t.Errorf("%s: %d uploads are left, %v", when, n, err)
	}
}

// TestLostEnd: an object is found to be the own one, or another's, when the answer
// about it was lost.
func TestLostEnd(t *testing.T) {
	server := s3test.Start(t)
	clean := at(t, server.URL("x"), server.Environ(), Options{})
	large, other := twoParts(1), twoParts(2)
	for name, test := range map[string]struct {
		data   []byte
		others []byte // what somebody else puts before the end; nil: nothing
		when   s3test.When
		times  int
		want   error
	}{
		"small, once":                {[]byte("small"), nil, s3test.After, 1, nil},
		"small, three times":         {[]byte("small"), nil, s3test.After, 3, nil},
		"small, of another":          {[]byte("small"), []byte("other"), s3test.Before, 1, fs.ErrExist},
		"large, once":                {large, nil, s3test.After, 1, nil},
		"large, three times":         {large, nil, s3test.After, 3, nil},
		"large, of another":          {large, other, s3test.Before, 1, fs.ErrExist},
		"large, of another size":     {large, other[1:], s3test.Before, 1, fs.ErrExist},
		"large, of another, at once": {large, other, s3test.Before, 0, fs.ErrExist},
	} {
		p := server.Proxy(t)
		s := at(t, p.URL("x"), p.Environ(), Options{part: smallestPart})
		key := fmt.Sprintf("key-%d-%d-%d", len(test.data), len(test.others), test.times)
		u, first := begin(t, s, key, test.data), 1
		if len(test.data) > smallestPart {
			awaitParts(p, 1)
			first = 2 // the last part comes before it
		}
		for i := range test.times {
			p.FailAt(first+i, test.when)
		}
		want := test.data
		if test.others != nil {
			want = test.others
			if err := clean.Put(t.Context(), key, storage.BytesSource(want)); err != nil {
				t.Fatal(err)
			}
		}
		if err := u.Commit(); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
		if !holds(t, clean, key, want) {
			t.Errorf("%s: the object is not the one", name)
		}
		if err := u.Abort(); err != nil {
			t.Errorf("%s: abort: %v", name, err)
		}
		expectNoUploads(t, clean, name)
	}
}

// awaitParts waits until so many parts have come.
func awaitParts(p *s3test.Proxy, n int) {
	for p.Counts()["UploadPart"] < n {
		time.Sleep(time.Millisecond)
	}
}

// TestUploadChecksums: of every kind of digest the store finds that it is right, part
// by part, also for a bucket with object lock.
func TestUploadChecksums(t *testing.T) {
	server := s3test.StartLocked(t)
	data := twoParts(3)
	for _, kind := range storage.S3Checksums {
		s := at(t, server.URL("x")+"&checksum="+kind, server.Environ(), Options{part: smallestPart})
		if err := uploadAll(t.Context(), s, kind, data); err != nil || !holds(t, s, kind, data) {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// TestSweepUploads removes what is old, below the prefix, and of this program.
func TestSweepUploads(t *testing.T) {
	server := s3test.Start(t)
	ours := func(key string) bool { return key != "theirs" }
	s := at(t, server.URL("x"), server.Environ(), Options{part: smallestPart, page: 1, Ours: ours})
	outside := at(t, server.URL("xx"), server.Environ(), Options{part: smallestPart})
	data := twoParts(4)
	left := []storage.Upload{begin(t, s, "a", data), begin(t, s, "b/c", data)}
	kept := []storage.Upload{begin(t, s, "theirs", data), begin(t, outside, "a", data)}
	if n, err := s.Sweep(t.Context(), time.Now().Add(-24*time.Hour)); n != 0 || err != nil {
		t.Errorf("of what is new %d uploads go, %v", n, err)
	}
	if n, err := s.Sweep(t.Context(), time.Now().Add(time.Hour)); n != len(left) || err != nil {
		t.Errorf("%d uploads go, %v; want %d", n, err, len(left))
	}
	for _, u := range left {
		checkError(t, "an upload that was swept away", u.Commit(), nil)
	}
	for _, u := range kept {
		if err := u.Commit(); err != nil {
			t.Errorf("an upload of others: %v", err)
		}
	}
	empty := at(t, server.URL("nothing"), server.Environ(), Options{})
	expectNoUploads(t, empty, "an empty prefix")
}
