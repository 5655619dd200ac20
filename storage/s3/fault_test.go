package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/walrecv/walrecv/storage"
)

// keys are those of every test; the secret must not be in any message.
var keys = []string{"AWS_ACCESS_KEY_ID=someone", "AWS_SECRET_ACCESS_KEY=geheim-4711"}

// patient are the usual deadlines without the pauses; quick are some that a test
// can wait for.
var (
	patient = times{answer: defaultTimes.answer, rest: defaultTimes.rest, rate: defaultTimes.rate, pause: time.Millisecond}
	quick   = times{answer: 500 * time.Millisecond, rest: 500 * time.Millisecond, rate: 64 << 10, pause: time.Millisecond}
	// For what hangs and then does not, also on a machine that is busy.
	wary = times{answer: 2 * time.Second, rest: 2 * time.Second, rate: 64 << 10, pause: time.Millisecond}
)

// faulty is an HTTP server that answers as a test says, and counts.
type faulty struct {
	*httptest.Server
	requests atomic.Int32
}

// serve starts one. answer gets the number of the request, from 1.
func serve(t *testing.T, answer func(w http.ResponseWriter, r *http.Request, n int)) *faulty {
	t.Helper()
	f := &faulty{}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := int(f.requests.Add(1))
		answer(w, r, n)
	}))
	t.Cleanup(func() {
		f.CloseClientConnections()
		f.Close()
	})
	return f
}

// store is one in a bucket of that server.
func (f *faulty) store(t *testing.T, deadlines times) *Store {
	t.Helper()
	return newStore(t, storage.S3{Bucket: "bucket", Prefix: "p", Endpoint: f.URL}, Options{Environ: keys, times: deadlines})
}

func newStore(t *testing.T, loc storage.S3, o Options) *Store {
	t.Helper()
	s, err := New(t.Context(), loc, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// errorAnswer is an error as S3 words it.
func errorAnswer(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>%s</Message><RequestId>1</RequestId></Error>`, code, message)
}

// found answers as for a small object.
func found(w http.ResponseWriter) {
	w.Header().Set("ETag", `"e"`)
	w.Header().Set("Content-Type", "binary/octet-stream")
	w.Header().Set("Content-Length", "1")
	_, _ = io.WriteString(w, "x")
}

// calls has one call of each kind.
func calls(ctx context.Context, s *Store) map[string]func() error {
	return map[string]func() error{
		"put":  func() error { return s.Put(ctx, "key", storage.BytesSource([]byte("content"))) },
		"stat": func() error { _, err := s.Stat(ctx, "key"); return err },
		"tail": func() error { _, _, err := s.ReadTail(ctx, "key", 10); return err },
		"open": func() error {
			body, _, err := s.Open(ctx, "key")
			if err == nil {
				_, err = io.ReadAll(body)
				body.Close()
			}
			return err
		},
		"list":   func() error { return s.List(ctx, "a/", func(storage.Info) error { return nil }) },
		"dirs":   func() error { return s.ListDirs(ctx, "a/", func(string) error { return nil }) },
		"delete": func() error { return s.Delete(ctx, "key") },
	}
}

// TestMeanings has what every error of a store means, in one line without a
// secret. Nothing but a missing key is absent.
func TestMeanings(t *testing.T) {
	for name, test := range map[string]struct {
		answer func(w http.ResponseWriter)
		is     error // nil: unknown
		want   string
		tries  int
	}{
		"bucket":       {xml(404, "NoSuchBucket", "The specified bucket does not exist"), storage.ErrNoRoot, "the bucket bucket at http://127.0.0.1:PORT does not exist (NoSuchBucket", 1},
		"denied":       {xml(403, "AccessDenied", "Access Denied"), fs.ErrPermission, "refuses it: the keys lack a right (AccessDenied: Access Denied, HTTP 403)", 1},
		"bare 403":     {func(w http.ResponseWriter) { w.WriteHeader(403) }, fs.ErrPermission, "the keys lack a right", 1},
		"wrong key":    {xml(403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records."), fs.ErrPermission, "the keys for bucket bucket at http://127.0.0.1:PORT are wrong", 1},
		"wrong secret": {xml(403, "SignatureDoesNotMatch", "no match"), fs.ErrPermission, "are wrong", 1},
		"expired":      {xml(400, "ExpiredToken", "The provided token has expired."), fs.ErrPermission, "have expired: renew them (ExpiredToken", 1},
		"clock":        {xml(403, "RequestTimeTooSkewed", "The difference is too large"), nil, "the clock of this host and that of bucket bucket at http://127.0.0.1:PORT differ too much", 0},
		"region": {func(w http.ResponseWriter) {
			w.Header().Set("X-Amz-Bucket-Region", "eu-west-7")
			errorAnswer(w, 301, "PermanentRedirect", "use another endpoint")
		}, storage.ErrSetup, "is not in this region: it is in eu-west-7; correct region= in the archive URL", 1},
		"signed for another region": {xml(400, "AuthorizationHeaderMalformed", "the region is wrong; expecting eu"), storage.ErrSetup, "expecting eu", 1},
		"500":                       {xml(500, "InternalError", "We encountered an internal error."), nil, "InternalError: We encountered an internal error., HTTP 500", 3},
		"503":                       {xml(503, "SlowDown", "Please reduce your request rate."), nil, "SlowDown", 3},
		"502 page":                  {func(w http.ResponseWriter) { page(w, 502) }, nil, "502", 3},
		"page":                      {func(w http.ResponseWriter) { page(w, 200) }, storage.ErrSetup, "does not speak S3: a web page came back (200 OK); is the endpoint right?", 1},
		"404 page":                  {func(w http.ResponseWriter) { page(w, 404) }, storage.ErrSetup, "does not speak S3", 1},
		"bare 404":                  {func(w http.ResponseWriter) { w.WriteHeader(404) }, storage.ErrSetup, "does not speak S3", 1},
		"JSON 404": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(404)
			_, _ = io.WriteString(w, `{"error":"not found"}`)
		}, storage.ErrSetup, "does not speak S3", 1},
		"long": {xml(400, "Odd", strings.Repeat("many words\n", 1000)), nil, "many words many words", 1},
	} {
		t.Run(name, func(t *testing.T) {
			f := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) { test.answer(w) })
			for call, do := range calls(t.Context(), f.store(t, patient)) {
				f.requests.Store(0)
				err := do()
				checkError(t, call, err, test.is)
				want := strings.ReplaceAll(test.want, "http://127.0.0.1:PORT", f.URL)
				if err != nil && !strings.Contains(err.Error(), want) {
					t.Errorf("%s: %q, want %q in it", call, err, want)
				}
				if n := int(f.requests.Load()); test.tries > 0 && n != test.tries {
					t.Errorf("%s: %d tries, want %d", call, n, test.tries)
				}
			}
		})
	}
}

func xml(status int, code, message string) func(w http.ResponseWriter) {
	return func(w http.ResponseWriter) { errorAnswer(w, status, code, message) }
}

func page(w http.ResponseWriter, status int) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("ETag", `"page"`)
	w.WriteHeader(status)
	_, _ = io.WriteString(w, "<html><body>Welcome! Please log in.</body></html>")
}

// checkError wants an error with one meaning, or none, in one line.
func checkError(t *testing.T, what string, err, is error) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: no error", what)
		return
	}
	for _, meaning := range []error{fs.ErrNotExist, fs.ErrExist, fs.ErrPermission, storage.ErrNoRoot, storage.ErrSetup, storage.ErrUnsafe} {
		if errors.Is(err, meaning) != (meaning == is) {
			t.Errorf("%s: %q is %v: %v", what, err, meaning, errors.Is(err, meaning))
		}
	}
	if text := err.Error(); strings.ContainsAny(text, "\r\n") || len(text) > 500 || strings.Contains(text, "geheim") {
		t.Errorf("%s: a bad line for an operator: %q", what, text)
	}
}

// refusing is an address at which nobody listens, and will not: it is taken.
func refusing(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	in4, ok := name.(*syscall.SockaddrInet4)
	if !ok {
		t.Fatalf("bound to %v", name)
	}
	return fmt.Sprintf("127.0.0.1:%d", in4.Port)
}

// TestNoAnswer has the words for a store that is not there.
func TestNoAnswer(t *testing.T) {
	gone := refusing(t)
	cut := serve(t, func(http.ResponseWriter, *http.Request, int) { panic(http.ErrAbortHandler) })
	for url, want := range map[string]string{
		"http://" + gone: "stat key: no answer from bucket bucket at http://" + gone + ": dial tcp " + gone + ": connect: connection refused",
		cut.URL:          "stat key: no answer from bucket bucket at " + cut.URL + ": it closed the connection",
	} {
		s := newStore(t, storage.S3{Bucket: "bucket", Endpoint: url}, Options{Environ: keys, times: patient})
		for range 150 { // also when the patience of the SDK is used up
			if _, err := s.Stat(t.Context(), "key"); err == nil || err.Error() != want {
				t.Fatalf("%v, want %s", err, want)
			}
		}
	}
}

// TestAbsent: a key is absent only where its store says so by name.
func TestAbsent(t *testing.T) {
	f := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) {
		errorAnswer(w, 404, "NoSuchKey", "The specified key does not exist.")
	})
	all := calls(t.Context(), f.store(t, patient))
	for _, call := range []string{"open", "stat", "tail"} {
		if err := all[call](); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", call, err)
		}
	}
	for _, call := range []string{"list", "dirs"} { // of which there is always one
		checkError(t, call, all[call](), storage.ErrSetup)
	}
	if err := all["delete"](); err != nil {
		t.Errorf("delete: %v", err)
	}
	checkError(t, "put", all["put"](), storage.ErrSetup)
}

// TestPassingTrouble: what passes within three tries nobody hears of.
func TestPassingTrouble(t *testing.T) {
	t.Parallel()
	var all sync.WaitGroup
	for name, trouble := range map[string]func(w http.ResponseWriter, r *http.Request){
		"500":      func(w http.ResponseWriter, _ *http.Request) { errorAnswer(w, 500, "InternalError", "") },
		"503":      func(w http.ResponseWriter, _ *http.Request) { errorAnswer(w, 503, "SlowDown", "") },
		"conflict": func(w http.ResponseWriter, _ *http.Request) { errorAnswer(w, 409, "ConditionalRequestConflict", "") },
		"reset":    func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"hung":     func(_ http.ResponseWriter, r *http.Request) { hang(r) },
	} {
		for _, call := range []string{"put", "open", "stat"} {
			f := serve(t, func(w http.ResponseWriter, r *http.Request, n int) {
				if n <= 2 {
					trouble(w, r)
					return
				}
				if body, _ := io.ReadAll(r.Body); r.Method == http.MethodPut && string(body) != "content" {
					t.Errorf("%s: try %d sends %q", name, n, body)
				}
				found(w)
			})
			deadlines := patient
			if name == "hung" {
				deadlines = wary
			}
			do := calls(t.Context(), f.store(t, deadlines))[call]
			all.Go(func() {
				if err := do(); err != nil {
					t.Errorf("%s, %s: %v", name, call, err)
				}
			})
		}
	}
	all.Wait()
}

// hang takes a request and does not answer. The server notices that the client
// has gone only once the body was read.
func hang(r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

// TestHanging: every call ends, wherever the store stops.
func TestHanging(t *testing.T) {
	t.Parallel()
	var all sync.WaitGroup
	for name, answer := range map[string]func(w http.ResponseWriter, r *http.Request){
		"before the answer": func(_ http.ResponseWriter, r *http.Request) { hang(r) },
		"in the answer": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", `"e"`)
			w.Header().Set("Content-Length", "1")
			w.Header().Set("Content-Range", "bytes 0-0/1")
			w.Header().Set("Content-Type", "application/xml")
			w.WriteHeader(206)
			_ = http.NewResponseController(w).Flush()
			hang(r)
		},
	} {
		for call := range calls(t.Context(), nil) {
			if name == "in the answer" && (call == "put" || call == "delete") {
				continue // the head of the answer is all they need
			}
			f := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) { answer(w, r) })
			do := calls(t.Context(), f.store(t, quick))[call]
			all.Go(func() { checkError(t, call+" "+name, do(), nil) })
		}
	}
	all.Wait()
}

// TestStuckUpload: a store that takes no more of what is sent.
func TestStuckUpload(t *testing.T) {
	t.Parallel()
	stop := make(chan struct{})
	f := serve(t, func(http.ResponseWriter, *http.Request, int) { <-stop }) // reads nothing
	t.Cleanup(func() { close(stop) })
	s := newStore(t, storage.S3{Bucket: "bucket", Endpoint: f.URL},
		Options{Environ: keys, times: times{answer: 50 * time.Millisecond, rest: 50 * time.Millisecond, rate: 1 << 30, pause: time.Millisecond}})
	err := s.Put(t.Context(), "key", storage.BytesSource(make([]byte, 32<<20)))
	checkError(t, "put", err, nil)
	if err == nil || !strings.Contains(err.Error(), "no answer within 100ms") {
		t.Errorf("%v", err)
	}
}

// TestCutBody: an object never ends early as if that were all.
func TestCutBody(t *testing.T) {
	f := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) {
		w.Header().Set("ETag", `"e"`)
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, strings.Repeat("x", 500))
	})
	body, info, err := f.store(t, patient).Open(t.Context(), "key")
	if err != nil || info.Size != 1000 {
		t.Fatal(info, err)
	}
	defer body.Close()
	if data, err := io.ReadAll(body); len(data) != 500 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%d bytes, %v", len(data), err)
	}
	_, _, err = f.store(t, patient).ReadTail(t.Context(), "key", 1000)
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("tail: %v", err)
	}
}

// slow is a body that gives one byte after some time, until its context ends.
type slow struct {
	ctx  context.Context
	time time.Duration
	left int
}

func (s *slow) Read(p []byte) (int, error) {
	timer := time.NewTimer(s.time)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.ctx.Done():
		return 0, s.ctx.Err()
	}
	if s.left--; s.left < 0 {
		return 0, io.EOF
	}
	return copy(p, "x"), nil
}

func (*slow) Close() error { return nil }

// TestSlowBody: a store may be slow, as long as something comes; and the user of
// a body may take its time.
func TestSlowBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const stall = 30 * time.Second
		open := func(each time.Duration) *body {
			ctx, cancel := context.WithCancelCause(t.Context())
			inner := &slow{ctx: ctx, time: each, left: 10}
			return newBody(ctx, cancel, inner, storage.Info{Key: "key", Size: 10}, stall)
		}
		b := open(stall - time.Second)
		if _, err := io.ReadFull(b, make([]byte, 9)); err != nil {
			t.Error(err)
		}
		time.Sleep(10 * stall)
		if rest, err := io.ReadAll(b); string(rest) != "x" || err != nil {
			t.Errorf("%q, %v", rest, err)
		}
		b.Close()
		time.Sleep(10 * stall) // nothing goes off afterwards

		b = open(stall + time.Second)
		began := time.Now()
		_, err := b.Read(make([]byte, 1))
		checkError(t, "read", err, nil)
		if err == nil || err.Error() != "read key: nothing came for 30s" || time.Since(began) != stall {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		b.Close()
	})
}

// TestOddListings are answers that must not pass for a short listing.
func TestOddListings(t *testing.T) {
	const head, tail = `<?xml version="1.0"?><ListBucketResult><Name>bucket</Name><KeyCount>2</KeyCount>`, `</ListBucketResult>`
	for name, answer := range map[string]string{
		"another document": `<?xml version="1.0"?><Hello/>`,
		"nothing":          "",
		"JSON":             `{"keys":[]}`,
		"cut":              head + `<Contents><Key>p/a/1</Key><Size>1</Size></Contents>`,
		"not in order":     head + `<Contents><Key>p/a/2</Key><Size>1</Size></Contents><Contents><Key>p/a/1</Key><Size>1</Size></Contents>` + tail,
		"twice the same":   head + `<Contents><Key>p/a/1</Key><Size>1</Size></Contents><Contents><Key>p/a/1</Key><Size>1</Size></Contents>` + tail,
		"without size":     head + `<Contents><Key>p/a/1</Key></Contents>` + tail,
		"without an end":   head + `<IsTruncated>true</IsTruncated>` + tail,
	} {
		f := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) {
			w.Header().Set("Content-Type", "application/xml")
			_, _ = io.WriteString(w, answer)
		})
		err := f.store(t, patient).List(t.Context(), "a/", func(storage.Info) error { return nil })
		checkError(t, name, err, storage.ErrSetup)
	}
	// What others have put there is passed over.
	f := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) {
		_, _ = io.WriteString(w, head+`<Contents><Key>p/a/</Key><Size>0</Size></Contents><Contents><Key>p/a/1</Key><Size>7</Size></Contents>`+
			`<Contents><Key>p/a/b c</Key><Size>1</Size></Contents><CommonPrefixes><Prefix>p/a/b c/</Prefix></CommonPrefixes>`+
			`<CommonPrefixes><Prefix>p/a/d/</Prefix></CommonPrefixes>`+tail)
	})
	var got []string
	if err := f.store(t, patient).List(t.Context(), "a/", func(i storage.Info) error { got = append(got, fmt.Sprint(i.Key, " ", i.Size)); return nil }); err != nil {
		t.Error(err)
	}
	if err := f.store(t, patient).ListDirs(t.Context(), "a/", func(name string) error { got = append(got, name); return nil }); err != nil {
		t.Error(err)
	}
	if want := "[a/1 7 d]"; fmt.Sprint(got) != want {
		t.Errorf("%v, want %s", got, want)
	}
}
