package basebackup_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"go.uber.org/goleak"

	"github.com/walrecv/walrecv/internal/basebackup"
	"github.com/walrecv/walrecv/internal/fakepg"
	"github.com/walrecv/walrecv/receiver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// transcript is a sink that notes what came, and fails at one call if told so.
type transcript struct {
	lines  []string
	data   strings.Builder
	onCall func(call string) error
}

func (s *transcript) note(format string, args ...any) error {
	line := fmt.Sprintf(format, args...)
	if s.data.Len() > 0 {
		s.lines = append(s.lines, "data "+s.data.String())
		s.data.Reset()
	}
	s.lines = append(s.lines, line)
	if s.onCall != nil {
		return s.onCall(line)
	}
	return nil
}

func (s *transcript) Begin(b basebackup.Start) error {
	return s.note("begin %s %d %v", b.LSN, b.Timeline, b.Tablespaces)
}

func (s *transcript) Archive(t basebackup.Tablespace) error {
	return s.note("archive %d %s", t.OID, t.Location)
}
func (s *transcript) Manifest() error { return s.note("manifest") }

func (s *transcript) Data(p []byte) error {
	s.data.Write(p)
	if s.onCall != nil {
		return s.onCall("data")
	}
	return nil
}

// backup is a small one, with a tablespace on an odd path.
func backup() fakepg.BaseBackup {
	return fakepg.BaseBackup{
		Start: 0x2000028, End: 0x2000100, Chunk: 5,
		Tablespaces: []fakepg.Tablespace{{OID: 16384, Location: "/srv/ä 'b", Tar: []byte("one tablespace")}},
		Base:        []byte("the data directory"),
		Manifest:    []byte("{the manifest}"),
	}
}

// take runs a backup of a fake server.
func take(ctx context.Context, t *testing.T, server fakepg.BaseBackup, sink basebackup.Sink) (basebackup.Result, *fakepg.Server, error) {
	t.Helper()
	s := fakepg.New(fakepg.Config{BaseBackup: server, Timeline: 3})
	t.Cleanup(s.Close)
	config, err := receiver.ParseConnInfo(receiver.ConnOptions{Conninfo: "host=primary user=replicator sslmode=disable", Dial: s.Dial})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := receiver.Connect(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	result, err := basebackup.Run(ctx, conn, basebackup.Options{Label: "it's", Checkpoint: basebackup.Fast, MaxRate: 32}, sink)
	done, cancel := context.WithCancel(context.Background())
	cancel() // nobody waits for a server that does not listen
	_ = conn.Close(done)
	return result, s, err
}

func TestBackup(t *testing.T) {
	var got transcript
	result, s, err := take(t.Context(), t, backup(), &got)
	if err != nil {
		t.Fatal(err)
	}
	_ = got.note("result %s %d", result.LSN, result.Timeline)
	want := []string{
		"begin 0/2000028 3 [{16384 /srv/ä 'b 1024} {0  1024}]",
		"archive 16384 /srv/ä 'b", "data one tablespace",
		"archive 0 ", "data the data directory",
		"manifest", "data {the manifest}", "result 0/2000100 3",
	}
	if diff := cmp.Diff(want, got.lines); diff != "" {
		t.Errorf("calls of the sink:\n%s", diff)
	}
	commands := s.Commands()
	if got, want := commands[len(commands)-1], `BASE_BACKUP (LABEL 'it''s', PROGRESS, CHECKPOINT 'fast', MAX_RATE 32, WAIT 0, TABLESPACE_MAP, MANIFEST 'yes')`; got != want {
		t.Errorf("command %s, want %s", got, want)
	}
}

// A server can fail, or vanish, before any message of its answer.
func TestFailureAnywhere(t *testing.T) {
	total := 0
	count := backup()
	count.Before = func(*fakepg.Conn, pgproto3.BackendMessage) (bool, error) { total++; return true, nil }
	if _, _, err := take(t.Context(), t, count, &transcript{}); err != nil {
		t.Fatal(err)
	}
	if total < 25 {
		t.Fatalf("only %d messages", total)
	}
	damaged := fakepg.Error{Code: "XX001", Message: "checksum verification failure during base backup"}
	ends := map[string]func(*fakepg.Conn) error{
		"an error": func(c *fakepg.Conn) error { return errors.Join(c.Fail(damaged), fakepg.ErrAnswered) },
		"a fatal error": func(c *fakepg.Conn) error {
			return c.Fail(fakepg.Error{Severity: "FATAL", Code: "57P01", Message: "terminating connection"})
		},
		"a cut": func(*fakepg.Conn) error { return io.EOF },
	}
	for name, end := range ends {
		for at := range total {
			n := 0
			server := backup()
			server.Before = func(c *fakepg.Conn, _ pgproto3.BackendMessage) (bool, error) {
				if n++; n == at+1 {
					return false, end(c)
				}
				return true, nil
			}
			_, _, err := take(t.Context(), t, server, &transcript{})
			var refusal *pgconn.PgError
			if err == nil || name != "a cut" && !errors.As(err, &refusal) {
				t.Errorf("%s before message %d: %v", name, at, err)
			}
		}
	}
}

func TestSinkFails(t *testing.T) {
	full := errors.New("disk full")
	for _, at := range []string{"begin", "archive 16384", "data", "archive 0", "manifest"} {
		sink := &transcript{onCall: func(call string) error {
			if strings.HasPrefix(call, at) {
				return full
			}
			return nil
		}}
		if _, _, err := take(t.Context(), t, backup(), sink); !errors.Is(err, full) {
			t.Errorf("at %s: %v", at, err)
		}
	}
}

// A checkpoint may take hours; later a server that says nothing is a dead one.
func TestSilence(t *testing.T) {
	hang := func(at int, until func(c *fakepg.Conn)) fakepg.BaseBackup {
		b, n := backup(), 0
		b.Before = func(c *fakepg.Conn, _ pgproto3.BackendMessage) (bool, error) {
			if n++; n == at {
				until(c)
			}
			return true, nil
		}
		return b
	}
	t.Run("checkpoint", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			if _, _, err := take(t.Context(), t, hang(1, func(*fakepg.Conn) { time.Sleep(3 * time.Hour) }), &transcript{}); err != nil {
				t.Error(err)
			}
		})
	})
	t.Run("data", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			_, _, err := take(t.Context(), t, hang(12, func(c *fakepg.Conn) { <-c.Gone() }), &transcript{})
			if took := time.Since(began); err == nil || !strings.Contains(err.Error(), "nothing was heard") || took < 4*time.Minute || took > 6*time.Minute {
				t.Errorf("after %v: %v", took, err)
			}
		})
	})
	t.Run("slow sink", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			sink := &transcript{onCall: func(string) error { time.Sleep(time.Hour); return nil }}
			if _, _, err := take(t.Context(), t, backup(), sink); err != nil {
				t.Error(err)
			}
		})
	})
	t.Run("stopped", func(t *testing.T) {
		for _, at := range []int{1, 5, 20} {
			synctest.Test(t, func(t *testing.T) {
				cause := errors.New("stopped")
				ctx, stop := context.WithCancelCause(t.Context())
				began := time.Now()
				_, _, err := take(ctx, t, hang(at, func(c *fakepg.Conn) { stop(cause); <-c.Gone() }), &transcript{})
				if took := time.Since(began); !errors.Is(err, cause) || took > time.Minute {
					t.Errorf("at message %d, after %v: %v", at, took, err)
				}
			})
		}
	})
}

func TestOptions(t *testing.T) {
	for _, o := range []basebackup.Options{
		{Label: "a\nSTART WAL LOCATION: 0/0"},
		{Label: "a\x00"},
		{Label: strings.Repeat("x", 1024)},
		{MaxRate: 31},
		{MaxRate: 1<<20 + 1},
		{MaxRate: -1},
		{Checkpoint: "now"},
	} {
		if _, err := basebackup.Run(t.Context(), nil, o, nil); err == nil {
			t.Errorf("%.40v: no error", o)
		}
	}
}
