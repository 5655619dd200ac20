package integration

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/internal/s3test"
)

// overIPv6 is a way to a server on ::1, as long as it is open.
type overIPv6 struct {
	net.Listener
	closed atomic.Bool
}

func newOverIPv6(t *testing.T, to string) *overIPv6 {
	t.Helper()
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &overIPv6{Listener: l}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { w.pass(in, to) })
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return w
}

// pass serves one connection; the client hangs up first.
func (w *overIPv6) pass(in net.Conn, to string) {
	defer in.Close()
	if w.closed.Load() {
		return
	}
	out, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer out.Close()
	go func() {
		_, _ = io.Copy(out, in)
		out.Close()
	}()
	buffer := make([]byte, 64<<10)
	for !w.closed.Load() {
		n, err := out.Read(buffer)
		if err != nil {
			return
		}
		if _, err := in.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// A receiver, over IPv6 to its server and its store, with a password, keys and secrets
// of every kind: whatever goes wrong, none of them is told anywhere, and an outage is
// told in a few lines however often it is tried.
func TestSecretsAndOutages(t *testing.T) {
	t.Parallel()
	const password = "5eC7et p:w@'"
	c := pgtest.New(t, pgtest.Options{
		Major: pgtest.Version(t), WALSegmentSize: 1 << 20, Settings: map[string]string{"listen_addresses": "127.0.0.1,::1"},
		HBA: []string{"host replication archiver ::1/128 scram-sha-256", "host all all 127.0.0.1/32 trust", "host replication all 127.0.0.1/32 trust"},
	})
	c.Start()
	encoded := strings.ReplaceAll(url.QueryEscape(password), "+", "%20")
	c.Exec("create role archiver login replication password '5eC7et p:w@'''")
	s := s3test.Start(t)
	way := newOverIPv6(t, strings.TrimPrefix(s.Endpoint, "http://"))
	ids, files := identityFiles(t, 1)
	dir := filepath.Dir(files[0])
	digestKey := strings.Repeat("5ec7e7d16e57", 6)
	config := filepath.Join(dir, "walrecv.toml")
	identity, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	writeAll(t, map[string]string{
		filepath.Join(dir, "digest.key"): digestKey,
		config: fmt.Sprintf(`archive = "s3://%s/x?endpoint=http://%s"
encrypt_to = %q
digest_key = %q
dbname = "postgresql://archiver:%s@[::1]:%d/"
[receive]
listen = "[::1]:0"
log_level = "debug"
`, s.Bucket, way.Addr(), ids[0].Recipient().String(), filepath.Join(dir, "digest.key"), encoded, c.Port),
	})
	pgtest.Give(t, dir)
	r := newReceiver(t, c)
	r.args = []string{"receive", "-D", r.spool, "-S", "walrecv", "--ensure-slot", "--config", config}
	r.env = s.Environ()
	r.start()
	fill(c, 2)
	r.flushed()
	var told strings.Builder
	ask := func(paths ...string) {
		for _, path := range paths {
			code, body := r.page(path)
			if code != http.StatusOK && path != "/readyz" {
				t.Errorf("%s: %d", path, code)
			}
			told.WriteString(body)
		}
	}
	ask("/", "/metrics", "/api/status", "/api/live")

	way.closed.Store(true)
	fill(c, 2)
	r.WaitOutput("cannot archive", patience)
	c.Stop(pgtest.Fast)
	r.WaitOutput(`"level":"DEBUG","msg":"not streaming`, patience) // tried again and again
	ask("/readyz", "/metrics", "/api/live")
	c.Start()
	way.closed.Store(false)
	r.WaitOutput("archiving works again", patience)
	pgtest.Eventually(t, patience, func() bool { return len(r.logged(`"msg":"streaming"`)) == 2 }, "does not stream again")
	fill(c, 1)
	r.flushed()
	r.stop()
	for _, message := range []string{"cannot archive", "archiving works again"} {
		if n := len(r.alarms(message)) + len(r.logged(message)); n > 3 {
			t.Errorf("%q is told %d times", message, n)
		}
	}
	if n := len(r.alarms("not streaming")); n < 1 || n > 6 {
		t.Errorf("the end of the connection is told %d times", n)
	}
	told.WriteString(r.Stdout() + r.Stderr())

	over := func(want int, args ...string) {
		code, stdout, stderr := withStore(t, s.Environ(), args...)
		if code != want {
			t.Errorf("%v: exit %d, %s", args, code, stderr)
		}
		told.WriteString(stdout + stderr)
	}
	for _, command := range []string{"config show", "config check"} {
		over(0, append(strings.Fields(command), "receive", "--config", config, "-D", r.spool)...)
	}
	over(0, "status", "--config", config, "--decrypt-with", files[0], "--json")
	over(0, "check", "--config", config, "-S", "walrecv", "--timeout", "0")
	over(1, "slot", "show", "--config", config, "-U", "nobody", "walrecv")
	over(0, "slot", "show", "-d", c.SocketConn("postgres"), "walrecv")
	over(3, "check", "-d", "host=::1 port=1 user=archiver password=5eC7et", "--archive", "s3://"+s.Bucket+"/x?endpoint=http://[::1]:1")
	secrets := []string{"5eC7et", encoded, digestKey, s.Keys.Secret}
	for line := range strings.Lines(string(identity)) {
		if strings.HasPrefix(line, "AGE-SECRET-KEY-") {
			secrets = append(secrets, strings.TrimSpace(line))
		}
	}
	if len(secrets) != 5 {
		t.Fatal("no identity")
	}
	for _, secret := range secrets {
		if at := strings.Index(told.String(), secret); at >= 0 {
			t.Errorf("a secret is told:\n%s", told.String()[max(0, at-200):at+len(secret)])
		}
	}
}
