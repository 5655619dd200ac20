package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/s3test"
	"github.com/walrecv/walrecv/storage"
)

// bucket is an HTTP server that takes uploads and keeps nothing of them.
type bucket struct {
	*faulty
	// fault answers in the place of the bucket, if it returns true. It gets the
	// operation: "look", "create", "part", "complete", "abort" or "put".
	fault func(operation string, w http.ResponseWriter, r *http.Request) bool

	mu     sync.Mutex
	header map[string]http.Header // the last one of each operation, "part2" for one of a part
	count  map[string]int
	sizes  []int64 // of parts, in the order in which they ended
}

func serveUploads(t *testing.T) *bucket {
	t.Helper()
	b := &bucket{header: map[string]http.Header{}, count: map[string]int{}}
	b.faulty = serve(t, b.answer)
	return b
}

func (b *bucket) answer(w http.ResponseWriter, r *http.Request, _ int) {
	operation := b.note(r)
	if b.fault != nil && b.fault(operation, w, r) {
		return
	}
	n, _ := io.Copy(io.Discard, r.Body)
	w.Header().Set("ETag", `"e"`)
	switch operation {
	case "look":
		errorAnswer(w, http.StatusNotFound, "NoSuchKey", "")
	case "create":
		document(w, "<InitiateMultipartUploadResult><UploadId>the-upload</UploadId></InitiateMultipartUploadResult>")
	case "part":
		b.mu.Lock()
		defer b.mu.Unlock()
		b.sizes = append(b.sizes, n)
	case "complete":
		document(w, `<CompleteMultipartUploadResult><ETag>"e-2"</ETag></CompleteMultipartUploadResult>`)
	case "abort":
		w.WriteHeader(http.StatusNoContent)
	}
}

func document(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "application/xml")
	_, _ = io.WriteString(w, `<?xml version="1.0"?>`+text)
}

func (b *bucket) note(r *http.Request) string {
	operation, query := "put", r.URL.Query()
	switch {
	case r.Method == http.MethodGet:
		operation = "look"
	case r.Method == http.MethodDelete:
		operation = "abort"
	case query.Has("uploads"):
		operation = "create"
	case query.Has("partNumber"):
		operation = "part"
	case query.Has("uploadId"):
		operation = "complete"
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.header[operation+query.Get("partNumber")] = r.Header
	b.count[operation]++
	return operation
}

func (b *bucket) counted(operation string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.count[operation]
}

// small is a store whose parts are small.
func (b *bucket) small(t *testing.T, deadlines times) *Store {
	t.Helper()
	return newStore(t, storage.S3{Bucket: "bucket", Endpoint: b.URL}, Options{Environ: keys, times: deadlines, part: 1000})
}

// TestUploadHeaders are what a location asks of a store, of an upload as of a Put.
func TestUploadHeaders(t *testing.T) {
	b := serveUploads(t)
	loc := storage.S3{Bucket: "bucket", Endpoint: b.URL, SSE: "aws:kms", KMSKeyID: "the-key", StorageClass: "STANDARD_IA"}
	s := newStore(t, loc, Options{Environ: keys, part: 3, Classed: func(key string) bool { return key == "large" }})
	for _, key := range []string{"large", "other"} {
		if err := uploadAll(t.Context(), s, key, []byte("abcx")); err != nil {
			t.Fatal(err)
		}
		class := map[string]string{"large": "STANDARD_IA"}[key]
		for operation, want := range map[string]map[string]string{
			"create": {
				"X-Amz-Server-Side-Encryption": "aws:kms", "X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id": "the-key",
				"X-Amz-Storage-Class": class, "X-Amz-Checksum-Algorithm": "SHA256",
			},
			"part2": { // which is "x"
				"X-Amz-Checksum-Sha256": "LXEWQrcmsEQBYnyp+6wy9chTD7GQPMTbAiWHF5IaSIE=",
				"X-Amz-Content-Sha256":  "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881",
				"Content-Encoding":      "", "Expect": "",
			},
			"complete": {"If-None-Match": "*"},
		} {
			for name, want := range want {
				if got := b.header[operation].Get(name); got != want {
					t.Errorf("%s: %s: %s is %q, want %q", key, operation, name, got, want)
				}
			}
		}
	}
}

// TestInsists: a part is tried for longer than a request, since nobody has it any
// more; but not where that is of no use.
func TestInsists(t *testing.T) {
	insisting := patient
	insisting.insist = time.Minute
	passing := map[string]func(http.ResponseWriter){
		"503": xml(503, "SlowDown", ""), "500": xml(500, "InternalError", ""), "bad digest": xml(400, "BadDigest", ""),
		"cut": func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
	}
	for name, trouble := range passing {
		for _, operation := range []string{"create", "part", "complete"} {
			b := serveUploads(t)
			b.fault = func(now string, w http.ResponseWriter, r *http.Request) bool {
				if now != operation || b.counted(operation) > 8 {
					return false
				}
				_, _ = io.Copy(io.Discard, r.Body)
				trouble(w)
				return true
			}
			if err := uploadAll(t.Context(), b.small(t, insisting), "key", make([]byte, 1500)); err != nil {
				t.Errorf("%s in %s: %v", name, operation, err)
			}
		}
	}
	for name, test := range map[string]struct {
		trouble func(http.ResponseWriter)
		want    error
	}{
		"forbidden": {xml(403, "AccessDenied", ""), fs.ErrPermission},
		"no bucket": {xml(404, "NoSuchBucket", ""), storage.ErrNoRoot},
		"no upload": {xml(404, "NoSuchUpload", ""), nil},
		"page":      {func(w http.ResponseWriter) { page(w, 200) }, storage.ErrSetup},
		"odd":       {xml(400, "InvalidPart", ""), nil},
	} {
		for _, operation := range []string{"create", "part", "complete"} {
			b := serveUploads(t)
			b.fault = func(now string, w http.ResponseWriter, r *http.Request) bool {
				if now == operation {
					_, _ = io.Copy(io.Discard, r.Body)
					test.trouble(w)
				}
				return now == operation
			}
			u, err := b.small(t, insisting).Create(t.Context(), "key")
			if err != nil {
				t.Fatal(err)
			}
			if _, err = u.Write(make([]byte, 1500)); err == nil {
				err = u.Commit()
			}
			checkError(t, name+" in "+operation, err, test.want)
			if err := u.Abort(); err != nil {
				t.Errorf("%s in %s: abort: %v", name, operation, err)
			}
			if aborted := b.counted("abort") == 1; aborted != (operation != "create") {
				t.Errorf("%s in %s: aborted: %v", name, operation, aborted)
			}
		}
	}
}

// TestUploadHangs: every step of an upload ends with its deadline, and with its
// context; what was begun is aborted all the same.
func TestUploadHangs(t *testing.T) {
	t.Parallel()
	var all sync.WaitGroup
	for _, operation := range []string{"look", "create", "part", "complete"} {
		for _, cancelled := range []bool{false, true} {
			b := serveUploads(t)
			ctx, cancel := context.WithCancel(t.Context())
			b.fault = func(now string, _ http.ResponseWriter, r *http.Request) bool {
				if now != operation {
					return false
				}
				if cancelled {
					cancel()
				}
				hang(r)
				return true
			}
			deadlines := quick
			if cancelled {
				deadlines = patient
			}
			s := b.small(t, deadlines)
			all.Go(func() {
				defer cancel()
				u, err := s.Create(ctx, "key")
				if err != nil {
					t.Error(err)
					return
				}
				if _, err = u.Write(make([]byte, 1500)); err == nil {
					err = u.Commit()
				}
				checkError(t, operation, err, nil)
				if errors.Is(err, context.Canceled) != cancelled {
					t.Errorf("%s: %v", operation, err)
				}
				if err := u.Abort(); err != nil {
					t.Errorf("%s: abort: %v", operation, err)
				}
				begun := operation == "part" || operation == "complete"
				if n := b.counted("abort"); begun != (n == 1) {
					t.Errorf("%s hangs: aborted %d times", operation, n)
				}
			})
		}
	}
	all.Wait()
}

// TestUploadMemory: the parts in memory are few, however large the objects are, and
// however slow the store is.
func TestUploadMemory(t *testing.T) {
	const size, most = 10 * partSize, (2 + partsAtOnce + 2) * partSize
	b := serveUploads(t)
	var now, peak atomic.Int32
	full := make(chan struct{})
	b.fault = func(operation string, _ http.ResponseWriter, _ *http.Request) bool {
		if operation == "part" {
			if n := now.Add(1); n > peak.Load() {
				peak.Store(n)
				if n == partsAtOnce {
					close(full)
				}
			}
			<-full // so that as many are on their way as there can be
			now.Add(-1)
		}
		return false
	}
	s := b.store(t, patient)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var both sync.WaitGroup
	for _, key := range []string{"a", "b"} {
		both.Go(func() {
			u, err := s.Create(t.Context(), key)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = u.Abort() }()
			if _, err := io.CopyN(u, unclosed{io.NewSectionReader(zeros(0), 0, size)}, size); err != nil {
				t.Error(err)
			}
			if err := u.Commit(); err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > most {
		t.Errorf("%d bytes were allocated for two objects of %d", used, size)
	}
	if n := peak.Load(); n > partsAtOnce {
		t.Errorf("%d parts were on their way at once", n)
	}
}

// TestPartSizes: what a store takes of an object can be had, and no more is sent.
func TestPartSizes(t *testing.T) {
	const smallest, largest, object = 5 << 20, 5 << 30, 5 << 40 // of S3
	s, sum := &Store{}, int64(0)
	for n := 1; n <= partsMost; n++ {
		size := s.partSize(n)
		if size < smallest || size > largest {
			t.Fatalf("part %d has %d bytes", n, size)
		}
		sum += size
	}
	if sum < object {
		t.Errorf("an object can have %d bytes only", sum)
	}
	b := serveUploads(t)
	s = newStore(t, storage.S3{Bucket: "bucket", Endpoint: b.URL}, Options{Environ: keys, times: patient, part: 10})
	size := 10*partsOfASize + 2*20 + 5
	if err := uploadAll(t.Context(), s, "key", make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	got := map[int64]int{}
	for _, n := range b.sizes {
		got[n]++
	}
	if want := map[int64]int{10: partsOfASize, 20: 2, 5: 1}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("parts by size: %v, want %v", got, want)
	}
	p := &parts{store: s, key: "key", sent: make([]*finished, partsMost)}
	checkError(t, "one part too many", p.send(nil), nil)
}

// TestUnsafeUploads has a store that ignores conditions, and one that refuses them.
func TestUnsafeUploads(t *testing.T) {
	p := s3test.Start(t).Proxy(t)
	p.IgnoreConditions(true)
	careful := at(t, p.URL("x"), p.Environ(), Options{Unsafe: true, part: smallestPart})
	data, other := twoParts(5), []byte("other")
	for _, first := range [][]byte{data[:100], data} {
		key := fmt.Sprint("key-", len(first))
		u := begin(t, careful, key, first)
		if err := putText(t, careful, key, string(other)); err != nil {
			t.Fatal(err)
		}
		if err := u.Commit(); !errors.Is(err, fs.ErrExist) || !holds(t, careful, key, other) {
			t.Errorf("%d bytes: %v, want fs.ErrExist", len(first), err)
		}
	}
	for name, refuse := range map[string]func(w http.ResponseWriter){
		"501": xml(501, "NotImplemented", "A header you provided implies functionality that is not implemented."),
		"400": xml(400, "InvalidArgument", "unsupported header If-None-Match"),
	} {
		b := serveUploads(t)
		b.fault = func(_ string, w http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("If-None-Match") == "" {
				return false
			}
			refuse(w)
			return true
		}
		checkError(t, name, uploadAll(t.Context(), b.small(t, patient), "key", make([]byte, 1500)), storage.ErrUnsafe)
		s := newStore(t, storage.S3{Bucket: "bucket", Endpoint: b.URL}, Options{Environ: keys, Unsafe: true, times: patient, part: 1000})
		for _, size := range []int{10, 1500} {
			s.noConditions.Store(false)
			if err := uploadAll(t.Context(), s, "key", make([]byte, size)); err != nil {
				t.Errorf("%s: %d bytes: %v", name, size, err)
			}
		}
	}
}
