package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestMain runs a test process instead of the tests if a test started this
// binary again as one.
func TestMain(m *testing.M) {
	if name := os.Getenv(processVariable); name != "" {
		os.Exit(testProcesses[name]())
	}
	os.Exit(m.Run())
}

// outcome is what one command line came to.
type outcome struct {
	code           int
	stdout, stderr string
	receive        *receiveConfig // what the command was told; nil: it did not run
	restore        *restoreConfig
	push           *pushConfig
}

// walrecv executes a command line with commands that only note what they were
// told.
func walrecv(environ []string, args ...string) outcome {
	var o outcome
	var stdout, stderr bytes.Buffer
	a := newTestApp(environ, &stdout, &stderr)
	a.receive = func(_ context.Context, c receiveConfig, _ *slog.Logger) error {
		o.receive = &c
		return nil
	}
	a.restore = func(_ context.Context, c restoreConfig, _ io.Writer) error {
		o.restore = &c
		return nil
	}
	a.push = func(_ context.Context, c pushConfig, _ io.Writer) error {
		o.push = &c
		return nil
	}
	o.code = a.run(context.Background(), args)
	o.stdout, o.stderr = stdout.String(), stderr.String()
	return o
}

func newTestApp(environ []string, stdout, stderr io.Writer) *app {
	return &app{
		environ: environ,
		stdout:  stdout,
		stderr:  stderr,
		receive: func(context.Context, receiveConfig, *slog.Logger) error { return nil },
		restore: func(context.Context, restoreConfig, io.Writer) error { return nil },
		push:    func(context.Context, pushConfig, io.Writer) error { return nil },
	}
}

// workers lists the commands that take options from everywhere, by path.
func workers(root *cobra.Command) map[string]*cobra.Command {
	found := map[string]*cobra.Command{}
	var visit func(*cobra.Command)
	visit = func(c *cobra.Command) {
		if isTable(topCommand(c).Name()) && !c.HasSubCommands() {
			found[strings.TrimPrefix(c.CommandPath(), "walrecv ")] = c
		}
		for _, child := range c.Commands() {
			visit(child)
		}
	}
	visit(root)
	return found
}

func writeFile(t *testing.T, content string) string {
	t.Helper()
	path := t.TempDir() + "/walrecv.toml"
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestUsageErrors(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"", `no command given; try "walrecv --help"`},
		{"reciv -D x", `unknown command "reciv"; did you mean "walrecv receive"?`},
		{"archive", `unknown command "archive"; try "walrecv --help"`},
		{"--bogus", `unknown flag: --bogus; try "walrecv --help"`},
		{"receive --bogus", `unknown flag: --bogus; try "walrecv receive --help"`},
		{"receive -x", `unknown shorthand flag: 'x' in -x; try "walrecv receive --help"`},
		{"receive -D", `flag needs an argument: 'D' in -D; try "walrecv receive --help"`},
		{"receive --upload-workers 0 -D x", `--upload-workers: invalid number "0": must be between 1 and 64`},
		{"receive --no-loop=maybe -D x", `--no-loop: invalid switch "maybe": valid are true, false, on, off, yes, no, 1, 0`},
		{"version now", `too many command-line arguments (first is "now"); try "walrecv version --help"`},
		{"version --json", `unknown flag: --json; try "walrecv version --help"`},
	} {
		o := walrecv(nil, strings.Fields(c.line)...)
		if o.code != exitUsage || o.stderr != "walrecv: "+c.want+"\n" || o.stdout != "" {
			t.Errorf("walrecv %s: exit %d, stdout %q, stderr %q; want exit 2 and %q", c.line, o.code, o.stdout, o.stderr, c.want)
		}
	}
}

func TestOneLine(t *testing.T) {
	got := oneLine("failed to connect to `user=x`:\n\t127.0.0.1:1 (a): refused\n\t[::1]:1 (b): refused\n\n")
	want := "failed to connect to `user=x`: 127.0.0.1:1 (a): refused; [::1]:1 (b): refused"
	if got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	for text, want := range map[string]string{
		"\x1b[2Jgone\x07, \"as it is\" c:\\x": `\x1b[2Jgone\a, "as it is" c:\x`,
		"a\u009b31mb\u202ec\ufffd\xff":        "a\\u009b31mb\\u202ec\ufffd\\xff",
		"größer, naïve, 日本":                   "größer, naïve, 日本",
	} {
		if got := oneLine(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

// What a server or an archive says must not reach a terminal as it is.
func TestErrorsAreTame(t *testing.T) {
	var stderr bytes.Buffer
	report(&stderr, errors.New("FATAL: \x1b]0;title\a"), true)
	if want := `walrecv: FATAL: \x1b]0;title\a` + "\n"; stderr.String() != want {
		t.Errorf("%q, want %q", stderr.String(), want)
	}
}

// Help shows every option of every command, on standard output.
func TestHelp(t *testing.T) {
	root := newTestApp(nil, io.Discard, io.Discard).newRoot()
	for path, cmd := range workers(root) {
		for _, option := range []string{"--help", "-?"} {
			o := walrecv(nil, append(strings.Fields(path), option)...)
			if o.code != exitDone || o.stderr != "" || o.receive != nil || o.restore != nil {
				t.Errorf("%s %s: exit %d, stderr %q", path, option, o.code, o.stderr)
			}
			for _, line := range optionLines(cmd) {
				if !strings.Contains(o.stdout, line) {
					t.Errorf("%s %s does not show %q:\n%s", path, option, line, o.stdout)
				}
			}
		}
	}
}

// What is taken without --system-id depends on whether there is a data directory.
func TestHelpOfSystemID(t *testing.T) {
	for command, want := range map[string]string{
		"restore": "(default: that of the data directory, or the only one there)",
		"status":  "(default: the only one there)",
		"verify":  "(default: the only one there)",
	} {
		if o := walrecv(nil, command, "--help"); !strings.Contains(o.stdout, want) {
			t.Errorf("%s does not say %q:\n%s", command, want, o.stdout)
		}
	}
}
