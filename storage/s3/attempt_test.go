package s3

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/walrecv/walrecv/storage"
)

// slowLine takes a piece of the content after each pause, and hangs after some.
type slowLine struct {
	pause time.Duration
	hangs int // after so many pieces; 0: never
	tries int
}

func (l *slowLine) Do(req *http.Request) (*http.Response, error) {
	l.tries++
	for n := 1; ; n++ {
		switch _, err := io.ReadFull(req.Body, make([]byte, 1000)); {
		case errors.Is(err, io.EOF):
			return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Etag": {`"x"`}}, Body: http.NoBody, Request: req}, nil
		case err != nil:
			return nil, err
		}
		pause := l.pause
		if n == l.hangs {
			pause = 24 * time.Hour
		}
		select {
		case <-time.After(pause):
		case <-req.Context().Done():
			return nil, req.Context().Err()
		}
	}
}

// A request over a slow line is given as long as it takes; one that hangs is not.
func TestSlowLine(t *testing.T) {
	for _, c := range []struct {
		line  slowLine
		tries int
		hung  bool
	}{
		{slowLine{pause: 50 * time.Second}, 1, false},
		{slowLine{pause: 50 * time.Second, hangs: 7}, 3, true},
		{slowLine{pause: 3 * time.Minute}, 3, true},
	} {
		loc, err := storage.ParseURL("s3://bucket/?endpoint=http://127.0.0.1:1&region=r")
		if err != nil {
			t.Fatal(err)
		}
		store, err := New(t.Context(), loc.S3, Options{Environ: []string{"AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=b"}})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Test(t, func(t *testing.T) {
			r, err := storage.BytesSource(bytes.Repeat([]byte{1}, 100_000)).Open()
			if err != nil {
				t.Fatal(err)
			}
			body, key := &content{r: r, size: 100_000}, "key"
			in := &s3.PutObjectInput{Bucket: &loc.S3.Bucket, Key: &key, Body: body, ContentLength: &body.size}
			line := c.line
			_, err = store.client.PutObject(t.Context(), in, store.header(make([]byte, 32)).option, func(o *s3.Options) { o.HTTPClient = &line })
			var hung *hungError
			if got := errors.As(err, &hung); got != c.hung || !c.hung && err != nil || line.tries != c.tries {
				t.Errorf("%+v: %d tries, %v", c.line, line.tries, err)
			}
		})
	}
}
