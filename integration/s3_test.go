package integration

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/pgtest"
	"github.com/walrecv/walrecv/internal/s3test"
)

// withStore runs walrecv to its end with the keys of a store in its environment.
func withStore(t testing.TB, env []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	p := pgtest.Command(t, pgtest.Build(t), args...)
	p.Env = env
	code = p.Start().Wait(time.Minute)
	return code, p.Stdout(), p.Stderr()
}

// s3Command is a restore_command with the keys of a store.
func s3Command(bin string, s *s3test.Server, url, more string) string {
	return `answer() { r=$?; [ $r -le 1 ] || [ $r -ge 126 ] || r=200; exit $r; }; trap answer EXIT; ` +
		strings.Join(s.Environ(), " ") + " " + bin + fmt.Sprintf(` restore --archive "%s" %s %%f %%p`, url, more)
}

// What a receiver archives in S3 is enough for a recovery, with the receiver and
// its spool lost, and every command reads it.
func TestS3(t *testing.T) {
	s := s3test.Start(t)
	url := s.URL("some/prefix")
	c := pgtest.New(t, pgtest.Options{Major: pgtest.Version(t), WALSegmentSize: 1 << 20})
	c.Start()
	c.Exec("create table mark(name text primary key)")
	p := s.Proxy(t)
	r := watched(newReceiver(t, c, "--archive", p.URL("some/prefix")))
	r.env = s.Environ()
	r.start()
	backup := c.BaseBackup(t, "").Dir
	fill(c, 5)
	mark(c, "1")
	last := walFile(c)
	c.SwitchWAL()
	key := "some/prefix/" + c.SystemID() + "/wal/" + last[:8] + "/" + last + ".zst"
	pgtest.Eventually(t, patience, func() bool {
		_, err := os.Stat(s.Path(key))
		return err == nil
	}, "%s does not get archived", last)
	// What is counted is what was asked.
	pgtest.Eventually(t, patience, func() bool {
		counted := 0.0
		for name, value := range r.metrics() {
			if strings.HasPrefix(name, `store_requests_total{op="put"`) {
				counted += value
			}
		}
		return counted > 5 && int(counted) == p.Counts()["PutObject"]
	}, "the puts that are counted are not those that the store has seen")
	r.Kill()

	for _, command := range []string{"status", "verify"} {
		code, stdout, stderr := withStore(t, s.Environ(), command, "--archive", url)
		if code != 0 || stdout == "" {
			t.Errorf("%s: exit %d\n%s%s", command, code, stdout, stderr)
		}
	}
	n := c.Recover(t, backup, map[string]string{"restore_command": s3Command(r.bin, s, url, "--tail never")})
	wantMarks(t, n, "1")
}
