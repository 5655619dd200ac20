package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/backup"
	"github.com/walrecv/walrecv/internal/extract"
	"github.com/walrecv/walrecv/internal/recovery"
	"github.com/walrecv/walrecv/storage"
)

// TestTrial runs commands of the shell in the place of this program, which is a test.
func TestTrial(t *testing.T) {
	t.Setenv("SECRET", "x")
	for command, want := range map[string]string{
		"exit 0":                          "",
		"exit 1":                          "",
		"echo walrecv: why >&2; exit 200": "why",
		"exit 201":                        "exit status 201",
		`echo first >&2; echo "walrecv: restore FFFFFFFF.history: no answer within 1s: archive /a: identity: open /a/7/x: permission denied" >&2; exit 200`: "open /a/7/x: permission denied",
		`echo "walrecv: restore FFFFFFFF.history: archive /a: it is: not there" >&2; exit 201`:                                                              "archive /a: it is: not there",
		`test "$WALRECV_RETRY_FOR" = 2s || exit 3`:                                        "",
		`test "%f %p" = "FFFFFFFF.history /nonexistent/pg_wal/RECOVERYHISTORY" || exit 3`: "",
		`test "%%f" = "%""f" || exit 3`:                                                   "",
		`test -z "$SECRET" && test "$PWD" = / || exit 3`:                                  "",
	} {
		err := runTrial(t.Context(), trialCommand{command: command, path: os.Getenv("PATH"), retry: 2 * time.Second})
		if want == "" && err != nil || want != "" && (err == nil || err.Error() != want) {
			t.Errorf("%s: %v, want %q", command, err, want)
		}
	}
}

func TestTrialWarns(t *testing.T) {
	var log strings.Builder
	a := newTestApp([]string{"AWS_ACCESS_KEY_ID=k", "AWS_SECRET_ACCESS_KEY=hidden"}, io.Discard, io.Discard)
	a.trial = func(context.Context, trialCommand) error { return errors.New("no keys") }
	location, err := storage.ParseURL("s3://bucket/p")
	if err != nil {
		t.Fatal(err)
	}
	a.tryRestoreCommand(t.Context(), "command", &account{name: "postgres"}, location, slog.New(slog.NewTextHandler(&log, nil))).verdict()
	for _, want := range []string{"no keys", "for user postgres", "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("%s lacks %q", log.String(), want)
		}
	}
	if strings.Contains(log.String(), "hidden") {
		t.Error("the log has a secret")
	}
}

// TestNoWAL: what the server's user may not read is said in few words, and is the last
// thing that is said.
func TestNoWAL(t *testing.T) {
	dir := t.TempDir()
	location, err := storage.ParseURL(dir)
	if err != nil {
		t.Fatal(err)
	}
	failing := errors.New("open " + dir + "/7/walrecv.json: permission denied")
	var log, out strings.Builder
	a := newTestApp(nil, io.Discard, io.Discard)
	a.trial = func(_ context.Context, c trialCommand) error {
		if c.retry != trialRetryLocal || c.command != "command" {
			t.Errorf("%+v", c)
		}
		return failing
	}
	postgres := &account{name: "postgres"}
	trial := a.tryRestoreCommand(t.Context(), "command", postgres, location, slog.New(slog.NewTextHandler(&log, nil)))
	why := trial.verdict()
	want := "for user postgres the restore_command fails: " + failing.Error() + "; let that user read it"
	if rootOwns(dir) {
		want = "for user postgres the restore_command fails: " + failing.Error() + "; run chown -R postgres " + dir + ", which root can go on writing to"
	}
	if why != want || strings.Count(log.String(), "permission denied") != 1 {
		t.Errorf("%q, want %q; log %s", why, want, log.String())
	}
	r := &restoring{app: a, plan: &recovery.Plan{Backup: &backup.Backup{}}}
	if err := r.tell(&out, extract.Result{}, postgres, why); err != nil || !strings.HasSuffix(out.String(), want+"\n") || strings.Contains(out.String(), "it recovers") {
		t.Errorf("%v: %s", err, out.String())
	}
}

// TestTrialIsCancelled: a restore that fails does not wait for it, nor for what its shell
// runs.
func TestTrialIsCancelled(t *testing.T) {
	a := newTestApp([]string{"PATH=" + os.Getenv("PATH")}, io.Discard, io.Discard)
	a.trial = runTrial
	begin := time.Now()
	var log strings.Builder
	trial := a.tryRestoreCommand(t.Context(), "(sleep 60; true); exit 200", nil, storage.Location{Scheme: storage.SchemeFile}, slog.New(slog.NewTextHandler(&log, nil)))
	trial.cancel()
	if log.Len() > 0 || time.Since(begin) > trialTime/2 {
		t.Errorf("after %s: %s", time.Since(begin), log.String())
	}
}
