package s3test

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// put stores an object at an endpoint.
func put(s *Server, endpoint, key string) error {
	return request(context.Background(), endpoint, s.Keys, http.MethodPut, "/"+s.Bucket+"/"+key, []byte(key))
}

func TestServer(t *testing.T) {
	s, other := Start(t), Start(t)
	if s.Bucket == other.Bucket || s.Endpoint != other.Endpoint {
		t.Errorf("%+v and %+v", s, other)
	}
	if err := put(s, s.Endpoint, "a/b"); err != nil {
		t.Fatal(err)
	}
	if got := s.Objects(t); len(got) != 1 || got[0] != "a/b" {
		t.Errorf("there is %v", got)
	}
	if data, err := os.ReadFile(s.Path("a/b")); err != nil || string(data) != "a/b" {
		t.Errorf("on disk: %q, %v", data, err)
	}
	if got := other.Objects(t); len(got) != 0 {
		t.Errorf("the other bucket has %v", got)
	}
	if err := request(t.Context(), s.Endpoint, Keys{"nobody", "knows"}, http.MethodGet, "/", nil); err == nil {
		t.Error("wrong keys are taken")
	}
}

func TestProxy(t *testing.T) {
	s := Start(t)
	p := s.Proxy(t)
	p.FailAt(1, Before)
	p.FailAt(2, After)
	for _, key := range []string{"1", "2"} {
		if err := put(s, p.Endpoint, key); err == nil {
			t.Errorf("request %s does not fail", key)
		}
	}
	if err := put(s, p.Endpoint, "3"); err != nil {
		t.Error(err)
	}
	if got := strings.Join(s.Objects(t), " "); got != "2 3" {
		t.Errorf("there is %s, want what failed after its effect and what did not", got)
	}
	p.SetLatency(50 * time.Millisecond)
	began := time.Now()
	if err := put(s, p.Endpoint, "4"); err != nil || time.Since(began) < 50*time.Millisecond {
		t.Errorf("%v after %v", err, time.Since(began))
	}
	p.SetOutage(Refuse)
	if err := put(s, p.Endpoint, "5"); err == nil {
		t.Error("there is no outage")
	}
	p.SetOutage(Hang)
	hung := make(chan error, 1)
	go func() { hung <- put(s, p.Endpoint, "6") }()
	for p.Total() < 6 {
		time.Sleep(time.Millisecond)
	}
	p.SetOutage(None)
	if err := <-hung; err == nil {
		t.Error("a request that hung was answered")
	}
	if err := put(s, p.Endpoint, "7"); err != nil {
		t.Error(err)
	}
	if got := p.Counts(); len(got) != 1 || got["PutObject"] != 7 {
		t.Errorf("counted %v", got)
	}
	p.ResetCounts()
	if p.Total() != 0 {
		t.Error("the counts stay")
	}
}

func TestProxyIgnoresConditions(t *testing.T) {
	s := Start(t)
	p := s.Proxy(t)
	conditional := func() int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, p.Endpoint+"/"+s.Bucket+"/key", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("If-None-Match", "*")
		if err := sign(req, s.Keys, payloadHash([]byte("x"))); err != nil {
			t.Fatal(err)
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	if first, second := conditional(), conditional(); first != 200 || second != 412 {
		t.Errorf("%d, then %d", first, second)
	}
	p.IgnoreConditions(true)
	if third := conditional(); third != 200 {
		t.Errorf("%d without conditions", third)
	}
}

// TestNothingIsLeft kills a test process and looks for its server and directory.
func TestNothingIsLeft(t *testing.T) {
	if dir := os.Getenv("S3TEST_TELL"); dir != "" {
		s := Start(t)
		if err := os.WriteFile(filepath.Join(dir, "told"), []byte(s.dir+"\n"+s.Endpoint), 0o600); err != nil {
			t.Fatal(err)
		}
		select {} // until it is killed
	}
	dir := t.TempDir()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestNothingIsLeft$")
	child.Env = append(os.Environ(), "S3TEST_TELL="+dir)
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var told string
	within(t, func() bool {
		data, err := os.ReadFile(filepath.Join(dir, "told"))
		told = string(data)
		return err == nil && strings.Contains(told, "http")
	})
	data, endpoint, _ := strings.Cut(told, "\n")
	if _, err := os.Stat(data); err != nil {
		t.Fatal(err)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // killed
	within(t, func() bool {
		_, err := os.Stat(filepath.Dir(filepath.Dir(data)))
		res, httpErr := client.Get(endpoint)
		if httpErr == nil {
			res.Body.Close()
		}
		return os.IsNotExist(err) && httpErr != nil
	})
}

// within waits for a condition.
func within(t *testing.T, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * startWithin); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not come to that")
		}
	}
}
