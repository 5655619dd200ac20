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

// The command as PostgreSQL runs it, in a data directory.
func TestPushCommand(t *testing.T) {
	const size = 1 << 20
	root, data := t.TempDir(), t.TempDir()
	pg := fakepg.New(fakepg.Config{SystemID: 7400000000000000001})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(filepath.Join(data, "pg_wal"), 0o700))
	must(os.Mkdir(filepath.Join(data, "global"), 0o700))
	must(os.WriteFile(filepath.Join(data, "global/pg_control"), binary.LittleEndian.AppendUint64(nil, 7400000000000000001), 0o600))
	must(os.WriteFile(filepath.Join(data, "PG_VERSION"), []byte("15\n"), 0o600))
	const file = "pg_wal/000000010000000000000003"
	wal := make([]byte, size)
	pg.ReadWAL(1, 3*size, wal)
	must(os.WriteFile(filepath.Join(data, file), wal, 0o600))
	t.Chdir(data)
	command := func(args ...string) outcome {
		var o outcome
		var stdout, stderr bytes.Buffer
		o.code = run(context.Background(), append([]string{"push"}, args...), nil, &stdout, &stderr)
		o.stdout, o.stderr = stdout.String(), stderr.String()
		return o
	}
	for range 2 {
		if o := command("--archive", root, file); o != (outcome{}) {
			t.Fatalf("%+v", o)
		}
	}
	if _, err := os.Stat(filepath.Join(root, "7400000000000000001/wal/00000001/000000010000000000000003.zst")); err != nil {
		t.Error(err)
	}
	must(os.WriteFile(filepath.Join(data, file), make([]byte, size), 0o600))
	for _, c := range []struct {
		what string
		o    outcome
		code int
	}{
		{"zeros", command("--archive", root, file), exitFailed},
		{"no such file", command("--archive", root, "pg_wal/000000010000000000000004"), exitFailed},
		{"archive not mounted", command("--archive", filepath.Join(root, "nowhere"), file), exitFailed},
		{"not WAL", command("--archive", root, "pg_wal/archive_status"), exitUsage},
	} {
		if c.o.code != c.code || c.o.stdout != "" || strings.Count(c.o.stderr, "\n") != 1 || !strings.HasPrefix(c.o.stderr, "walrecv: ") {
			t.Errorf("%s: %+v; want %d and one line", c.what, c.o, c.code)
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
