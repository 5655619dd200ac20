package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/walrecv/walrecv/receiver"
	"github.com/walrecv/walrecv/segment"
)

func TestListen(t *testing.T) {
	l, err := listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	address := l.Addr().String()
	if _, _, err := net.SplitHostPort(address); err != nil || strings.HasSuffix(address, ":0") {
		t.Errorf("listening on %s, %v", address, err)
	}
	if _, err = listen(t.Context(), address); !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "the address "+address+" is in use") {
		t.Error(err)
	}
	if _, err := listen(t.Context(), "192.0.2.1:0"); err == nil || !strings.Contains(err.Error(), "cannot listen on 192.0.2.1:0") {
		t.Errorf("an address of somebody else: %v", err)
	}
}

// TestListenOnSocket: what a process that was killed has left is taken over, and nothing
// else.
func TestListenOnSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "w.sock")
	l, err := listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := listen(t.Context(), path); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a second one: %v", err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	l, err = listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listen(t.Context(), path); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a file: %v", err)
	}
}

// TestReach: what is decided on is the address that is really listened on.
func TestReach(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	empty := file("empty", "http_server_config:\n  http2: false\n")
	users := file("users", "basic_auth_users:\n  a: $2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi\n")
	for _, c := range []struct {
		address, config string
		insecure, ok    bool
		warns           bool
		anyName         bool // may be asked for
	}{
		{"127.0.0.1:0", "", false, true, false, false},
		{"127.3.2.1:0", "", false, true, false, false},
		{"localhost:0", "", false, true, false, false},
		{"[::1]:0", "", false, true, false, false},
		{"[::ffff:127.0.0.1]:0", "", false, true, false, false},
		{filepath.Join(dir, "sock"), "", false, true, false, true},
		{"0.0.0.0:0", "", false, false, false, false},
		{"[::]:0", "", false, false, false, false},
		{"[::ffff:0.0.0.0]:0", "", false, false, false, false},
		{"0.0.0.0:0", empty, false, false, false, false},
		{"0.0.0.0:0", empty, true, true, false, true},
		{"[::]:0", "", true, true, false, true},
		{"0.0.0.0:0", users, false, true, true, true},
		{"127.0.0.1:0", users, false, true, false, true},
		{"127.0.0.1:0", empty, false, true, false, false},
		{"127.0.0.1:0", "", true, true, false, true},
	} {
		var log bytes.Buffer
		cfg := receiveConfig{listen: c.address, listenConfig: c.config, listenInsecure: c.insecure}
		w, err := cfg.newWatch(t.Context(), slog.New(slog.NewTextHandler(&log, nil)))
		if (err == nil) != c.ok || err != nil && (exitCode(err) != exitUsage || !strings.Contains(err.Error(), "--listen-insecure")) {
			t.Errorf("%+v: %v", c, err)
		}
		if warned := strings.Contains(log.String(), "unencrypted"); warned != c.warns || c.ok != strings.Contains(log.String(), "are served") {
			t.Errorf("%+v: %s", c, log.String())
		}
		if err == nil {
			r := httptest.NewRequest("GET", "http://walrecv.example.org/api/hour", nil)
			answer := httptest.NewRecorder()
			w.server.Handler().ServeHTTP(answer, r)
			if (answer.Code != http.StatusMisdirectedRequest) != c.anyName {
				t.Errorf("%+v: %d %s", c, answer.Code, answer.Body)
			}
		}
		w.close()
	}
}

// certificate is one, and its private key, as files have them.
func certificate(t *testing.T) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	text, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text})
}

// TestWebAccess refuses what cannot be read, what is wrong, and a key that is no secret.
func TestWebAccess(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "web.yml")
	cert, key := certificate(t)
	write := func(name string, content []byte, mode os.FileMode) {
		name = filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(name, content, 0o600), os.Chmod(name, mode)); err != nil {
			t.Fatal(err)
		}
	}
	write("key", key, 0o600)
	write("crt", cert, 0o644)
	const tls = "tls_server_config:\n  cert_file: crt\n  key_file: key\n"
	inline := "tls_server_config:\n  cert_file: crt\n  key: |\n    " + strings.ReplaceAll(string(key), "\n", "\n    ")
	for _, c := range []struct {
		content  string
		mode     os.FileMode // of the configuration
		keyMode  os.FileMode
		complain string
	}{
		{tls, 0o644, 0o600, ""},
		{tls, 0o644, 0o644, "holds a private key, and others can read it"},
		{inline + "\n", 0o600, 0o644, ""},
		{inline + "\n", 0o644, 0o644, "holds a private key, and others can read it"},
		{"tls", 0o600, 0o600, "--listen-config: " + config},
	} {
		write("web.yml", []byte(c.content), c.mode)
		write("key", key, c.keyMode)
		_, err := webAccess(config, slog.New(slog.DiscardHandler))
		if (err == nil) != (c.complain == "") || err != nil && (exitCode(err) != exitUsage || !strings.Contains(err.Error(), c.complain)) {
			t.Errorf("%v: %v", c, err)
		}
	}
	if _, err := webAccess(filepath.Join(dir, "gone"), slog.New(slog.DiscardHandler)); exitCode(err) != exitUsage {
		t.Error(err)
	}
}

// A receiver that is not asked to tell anything does without.
func TestNoWatch(t *testing.T) {
	w, err := (&receiveConfig{}).newWatch(t.Context(), slog.New(slog.DiscardHandler))
	if err != nil || w != nil {
		t.Fatalf("%v, %v", w, err)
	}
	defer w.close()
	w.serve(nil, nil, nothing{})()
	if w.onSync() != nil || w.onUpload() != nil || w.noting(nil, nil) != nil || w.metered(nil) != nil {
		t.Error("somebody is told")
	}
}

// What is sealed on an ancestor counts up to where that was left, and what lies on
// another branch not at all.
func TestOnTimeline(t *testing.T) {
	history := segment.History{Timeline: 5, Entries: []segment.HistoryEntry{{Timeline: 1, End: 100}, {Timeline: 3, End: 200}}}
	known := true
	w := &watch{history: func() (segment.History, bool) { return history, known }}
	for _, c := range []struct {
		live segment.TimelineID
		at   segment.Position
		want segment.LSN
	}{
		{5, segment.Position{Timeline: 5, LSN: 250}, 250},
		{5, segment.Position{Timeline: 5, LSN: 400}, 300}, // flushed is noted after it is sealed
		{5, segment.Position{Timeline: 3, LSN: 150}, 150},
		{5, segment.Position{Timeline: 3, LSN: 220}, 200},
		{5, segment.Position{Timeline: 1, LSN: 350}, 100},
		{5, segment.Position{Timeline: 4, LSN: 150}, 0},
		{6, segment.Position{Timeline: 5, LSN: 250}, 0}, // the history is not the one of now
		{6, segment.Position{Timeline: 6, LSN: 250}, 250},
	} {
		p := receiver.Progress{Timeline: c.live, Flushed: 300}
		if got := w.onTimeline(p, c.at); got != c.want {
			t.Errorf("%v, on timeline %d: %d, want %d", c.at, c.live, got, c.want)
		}
	}
	known = false
	if got := w.onTimeline(receiver.Progress{Timeline: 5, Flushed: 300}, segment.Position{Timeline: 3, LSN: 150}); got != 0 {
		t.Errorf("without a history: %d", got)
	}
}
