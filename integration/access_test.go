package integration

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/walrecv/walrecv/internal/pgtest"
)

// TestAccess: nothing is told to other machines unless that is wanted, and what is wanted
// can be said. The archive is encrypted, which is nothing that is wrong.
func TestAccess(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Major: pgtest.Version(t), WALSegmentSize: 1 << 20, TLS: true}) // for its certificate
	c.Start()
	// One that is not refused ends as soon as it streams.
	fresh(t, c, "-S", "walrecv", "--ensure-slot", "--endpos", "0/1", "--listen", "0.0.0.0:0").ends(2, "other machines can reach ", "--listen-config")
	if got := c.Query("select count(*) from pg_replication_slots"); got != "0" {
		t.Errorf("%s slots were made", got)
	}

	hash, err := bcrypt.GenerateFromPassword([]byte("sesame"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	ids, _ := identityFiles(t, 1)
	dir := newDir(t)
	config := filepath.Join(dir, "web.yml")
	writeAll(t, map[string]string{config: "tls_server_config:\n  cert_file: " + c.Query("show ssl_cert_file") + "\n  key_file: " + c.Query("show ssl_key_file") + "\nbasic_auth_users:\n  prometheus: " + string(hash) + "\n"})
	pgtest.Give(t, dir)
	r := watched(newReceiver(t, c, "--archive", newArchive(t), "--encrypt-to", ids[0].Recipient().String()), "--listen-config", config).start()
	emit(c, 3000)
	r.flushed()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(readFile(t, c.CAFile))
	client := http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	ask := func(path, password string) (code int, body []byte) {
		req, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+r.address()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if password != "" {
			req.SetBasicAuth("prometheus", password)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err = io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, body
	}
	for _, path := range []string{"/", "/metrics", "/api/live", "/api/hour", "/api/status"} {
		for password, want := range map[string]int{"": 401, "open": 401, "sesame": 200} {
			if code, body := ask(path, password); code != want {
				t.Errorf("%s with %q: %d %s", path, password, code, body)
			}
		}
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		if code, body := ask(path, ""); code != 200 {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	var status struct {
		SystemID string           `json:"system_identifier"`
		Problems []map[string]any `json:"problems"`
		Counts   map[string]int   `json:"segment_counts"`
		Error    string           `json:"archive_error"`
	}
	pgtest.Eventually(t, patience, func() bool {
		_, body := ask("/api/status", "sesame")
		if err := json.Unmarshal(body, &status); err != nil {
			t.Fatal(err)
		}
		return status.SystemID != ""
	}, "the archive is not looked at: %v", &status)
	if status.SystemID != c.SystemID() || len(status.Problems) > 0 || status.Error != "" {
		t.Errorf("%+v", status)
	}
	r.stop()
}
