package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/walrecv/walrecv/internal/units"
)

// PostgreSQL reads 1 to 125 as "there is no such file" and ends recovery, so
// no mistake in the command line or the configuration may end with one of them.
func TestRestoreMistakesAre201(t *testing.T) {
	bad := writeFile(t, "[restore]\ntale = \"never\"\n")
	broken := writeFile(t, "[restore\n")
	for _, c := range []struct{ env, args string }{
		{"", "restore"},
		{"", "restore f"},
		{"", "restore f p extra --archive /a"},
		{"", "restore f p"}, // neither archive nor spool
		{"", "restore --bogus f p"},
		{"", "restore -h f p"},
		{"", "restore --archive"},
		{"", "restore --archive relative f p"},
		{"", "restore --archive s3://b/p f p"},
		{"", "restore --archive /a --tail sometimes f p"},
		{"", "restore --archive /a --retry-for soon f p"},
		{"", "restore --archive /a --retry-for 25h f p"},
		{"", "restore --archive /a --system-id 0 f p"},
		{"", "restore --archive /a --system-id 18446744073709551616 f p"},
		{"", "restore --archive /a --spool= f p"},
		{"", "restore --archive /a --prefetch-dir= f p"},
		{"", "restore --archive /a --prefetch-dir here f p"},
		{"", "restore --config /nowhere f p"},
		{"", "restore --config " + bad + " --archive /a f p"},
		{"", "restore --config " + broken + " --archive /a f p"},
		{"", "--config " + broken + " restore --archive /a f p"},
		{"", "restore --help f p"}, // 0 would claim that p was delivered
		{"", "restore f p -?"},
		{"", "--help restore f p"},
		{"", "--bogus restore f p"},
		{"WALRECV_TAIL=sometimes", "restore --archive /a f p"},
		{"WALRECV_ARCHIVE=relative", "restore f p"},
		{"WALRECV_CONFIG=/nowhere", "restore --archive /a f p"},
	} {
		o := walrecv([]string{c.env}, strings.Fields(c.args)...)
		if o.code != exitRestoreBad || o.restore != nil || !strings.HasPrefix(o.stderr, "walrecv: ") || strings.Count(o.stderr, "\n") != 1 {
			t.Errorf("%s walrecv %s: exit %d, stdout %q, stderr %q; want 201 and one line", c.env, c.args, o.code, o.stdout, o.stderr)
		}
	}
	if o := walrecv(nil, "restore", "--archive", "/a", "", ""); o.code != exitRestoreBad {
		t.Errorf("empty arguments: exit %d", o.code)
	}
}

// Only a call that can be nothing else is a request for help.
func TestRestoreHelp(t *testing.T) {
	for _, line := range []string{"restore --help", "restore -?", "restore -h", "help restore"} {
		if o := walrecv(nil, strings.Fields(line)...); o.code != exitDone || o.stdout == "" || o.stderr != "" {
			t.Errorf("walrecv %s: exit %d, stderr %q", line, o.code, o.stderr)
		}
	}
}

func TestRestoreOptions(t *testing.T) {
	plain := restoreConfig{spool: "/s", tail: tailAuto, prefetch: 8, name: "f", target: "p"}
	with := func(change func(*restoreConfig)) restoreConfig {
		c := plain
		change(&c)
		return c
	}
	for _, c := range []struct {
		env, args string
		want      restoreConfig
	}{
		{"", "--spool /s f p", plain},
		{"", "f p --spool /s", plain},
		{"WALRECV_SPOOL=/s", "f p", plain},
		{"", "--spool ../../../../../../../../../../../../s f p", plain}, // the helper runs elsewhere
		{"", "--spool /s --prefetch-dir /keep f p", with(func(c *restoreConfig) { c.prefetchDir = "/keep" })},
		{"", "--spool /s --tail never f p", with(func(c *restoreConfig) { c.tail = tailNever })},
		{"", "--spool /s --system-id 7400000000000000001 f p", with(func(c *restoreConfig) { c.read.systemID = 7400000000000000001 })},
		{"", "--spool /s --retry-for 0 f p", with(func(c *restoreConfig) { c.retryForGiven = true })},
		{"WALRECV_RETRY_FOR=2min", "--spool /s f p", with(func(c *restoreConfig) {
			c.retryFor, c.retryForGiven = units.Duration(2*time.Minute), true
		})},
		{"WALRECV_RETRY_FOR=", "--spool /s f p", plain},
	} {
		o := walrecv([]string{c.env}, append([]string{"restore"}, strings.Fields(c.args)...)...)
		if o.code != exitDone || o.stderr != "" || o.restore == nil || *o.restore != c.want {
			t.Errorf("%s restore %s: exit %d, %q\ngot  %+v\nwant %+v", c.env, c.args, o.code, o.stderr, o.restore, c.want)
		}
	}
}

// The work's answers pass unchanged; an error that is none becomes 201.
func TestRestoreAnswers(t *testing.T) {
	for _, c := range []struct {
		err    error
		code   int
		stderr string
	}{
		{nil, 0, ""},
		{&answerError{1, nil}, 1, ""},
		{&answerError{200, errors.New("store down:\n\trefused")}, 200, "walrecv: store down: refused\n"},
		{fmt.Errorf("wrapped: %w", &answerError{202, errors.New("damaged")}), 202, "walrecv: wrapped: damaged\n"},
		{errors.New("surprise"), 201, "walrecv: surprise\n"},
		{&codedError{exitFailed, errors.New("surprise")}, 201, "walrecv: surprise\n"},
	} {
		var stdout, stderr strings.Builder
		a := newTestApp(nil, &stdout, &stderr)
		a.restore = func(context.Context, restoreConfig, io.Writer) error { return c.err }
		code := a.run(context.Background(), []string{"restore", "--archive", "/a", "f", "p"})
		if code != c.code || stdout.String() != "" || stderr.String() != c.stderr {
			t.Errorf("%v: exit %d, stdout %q, stderr %q", c.err, code, stdout.String(), stderr.String())
		}
	}
}

func TestServerCommand(t *testing.T) {
	for line, want := range map[string]string{
		"restore f p": "restore", "--config x restore f p": "restore", "--archive /a restore": "restore", "-V restore": "restore",
		"push p": "push", "--config x push p": "push", "-V push": "push", "push restore": "push", "restore push": "restore",
		"": "", "receive -S restore": "", "receive -S push": "", "slot show restore": "", "help restore": "", "help push": "", "version": "",
		"status --config push": "", "backup restore": "", "--config x backup restore": "", "verify --config push": "",
	} {
		if got := serverCommand(strings.Fields(line)); got != want {
			t.Errorf("serverCommand(%q) = %q", line, got)
		}
	}
	for _, cmd := range newTestApp(nil, io.Discard, io.Discard).newRoot().Commands() {
		if name := cmd.Name(); serverCommand([]string{name}) == "" && !slices.Contains(commandNames, name) {
			t.Errorf("commandNames lacks %q", name)
		}
	}
}

// TestRestoreKnowsTheOthers: restore runs in a tree without the other commands, and
// still tells where a key belongs and that another table is right.
func TestRestoreKnowsTheOthers(t *testing.T) {
	args := func(file string) []string {
		return []string{"restore", "--config", writeFile(t, file), "--archive", "/a", "f", "p"}
	}
	if o := walrecv(nil, args("[restore]\nslot = \"x\"\n")...); !strings.Contains(o.stderr, "it belongs in [receive]") {
		t.Errorf("%d: %s", o.code, o.stderr)
	}
	if o := walrecv(nil, args("[receive]\nslot = \"x\"\n")...); o.code != exitDone || o.restore == nil {
		t.Errorf("%d: %s", o.code, o.stderr)
	}
}
