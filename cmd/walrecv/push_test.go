package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/walrecv/walrecv/internal/archive"
	"github.com/walrecv/walrecv/internal/fakepg"
	"github.com/walrecv/walrecv/internal/restore"
	"github.com/walrecv/walrecv/internal/s3test"
	"github.com/walrecv/walrecv/segment"
)

// PostgreSQL removes a file after 0, so no mistake may end with it.
func TestPushMistakes(t *testing.T) {
	bad := writeFile(t, "[push]\nretry_for = 3\n")
	for _, c := range []struct{ env, args string }{
		{"", "push"},
		{"", "push p"},
		{"", "push --archive /a"},
		{"", "push --archive /a p f"},
		{"", "push --archive s3:// p"},
		{"", "push --bogus p"},
		{"", "push --help p"},
		{"", "push p --help"},
		{"", "--help push p"},
		{"", "--version push p"},
		{"", "-V push p"},
		{"", "push push --archive"},
		{"", "push --archive /a --digest-key /k p"},
		{"WALRECV_ARCHIVE=relative", "push p"},
		{"", "push --config " + bad + " --archive /a p"},
		{"", "push --config /nowhere p"},
	} {
		o := walrecv([]string{c.env}, strings.Fields(c.args)...)
		if o.code != exitUsage || o.push != nil || strings.Count(o.stderr, "\n") != 1 {
			t.Errorf("%s walrecv %s: exit %d, %q", c.env, c.args, o.code, o.stderr)
		}
	}
	for _, line := range []string{"push --help", "push -?", "push -h", "help push"} {
		if o := walrecv(nil, strings.Fields(line)...); o.code != exitDone || o.stdout == "" || o.stderr != "" {
			t.Errorf("walrecv %s: exit %d, stderr %q", line, o.code, o.stderr)
		}
	}
}

func TestPushOptions(t *testing.T) {
	o := walrecv([]string{"TMPDIR=/var/tmp"}, "push", "--accept-branch", "--allow-unsafe-store", "--archive", "/a", "pg_wal/x")
	if o.code != exitDone || o.stderr != "" || o.push == nil {
		t.Fatalf("exit %d, %q", o.code, o.stderr)
	}
	if c := *o.push; c.archive.location.Path != "/a" || !c.acceptBranch || !c.allowUnsafeStore || c.path != "pg_wal/x" || c.scratch != "/var/tmp" {
		t.Errorf("%+v", c)
	}
	if o := walrecv([]string{"WALRECV_ARCHIVE=/a"}, "push", "x"); o.push == nil || o.push.scratch != "/tmp" || o.push.acceptBranch {
		t.Errorf("%+v", o.push)
	}
}

// Only 0, 1, 2 and 4 come out, whatever went wrong.
func TestPushExitCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		code int
	}{
		{nil, exitDone},
		{errors.New("store down"), exitFailed},
		{usageError("x"), exitUsage},
		{&archive.ConflictError{}, exitWrong},
		{&archive.FormatError{}, exitWrong},
		{fmt.Errorf("x: %w", segment.ErrBranch), exitWrong},
		{&archive.WrongClusterError{}, exitWrong},
		{&archive.DamagedError{}, exitFailed},
		{&codedError{exitUnsound, errors.New("x")}, exitFailed},
		{&codedError{exitGap, errors.New("x")}, exitFailed},
		{&answerError{200, errors.New("x")}, exitFailed},
	} {
		var stderr strings.Builder
		a := newTestApp(nil, io.Discard, &stderr)
		a.push = func(context.Context, pushConfig, io.Writer) error { return c.err }
		code := a.run(context.Background(), []string{"push", "--archive", "/a", "p"})
		if code != c.code || c.err == nil && stderr.Len() > 0 {
			t.Errorf("%v: exit %d, %q", c.err, code, stderr.String())
		}
	}
}

// pushing is a data directory, the working directory of the test, with one segment.
func pushing(t *testing.T) (file string) {
	t.Helper()
	const size = 1 << 20
	data := t.TempDir()
	wal := make([]byte, size)
	fakepg.New(fakepg.Config{SystemID: 7400000000000000001}).ReadWAL(1, 3*size, wal)
	file = "pg_wal/000000010000000000000003"
	for name, content := range map[string][]byte{
		"global/pg_control": binary.LittleEndian.AppendUint64(nil, 7400000000000000001), "PG_VERSION": []byte("15\n"), file: wal,
	} {
		path := filepath.Join(data, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, content, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(data)
	return file
}

// runPushOn runs the command.
func runPushOn(environ []string, args ...string) outcome {
	var o outcome
	var stdout, stderr bytes.Buffer
	o.code = run(context.Background(), append([]string{"push"}, args...), environ, &stdout, &stderr)
	o.stdout, o.stderr = stdout.String(), stderr.String()
	return o
}

// The command as PostgreSQL runs it, in a data directory.
func TestPushCommand(t *testing.T) {
	root, file := t.TempDir(), pushing(t)
	for range 2 {
		if o := runPushOn(nil, "--archive", root, file); o != (outcome{}) {
			t.Fatalf("%+v", o)
		}
	}
	if _, err := os.Stat(filepath.Join(root, "7400000000000000001/wal/00000001/000000010000000000000003.zst")); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(file, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what string
		o    outcome
		code int
	}{
		{"zeros", runPushOn(nil, "--archive", root, file), exitFailed},
		{"no such file", runPushOn(nil, "--archive", root, "pg_wal/000000010000000000000004"), exitFailed},
		{"archive not mounted", runPushOn(nil, "--archive", filepath.Join(root, "nowhere"), file), exitFailed},
		{"not WAL", runPushOn(nil, "--archive", root, "pg_wal/archive_status"), exitUsage},
		{"no such recipient", runPushOn(nil, "--archive", root, "--encrypt-to", "age1x", file), exitUsage},
	} {
		if c.o.code != c.code || c.o.stdout != "" || strings.Count(c.o.stderr, "\n") != 1 || !strings.HasPrefix(c.o.stderr, "walrecv: ") {
			t.Errorf("%s: %+v; want %d and one line", c.what, c.o, c.code)
		}
	}
}

// Into S3 a file takes few requests, and a store in which writers can overwrite each
// other is refused.
func TestPushIntoS3(t *testing.T) {
	s := s3test.Start(t)
	p, file := s.Proxy(t), pushing(t)
	if o := runPushOn(p.Environ(), "--archive", p.URL("wal"), file); o != (outcome{}) {
		t.Fatalf("%+v", o)
	}
	p.ResetCounts()
	if o := runPushOn(p.Environ(), "--archive", p.URL("wal"), file); o != (outcome{}) {
		t.Fatalf("%+v", o)
	}
	t.Logf("requests of a segment that is there: %v", p.Counts())
	// A store that answers before it has read all of a PUT may be asked again: three times,
	// then whether the object is there, and three times more.
	counts := p.Counts()
	if puts := counts["PutObject"]; puts < 1 || puts > 2*3 || p.Total()-puts > 4+(puts-1)/3 {
		t.Errorf("too many requests: %v", counts)
	}
	p.IgnoreConditions(true)
	o := runPushOn(p.Environ(), "--archive", p.URL("wal"), file)
	if o.code != exitFailed || !strings.Contains(o.stderr, "--allow-unsafe-store") {
		t.Errorf("an unsafe store: %+v", o)
	}
	if o := runPushOn(p.Environ(), "--archive", p.URL("wal"), "--allow-unsafe-store", file); o.code != exitDone {
		t.Errorf("an unsafe store that is allowed: %+v", o)
	}
}

// An object that was copied into the directory of a gateway comes without an ETag,
// and is read like any other, or found damaged.
func TestObjectsWithoutETag(t *testing.T) {
	s, file := s3test.Start(t), pushing(t)
	wal, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if o := runPushOn(s.Environ(), "--archive", s.URL("wal"), file); o != (outcome{}) {
		t.Fatalf("%+v", o)
	}
	if err := os.WriteFile("recovery.signal", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	const target = "pg_wal/RECOVERYXLOG"
	for _, damage := range []byte{0, 1} {
		for _, key := range s.Objects(t) {
			object, err := os.ReadFile(s.Path(key))
			if strings.HasSuffix(key, ".zst") {
				object[len(object)/2] ^= damage
			}
			// A new file, which has no attributes.
			if err := errors.Join(err, os.Remove(s.Path(key)), os.WriteFile(s.Path(key), object, 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), []string{"restore", "--retry-for", "0", "--archive", s.URL("wal"), filepath.Base(file), target}, s.Environ(), &stdout, &stderr)
		if damage != 0 {
			if code != restore.CodeDamaged || !strings.Contains(stderr.String(), filepath.Base(file)+".zst is damaged") {
				t.Errorf("damaged: exit %d, %s", code, stderr.String())
			}
			continue
		}
		if got, err := os.ReadFile(target); code != exitDone || !bytes.Equal(got, wal) {
			t.Errorf("exit %d, %v, %s", code, err, stderr.String())
		}
	}
}

// A signal ends push at once, as a death by that signal or as a shell reports it.
// Whatever a goroutine does, the code is none above 125.
func TestPushProcess(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		p := startProcess(t, "push", self(t))
		p.line(t)
		p.signal(t, s)
		if status := p.wait(t); !status.Signaled() || status.Signal() != s {
			t.Errorf("%v: status %#x, want death by the signal", s, status)
		}
	}
	p := startProcess(t, "push", self(t))
	p.line(t)
	p.signal(t, syscall.SIGQUIT)
	if status := p.wait(t); status.ExitStatus() != exitQuit || p.stderr.Len() != 0 {
		t.Errorf("SIGQUIT: status %#x, stderr %q; want exit 131, silently", status, p.stderr.String())
	}
	p = startProcess(t, "push that panics", self(t))
	if status := p.wait(t); status.Signaled() || status.ExitStatus() < 1 || status.ExitStatus() > 125 {
		t.Errorf("a panic: status %#x", status)
	}
}
